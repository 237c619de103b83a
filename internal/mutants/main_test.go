package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The page that says what is checked lists what is.
func TestTheTableIsOnThePage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "proof.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), markdown(mutants)) {
		t.Error("docs/proof.md lacks the table that go run ./internal/mutants -table prints: put it in place of the one it has")
	}
}

// An edit that no longer fits its file is an error here at once, and not only where all mutants are run.
func TestEveryEditFits(t *testing.T) {
	names := map[string]bool{}
	for i, m := range mutants {
		if names[m.name] {
			t.Errorf("%s is listed twice", m.name)
		}
		names[m.name] = true
		if _, err := m.overlay(filepath.Join("..", ".."), filepath.Join(t.TempDir(), strconv.Itoa(i))); err != nil {
			t.Errorf("%s: %v", m.name, err)
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
			t.Errorf("%q: %v, %v, want %v", output, got, err, want)
		}
	}
}
