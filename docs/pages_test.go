package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// files returns the text of each file below the root of the repository whose name ends so, testdata aside.
func files(t *testing.T, suffix string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for path := range walk(t, "..") {
		if strings.HasSuffix(path, suffix) {
			text, err := os.ReadFile(filepath.Join("..", path))
			if err != nil {
				t.Fatal(err)
			}
			all[path] = string(text)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no file ends in %s", suffix)
	}
	return all
}

// TestCodeOnPagesIsTested looks for each block of Go in a test or an example. There it is compiled and run.
func TestCodeOnPagesIsTested(t *testing.T) {
	var tested strings.Builder
	for path, text := range files(t, ".go") {
		if strings.HasSuffix(path, "_test.go") || within(path, "examples") {
			tested.WriteString(unindented(text))
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```")
	for page, text := range files(t, ".md") {
		for _, block := range blocks.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(tested.String(), unindented(block[1])) {
				t.Errorf("%s: no test and no example has this code:\n%s", page, block[1])
			}
		}
	}
}

// unindented returns the lines of code that are not empty, without their indentation.
func unindented(code string) string {
	var b strings.Builder
	b.WriteByte('\n') // so that a block begins at a line's begin
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// TestCommandsOnPagesNameFolders looks for the folders of the go commands that the pages show.
func TestCommandsOnPagesNameFolders(t *testing.T) {
	found := 0
	for page, text := range files(t, ".md") {
		for _, command := range regexp.MustCompile("go (?:test|run) [^\n`]*").FindAllString(text, -1) {
			for _, folder := range regexp.MustCompile(`\s\./[a-z/]+`).FindAllString(command, -1) {
				found++
				if _, err := os.Stat(filepath.Join("..", strings.TrimSpace(folder))); err != nil {
					t.Errorf("%s: %s: there is no%s", page, command, folder)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no command was found")
	}
}

// TestLinksOnPagesLeadToFiles follows the links within the repository.
func TestLinksOnPagesLeadToFiles(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
	code := regexp.MustCompile("(?s)```.*?```") // a generic call in it looks like a link
	for page, text := range files(t, ".md") {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			}
		}
	}
}

// TestGuidesAreShort keeps the README and the guides short enough to be read in one go.
func TestGuidesAreShort(t *testing.T) {
	for _, page := range []string{"../README.md", "adapt.md", "access.md", "observe.md", "operate.md", "layers.md"} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		if lines := strings.Count(string(text), "\n"); lines >= 150 {
			t.Errorf("%s has %d lines, want less than 150", page, lines)
		}
	}
}
