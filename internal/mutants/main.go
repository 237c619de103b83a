// Command mutants removes, one after the other, the guards that the promises hang on, and runs the tests that must notice.
//
//	go run ./internal/mutants                 all of them
//	go run ./internal/mutants -run quarantine those whose guard matches
//	go run ./internal/mutants -table          print docs/mutants.md, the list of them
//
// A mutant is a patch file in testdata/mutants. The compiler is shown the patched files in place of the real ones (go test
// -overlay): the packages themselves have no trace of it. A patch begins with what it is:
//
//	guard: a quarantine is extended by later ones
//	without: the first quarantine of a slot ends all
//	test: ./internal/stacktest ^TestTheCacheIsLinearizable$
//
// "race: yes" runs the test under the race detector. "survives: yes" marks a change that must go unnoticed: a test that notices
// it proves nothing.
//
// It ends with 1 if a mutant survives, and with 2 if one cannot be made or run. It needs git, which applies the patches.
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
	"strings"
	"sync"
	"time"
)

// mutant is a guard taken away.
type mutant struct {
	patch    string   // the file
	files    []string // that it changes
	guard    string   // its name
	without  string   // what happens without it, in a sentence
	pkg      string   // whose tests must notice
	test     string   // which, as for -run
	race     bool
	survives bool
}

// limit is how long the tests of one mutant may take. A mutant that makes them hang is killed too.
const limit = 4 * time.Minute

func main() {
	run := flag.String("run", ".", "only the mutants whose guard `matches`")
	table := flag.Bool("table", false, "print docs/mutants.md and run nothing")
	verbose := flag.Bool("v", false, "print what the tests said")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "how many at a time")
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
	for i, m := range chosen {
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
				fmt.Printf("broken    %s: %v\n%s", m.guard, err, output)
				return
			case (v == alive) != m.survives:
				survived++
				fmt.Printf("%-9s %s (%s %s), but must not have\n", v, m.guard, m.pkg, m.test)
			default:
				fmt.Printf("%-9s %s (%s %s, %v)\n", v, m.guard, m.pkg, m.test, time.Since(began).Round(100*time.Millisecond))
			}
			if *verbose {
				os.Stdout.Write(output)
			}
		})
	}
	wg.Wait()
	fmt.Printf("%d mutants, %d not as they should be, %d not run\n", len(chosen), survived, broken)
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

// read reads all patches of a folder, in the order of their names.
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

// parse reads what a patch says of itself, and which files it changes.
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
		case "guard":
			m.guard = value
		case "without":
			m.without = value
		case "test":
			m.pkg, m.test, _ = strings.Cut(value, " ")
		case "race":
			m.race = value == "yes"
		case "survives":
			m.survives = value == "yes"
		default:
			return m, fmt.Errorf("%q is no line of a patch's head", line)
		}
	}
	if m.guard == "" || m.without == "" || m.test == "" || len(m.files) == 0 {
		return m, fmt.Errorf("it lacks its guard, without, test or change")
	}
	return m, nil
}

func choose(all []mutant, pattern string) (chosen []mutant, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if re.MatchString(m.guard) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mutant is called %s", pattern)
	}
	return chosen, nil
}

// root is where go.work is.
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

// run makes the mutant in dir and runs its tests.
func (m mutant) run(root, dir string) (v verdict, output []byte, err error) {
	overlay, err := m.overlay(root, dir)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-count=1", "-vet=off", "-failfast", "-json", fmt.Sprint("-timeout=", limit),
		fmt.Sprintf("-race=%t", m.race), "-run", m.test, m.pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -p=1"))
	output, err = cmd.CombinedOutput()
	if ctx.Err() != nil {
		return killed, output, nil
	}
	return judge(output, err)
}

// judge reads what go test -json said. A mutant that does not compile, or a pattern that no test matches, proves nothing.
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
			return "", text.Bytes(), fmt.Errorf("does not compile")
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

// overlay writes the patched files and the list of them that the go command reads.
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
	apply := exec.Command("git", "apply", m.patch)
	apply.Dir = dir
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)) // dir is no repository
	if out, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("the patch does not apply: %w\n%s", err, out)
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// intro begins docs/mutants.md.
const intro = `# Mutants

A mutant is the code with one guard removed. It must make a test fail: a test that cannot fail proves nothing.

	go run ./internal/mutants

runs all mutants of this list. It ends with an error if a mutant survives, or if its patch no longer applies. The patches are in
` + "`internal/mutants/testdata/mutants`" + `.

The two rows that end in "must pass" change nothing but time: they wait between two steps. Tests must not notice them.

The list is printed by ` + "`go run ./internal/mutants -table`" + `. Do not edit it.

`

// markdown returns docs/mutants.md.
func markdown(all []mutant) string {
	var b strings.Builder
	b.WriteString(intro)
	b.WriteString("| guard | without it | killed by |\n|---|---|---|\n")
	for _, m := range all {
		by := fmt.Sprintf("`%s` in %s", strings.ReplaceAll(m.test, "|", `\|`), strings.TrimPrefix(m.pkg, "./"))
		if m.survives {
			by = "nothing: " + by + " must pass"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.guard, m.without, by)
	}
	return b.String()
}
