// Command mutants removes rules from the code, one at a time, and runs the tests that must then fail.
//
//	go run ./internal/mutants                  all mutants
//	go run ./internal/mutants -run quarantine  the mutants whose rule matches
//	go run ./internal/mutants -table           print docs/mutants.md, the list of mutants
//
// A mutant is a patch file in testdata/mutants. go test -overlay compiles the patched files in place of the real ones, which are
// not changed. A patch begins with a head:
//
//	rule: a later quarantine extends an earlier one
//	without: a counter's first quarantine ends all later ones
//	test: ./internal/stacktest ^TestTheCacheIsLinearizable$
//
// "race: yes" runs the test under the race detector. "survives: yes" marks a harmless change, which must not make the test fail.
//
// The command exits with 1 if a mutant survives, and with 2 if a mutant cannot be built or run. It needs git to apply patches.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// mutant is the code without one rule.
type mutant struct {
	patch    string   // the patch file
	files    []string // the files that it changes
	rule     string   // the name of the rule
	without  string   // what happens without the rule
	pkg      string   // the package of the test
	test     string   // the test that must fail, a pattern of go test -run
	race     bool     // run the test under the race detector
	survives bool     // the test must pass
}

// limit is how long the test of one mutant may take. A mutant that makes it hang counts as killed.
const limit = 4 * time.Minute

func main() {
	run := flag.String("run", ".", "run only the mutants whose rule matches `regexp`")
	table := flag.Bool("table", false, "print docs/mutants.md and run nothing")
	verbose := flag.Bool("v", false, "print the output of the tests")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "run `n` mutants at a time")
	flag.Parse()
	root, err := root()
	if err != nil {
		fail(err)
	}
	mutants, err := read(filepath.Join(root, "internal", "mutants", "testdata", "mutants"))
	if err != nil {
		fail(err)
	}
	if *table {
		fmt.Print(markdown(mutants))
		return
	}
	chosen, err := choose(mutants, *run)
	if err != nil {
		fail(err)
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		fail(err)
	}
	defer os.RemoveAll(dir)

	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		survived int
		broken   int
		tokens   = make(chan struct{}, *parallel)
	)
	for i, m := range append(unchanged(chosen), chosen...) {
		wg.Go(func() {
			tokens <- struct{}{}
			defer func() { <-tokens }()
			began := time.Now()
			v, output, err := m.run(root, filepath.Join(dir, fmt.Sprint(i)))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				broken++
				fmt.Printf("broken    %s: %v\n%s", m.rule, err, output)
				return
			case (v == alive) != m.survives:
				survived++
				fmt.Printf("%-9s %s (%s %s): the opposite was expected\n", v, m.rule, m.pkg, m.test)
			default:
				fmt.Printf("%-9s %s (%s %s, %v)\n", v, m.rule, m.pkg, m.test, time.Since(began).Round(100*time.Millisecond))
			}
			if *verbose {
				os.Stdout.Write(output)
			}
		})
	}
	wg.Wait()
	fmt.Printf("%d mutants, %d with an unexpected result, %d not run\n", len(chosen), survived, broken)
	switch {
	case broken > 0:
		os.Exit(2)
	case survived > 0:
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mutants:", err)
	os.Exit(2)
}

// read reads all patches of a folder, in the order of their file names.
func read(dir string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if m.patch, err = filepath.Abs(file); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// parse reads the head of a patch and the names of the files that it changes.
func parse(text string) (m mutant, err error) {
	head := true
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if file, ok := strings.CutPrefix(line, "+++ b/"); ok {
			m.files = append(m.files, file)
		}
		head = head && !strings.HasPrefix(line, "--- ")
		if !head || line == "" {
			continue
		}
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "rule":
			m.rule = value
		case "without":
			m.without = value
		case "test":
			m.pkg, m.test, _ = strings.Cut(value, " ")
		case "race":
			m.race = value == "yes"
		case "survives":
			m.survives = value == "yes"
		default:
			return m, fmt.Errorf("unknown line in the head: %q", line)
		}
	}
	if m.rule == "" || m.without == "" || m.test == "" || len(m.files) == 0 {
		return m, fmt.Errorf("the rule, without or test line, or the change, is missing")
	}
	return m, nil
}

func choose(all []mutant, pattern string) (chosen []mutant, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if re.MatchString(m.rule) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no rule matches %q", pattern)
	}
	return chosen, nil
}

// unchanged returns a mutant for each package, in which no rule is removed and all tests of the package's mutants must pass. Without
// it, a test that fails for another reason, such as the flags of the compiler, would seem to notice every mutant.
func unchanged(mutants []mutant) (same []mutant) {
	for _, m := range mutants {
		i := slices.IndexFunc(same, func(s mutant) bool { return s.pkg == m.pkg && s.race == m.race })
		switch {
		case i < 0:
			same = append(same, mutant{rule: "(no rule is removed)", pkg: m.pkg, test: m.test, race: m.race, survives: true})
		case !slices.Contains(strings.Split(same[i].test, "|"), m.test):
			same[i].test += "|" + m.test
		}
	}
	return same
}

// root returns the folder of go.work.
func root() (string, error) {
	out, err := exec.Command("go", "env", "GOWORK").Output()
	if err != nil {
		return "", err
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

type verdict string

const (
	killed verdict = "killed"
	alive  verdict = "survived"
)

// run makes the mutant in dir and runs its test.
func (m mutant) run(root, dir string) (v verdict, output []byte, err error) {
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-count=1", "-vet=off", "-failfast", "-json", fmt.Sprint("-timeout=", limit),
		"-gcflags=github.com/chatstore/chatstore/...=-N -l", "-exec", "env -u GOGC -u GOMEMLIMIT", fmt.Sprintf("-race=%t", m.race), "-run", m.test, m.pkg)
	cmd.Dir = root
	// Building takes longer than most tests. It is faster without optimization and garbage collection.
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -p=1"), "GOGC=off", "GOMEMLIMIT=1GiB")
	output, err = cmd.CombinedOutput()
	if ctx.Err() != nil {
		if _, text, err := judge(output, nil); err != nil { // no test ran: building took too long
			return "", text, err
		}
		return killed, output, nil
	}
	return judge(output, err)
}

// judge reads the output of go test -json. A mutant that does not compile is an error, and so is a pattern that matches no test.
func judge(output []byte, exit error) (v verdict, _ []byte, err error) {
	ran, failed, panicked := 0, false, false
	var text bytes.Buffer
	for line := range bytes.Lines(output) {
		var e struct{ Action, Test, Output, FailedBuild string }
		if json.Unmarshal(line, &e) != nil {
			text.Write(line)
			continue
		}
		text.WriteString(e.Output)
		switch {
		case e.FailedBuild != "":
			return "", text.Bytes(), fmt.Errorf("the mutant does not compile")
		case e.Action == "run":
			ran++
		case e.Action == "fail" && e.Test != "":
			failed = true
		case strings.HasPrefix(e.Output, "panic:"), strings.HasPrefix(e.Output, "fatal error:"):
			panicked = true
		}
	}
	switch {
	case ran == 0:
		return "", text.Bytes(), fmt.Errorf("no test ran")
	case failed, panicked:
		return killed, text.Bytes(), nil
	case exit != nil:
		return "", text.Bytes(), exit
	}
	return alive, text.Bytes(), nil
}

// overlay writes the patched files, and the list of them for go test -overlay. It returns the name of the list.
func (m mutant) overlay(root, dir string) (string, error) {
	replace := map[string]string{}
	for _, file := range m.files {
		real, patched := filepath.Join(root, file), filepath.Join(dir, file)
		text, err := os.ReadFile(real)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(filepath.Dir(patched), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(patched, text, 0o600); err != nil {
			return "", err
		}
		replace[real] = patched
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if m.patch != "" {
		apply := exec.Command("git", "apply", m.patch)
		apply.Dir = dir
		apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)) // dir is not part of a repository
		if out, err := apply.CombinedOutput(); err != nil {
			return "", fmt.Errorf("the patch does not apply: %w\n%s", err, out)
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// intro is the beginning of docs/mutants.md.
const intro = `# Mutants

A mutant is the code with one rule removed. Its test must fail: a test that cannot fail proves nothing.

	go run ./internal/mutants

runs all mutants of this list. It exits with an error if a mutant survives, or if a patch no longer applies. The patches are in
` + "`internal/mutants/testdata/mutants`" + `.

In two rows the test must pass. These mutants remove no rule: they only wait between two steps.

This page is printed by ` + "`go run ./internal/mutants -table`" + `. Do not edit it.

`

// markdown returns docs/mutants.md.
func markdown(all []mutant) string {
	var b strings.Builder
	b.WriteString(intro)
	b.WriteString("| rule | without it | killed by |\n|---|---|---|\n")
	for _, m := range slices.SortedFunc(slices.Values(all), func(a, b mutant) int { return strings.Compare(a.rule, b.rule) }) {
		by := fmt.Sprintf("`%s` in %s", strings.ReplaceAll(m.test, "|", `\|`), strings.TrimPrefix(m.pkg, "./"))
		if m.survives {
			by = "no test: " + by + " must pass"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.rule, m.without, by)
	}
	return b.String()
}
