package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func all(t *testing.T) []mutant {
	t.Helper()
	mutants, err := read(filepath.Join("testdata", "mutants"))
	if err != nil || len(mutants) == 0 {
		t.Fatalf("%d mutants, %v", len(mutants), err)
	}
	return mutants
}

func TestThePageListsEveryMutant(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "mutants.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != markdown(all(t)) {
		t.Error("docs/mutants.md is not what go run ./internal/mutants -table prints")
	}
}

// A patch that no longer applies fails this test, which is much faster than a run of all mutants.
func TestEveryPatchApplies(t *testing.T) {
	names := map[string]bool{}
	for i, m := range all(t) {
		if names[m.rule] {
			t.Errorf("two patches have the rule %q", m.rule)
		}
		names[m.rule] = true
		if _, err := m.overlay(filepath.Join("..", ".."), filepath.Join(t.TempDir(), strconv.Itoa(i))); err != nil {
			t.Errorf("%s: %v", m.patch, err)
		}
	}
}

func TestAPatchWithoutItsHeadIsRefused(t *testing.T) {
	const (
		head   = "rule: g\nwithout: w\ntest: ./p ^TestX$\n"
		change = "--- a/p/f.go\n+++ b/p/f.go\n@@ -1 +1 @@\n-a\n+rule: b\n"
	)
	m, err := parse(head + "\n" + change)
	if err != nil || m.rule != "g" || m.without != "w" || m.pkg != "./p" || m.test != "^TestX$" || len(m.files) != 1 || m.files[0] != "p/f.go" {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, bad := range []string{"", head, change, head + "rase: yes\n" + change, strings.Replace(head, " ^TestX$", "", 1) + change} {
		if m, err := parse(bad); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, m)
		}
	}
}

func TestATestMustPassIfNoRuleIsRemoved(t *testing.T) {
	same := unchanged([]mutant{{pkg: "./p", test: "^TestX$"}, {pkg: "./q", test: "^TestX$"}, {pkg: "./p", test: "^TestY$/^a$"}, {pkg: "./p", test: "^TestX$"}})
	if len(same) != 2 || same[0].test != "^TestX$|^TestY$/^a$" || same[1].pkg != "./q" || !same[0].survives || !same[1].survives {
		t.Errorf("got %+v", same)
	}
	for _, m := range same {
		if _, err := m.overlay(filepath.Join("..", ".."), filepath.Join(t.TempDir(), "x")); err != nil {
			t.Error(err)
		}
	}
}

func TestAVerdictNeedsATestThatRan(t *testing.T) {
	const (
		run     = `{"Action":"run","Test":"TestX"}` + "\n"
		failed  = `{"Action":"fail","Test":"TestX"}` + "\n"
		passed  = `{"Action":"pass","Test":"TestX"}` + "\n"
		nobuild = `{"Action":"fail","FailedBuild":"x"}` + "\n"
		crash   = run + `{"Action":"output","Output":"panic: test timed out\n"}` + "\n"
	)
	for output, want := range map[string]verdict{
		run + failed: killed,
		crash:        killed,
		run + passed: alive,
		nobuild:      "",
		passed[:0]:   "",
	} {
		got, _, err := judge([]byte(output), nil)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %v, error %v, want %v", output, got, err, want)
		}
	}
}
