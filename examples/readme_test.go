package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
)

// goBlock returns the README's first block of Go.
func goBlock(t *testing.T) string {
	t.Helper()
	text := testenv.Value(os.ReadFile("../README.md"))(t)
	_, rest, begun := strings.Cut(string(text), "```go\n")
	code, _, ended := strings.Cut(rest, "```")
	if !begun || !ended {
		t.Fatal("README.md has no block of Go")
	}
	return code
}

func TestTheProgramOfTheREADMERuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "main.go")
	testenv.Must(t, os.WriteFile(file, []byte(goBlock(t)), 0o600))
	out, err := exec.Command("go", "run", file).CombinedOutput()
	if got, want := string(out), "Tea <nil>\n"; err != nil || got != want {
		t.Errorf("it printed %q, %v; want %q", got, err, want)
	}
	if formatted, err := exec.Command("gofmt", "-l", file).CombinedOutput(); err != nil || len(formatted) > 0 {
		t.Errorf("gofmt: %s, %v", formatted, err)
	}
}
