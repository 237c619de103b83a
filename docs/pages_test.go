package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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
	for page, text := range files(t, ".md") {
		if strings.Contains(text, "\n~~~") {
			t.Errorf("%s: a block begins with ~~~, want ```", page)
		}
		for _, block := range fenced.FindAllStringSubmatch(text, -1) {
			switch language, code := block[1], block[2]; language {
			case "go":
				if !strings.Contains(tested.String(), unindented(code)) {
					t.Errorf("%s: no test and no example has this code:\n%s", page, code)
				}
			case "", "sh", "sql", "promql", "mermaid":
			default:
				t.Errorf("%s: the language %q of a block is unknown", page, language)
			}
		}
	}
}

// fenced matches a block of code: its language and its lines.
var fenced = regexp.MustCompile("(?ms)^[ \t]*```([^\n]*)\n(.*?)^[ \t]*```$")

// TestExamplesHandleErrors reads the examples of layers, which newcomers copy.
func TestExamplesHandleErrors(t *testing.T) {
	all := files(t, "/example_test.go")
	for _, layer := range []string{"authz", "cache", "metrics", "singleflight", "tracing"} {
		path := filepath.Join("decorators", layer, "example_test.go")
		if all[path] == "" {
			t.Errorf("there is no %s", path)
		}
		for _, line := range regexp.MustCompile(`(?m)^\s*_(?:, _)* = .*`).FindAllString(all[path], -1) {
			t.Errorf("%s drops an error: %s", path, strings.TrimSpace(line))
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

// TestCommandsOnPagesCanRun checks the go commands that the pages show: the folder exists, the program or the tests there define the
// flags, and the patterns match tests there. The part of a pattern after a slash is not checked.
func TestCommandsOnPagesCanRun(t *testing.T) {
	command := regexp.MustCompile("go (?:test|run) [^\n`#]*")
	word := regexp.MustCompile(`'[^']*'|\S+`)
	withValue := regexp.MustCompile(`^-(run|bench|fuzz|benchtime|timeout)$`)
	kinds := map[string]string{"-run": "Test|Fuzz|Example", "-bench": "Benchmark", "-fuzz": "Fuzz"}
	found := 0
	for page, text := range files(t, ".md") {
		for _, line := range command.FindAllString(text, -1) {
			words := word.FindAllString(strings.ReplaceAll(line, `\|`, "|"), -1)[1:] // a table escapes |
			patterns := map[string]string{}
			source, tests := "", "" // of the command's folders
			for i := 1; i < len(words); i++ {
				switch w := words[i]; {
				case w == "." || strings.HasPrefix(w, "./"):
					found++
					folder := filepath.Join("..", w)
					if w == "." {
						folder = filepath.Join("..", filepath.Dir(page))
					}
					s, own := sources(t, folder)
					if source += s; s == "" {
						t.Errorf("%s: %s: %s has no Go", page, line, w)
					}
					for option, pattern := range patterns {
						if !matches(t, kinds[option], pattern, own) {
							t.Errorf("%s: %s: %s matches nothing in %s", page, line, option, w)
						}
					}
					tests += own
				case words[0] == "test" && withValue.MatchString(w) && i+1 < len(words):
					i++
					if value := strings.Trim(words[i], "'"); kinds[w] != "" && value != "^$" {
						patterns[w] = value
					}
				case w == "-tags":
					i++
				case words[0] == "test" && (w == "-v" || w == "-count=1"), strings.HasPrefix(w, "-rapid."):
				case strings.HasPrefix(w, "-"):
					if !regexp.MustCompile(`\bflags?\.\w+\("` + regexp.QuoteMeta(w[1:]) + `"`).MatchString(source) {
						t.Errorf("%s: %s: there is no flag %s", page, line, w)
					}
				}
			}
			for option, pattern := range patterns {
				for part := range strings.SplitSeq(pattern, "|") {
					if tests != "" && !matches(t, kinds[option], part, tests) {
						t.Errorf("%s: %s: %s matches nothing", page, line, part)
					}
				}
			}
		}
	}
	if found == 0 {
		t.Error("no command was found")
	}
}

// sources returns the Go files of a folder, and those of them that are tests.
func sources(t *testing.T, folder string) (all, tests string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all += string(text)
		if strings.HasSuffix(path, "_test.go") {
			tests += string(text)
		}
	}
	return all, tests
}

// matches reports whether a pattern of the go command matches a test of such a kind.
func matches(t *testing.T, kinds, pattern, tests string) bool {
	t.Helper()
	pattern, _, _ = strings.Cut(pattern, "/")
	wanted, err := regexp.Compile(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^func ((?:`+kinds+`)\w*)\(`).FindAllStringSubmatch(tests, -1) {
		if wanted.MatchString(m[1]) {
			return true
		}
	}
	return false
}

// TestLinksOnPagesLeadToFiles follows the links within the repository, to files and to headings.
func TestLinksOnPagesLeadToFiles(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	pages := files(t, ".md")
	for page, text := range pages {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) { // a generic call in Go looks like a link
			if strings.Contains(m[1], "://") {
				continue
			}
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			} else if m[2] != "" && !slices.Contains(anchors(pages[target]), m[2]) {
				t.Errorf("%s: %s has no heading #%s", page, target, m[2])
			}
		}
	}
}

// anchors returns the names that GitHub gives to the headings of a page.
func anchors(page string) (names []string) {
	count := map[string]int{}
	for _, m := range regexp.MustCompile(`(?m)^#+ +(.*?)[ #]*$`).FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		text := regexp.MustCompile(`\]\([^)]*\)`).ReplaceAllString(m[1], "") // a link counts as its text
		text = regexp.MustCompile(`[^\pL\pN _-]`).ReplaceAllString(strings.ToLower(text), "")
		name := strings.ReplaceAll(text, " ", "-")
		if n := count[name]; n > 0 {
			names = append(names, fmt.Sprintf("%s-%d", name, n))
		} else {
			names = append(names, name)
		}
		count[name]++
	}
	return names
}

// TestGuidesAreShort keeps the README and the guides short enough to be read in one go.
func TestGuidesAreShort(t *testing.T) {
	for _, page := range []string{"../README.md", "adapt.md", "access.md", "observe.md", "operate.md", "layers.md", "lifecycle.md",
		"mysql.md", "polling.md", "scale.md", "toolkit.md"} {
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
