package docs

import (
	"regexp"
	"strings"
	"testing"
)

// TestTestsNamedOnPagesExist looks for each test that a page names. A claim on a page must not outlive its test.
func TestTestsNamedOnPagesExist(t *testing.T) {
	var all strings.Builder
	for _, text := range files(t, "_test.go") {
		all.WriteString(text)
	}
	named := 0
	for page, text := range files(t, ".md") {
		for _, m := range regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)`").FindAllStringSubmatch(text, -1) {
			named++
			if !strings.Contains(all.String(), "\nfunc "+m[1]+"(t *testing.T) {") {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
		}
	}
	if named == 0 {
		t.Error("no page names a test")
	}
}
