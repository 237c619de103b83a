// Command mutants removes, one after the other, the guards that the promises hang on, and runs the tests that must notice. A
// mutant is an edit of a source file that the compiler is shown in place of the file (go test -overlay): nothing of it is
// in the packages themselves.
//
//	go run ./internal/mutants                 all of them
//	go run ./internal/mutants -run quarantine those whose name matches
//	go run ./internal/mutants -table          what they are, as docs/proof.md has it
//
// It ends with 1 if a mutant survives, and with 2 if one cannot be made or run.
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
	name  string // of the guard
	what  string // the mutant does, in a sentence
	edits []edit
	pkg   string // whose tests must notice
	test  string // which, as for -run
	race  bool   // runs them under the race detector
	// survives marks what is no mutant: an edit that must go unnoticed, or a test that notices proves nothing.
	survives bool
}

// edit replaces a text that the file has exactly once.
type edit struct{ file, old, new string }

// limit is how long the tests of one mutant may take. A mutant that makes them hang is killed too.
const limit = 4 * time.Minute

func main() {
	run := flag.String("run", ".", "only the mutants whose name `matches`")
	table := flag.Bool("table", false, "print what they are and run nothing")
	verbose := flag.Bool("v", false, "print what the tests said")
	parallel := flag.Int("parallel", runtime.GOMAXPROCS(0), "how many at a time")
	flag.Parse()
	if *table {
		fmt.Print(markdown(mutants))
		return
	}
	chosen, err := choose(mutants, *run)
	if err != nil {
		fail(err)
	}
	root, err := root()
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
				fmt.Printf("broken    %s: %v\n%s", m.name, err, output)
				return
			case (v == alive) != m.survives:
				survived++
				fmt.Printf("%-9s %s (%s %s), but must not have\n", v, m.name, m.pkg, m.test)
			default:
				fmt.Printf("%-9s %s (%s %s, %v)\n", v, m.name, m.pkg, m.test, time.Since(began).Round(100*time.Millisecond))
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

func choose(all []mutant, pattern string) (chosen []mutant, err error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if re.MatchString(m.name) {
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
	cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-count=1", "-vet=off", "-failfast", "-json",
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

// overlay writes the mutated files and the list of them that the go command reads.
func (m mutant) overlay(root, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	texts := map[string]string{}
	for _, e := range m.edits {
		file := filepath.Join(root, e.file)
		text, ok := texts[file]
		if !ok {
			b, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("%s has this %d times, not once:\n%s", e.file, n, e.old)
		}
		texts[file] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		mutated := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(mutated, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[file] = mutated
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

// markdown is the table of docs/proof.md.
func markdown(all []mutant) string {
	var b strings.Builder
	b.WriteString("| guard | without it | killed by |\n|---|---|---|\n")
	for _, m := range all {
		by := fmt.Sprintf("`%s` in %s", strings.ReplaceAll(m.test, "|", `\|`), strings.TrimPrefix(m.pkg, "./"))
		if m.survives {
			by = "nothing: " + by + " must pass"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.name, m.what, by)
	}
	return b.String()
}
