package web_test

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/examples/chatserver/web"
	"github.com/chatstore/chatstore/internal/testenv"
)

// own returns the paths of the page's own files, without the vendored ones.
func own(t *testing.T) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"*.js", "*.css"} {
		for _, name := range testenv.Value(filepath.Glob(pattern))(t) {
			paths = append(paths, "/"+name)
		}
	}
	return append(paths, "/")
}

func TestThePageIsWholeAndNothingElseIsServed(t *testing.T) {
	type answer struct {
		status int
		typ    string
	}
	all := map[string]answer{
		"/web.go": {404, ""}, "/../main.go": {404, ""}, "/vendor": {404, ""}, "/vendor/": {404, ""},
		"/vendor/marked.esm.js": {200, "text/javascript"}, "/vendor/marked.LICENSE": {200, "text/plain"},
	}
	types := map[string]string{".js": "text/javascript", ".css": "text/css", "": "text/html"}
	for _, path := range own(t) {
		all[path] = answer{200, types[filepath.Ext(path)]}
	}
	for path, want := range all {
		w := httptest.NewRecorder()
		web.Handler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want.status || want.typ != "" && !strings.HasPrefix(w.Header().Get("Content-Type"), want.typ) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		if w.Code != http.StatusOK {
			continue
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") ||
			!strings.Contains(policy, "require-trusted-types-for 'script'") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if strings.HasPrefix(path, "/vendor/") {
			continue
		}
		// The policy forbids inline scripts and styles, and the page must load nothing from other servers.
		if text := w.Body.String(); strings.Contains(text, "style=") || strings.Contains(text, "onclick=") || strings.Contains(text, "innerHTML") {
			t.Errorf("%s has inline styles, handlers, or HTML made of text", path)
		}
	}
}

func TestWhatTheBrowserHasIsNotSentAgain(t *testing.T) {
	seen := map[string]string{}
	for _, path := range append(own(t), "/vendor/marked.esm.js") {
		first := httptest.NewRecorder()
		web.Handler(http.NotFoundHandler()).ServeHTTP(first, httptest.NewRequest("GET", path, nil))
		tag := first.Header().Get("ETag")
		if tag == "" || seen[tag] != "" {
			t.Errorf("%s: ETag %q, the same as %q", path, tag, seen[tag])
		}
		seen[tag] = path
		for have, want := range map[string]int{tag: 304, `"older"`: 200} {
			r := httptest.NewRequest("GET", path, nil)
			r.Header.Set("If-None-Match", have)
			again := httptest.NewRecorder()
			web.Handler(http.NotFoundHandler()).ServeHTTP(again, r)
			if again.Code != want || again.Header().Get("Content-Security-Policy") == "" {
				t.Errorf("%s with the ETag of %s: %d", path, have, again.Code)
			}
		}
	}
}

// Each vendored file is the one that VENDOR.md names, and its licence is beside it.
func TestVendoredFiles(t *testing.T) {
	table := string(testenv.Value(os.ReadFile("vendor/VENDOR.md"))(t))
	for _, f := range testenv.Value(os.ReadDir("vendor"))(t) {
		if f.Name() == "VENDOR.md" {
			continue
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(testenv.Value(os.ReadFile("vendor/"+f.Name()))(t)))
		row := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(f.Name()) + ` \| \S+ \| [\d.]+ \|(.*)\| ` + sum + ` \|$`).FindStringSubmatch(table)
		if row == nil {
			t.Errorf("%s: no row with the hash %s", f.Name(), sum)
			continue
		}
		if filepath.Ext(f.Name()) != ".js" {
			continue
		}
		name, _, _ := strings.Cut(f.Name(), ".")
		if text := testenv.Value(os.ReadFile("vendor/" + name + ".LICENSE"))(t); len(text) < 1000 || !strings.Contains(row[1], name+".LICENSE") {
			t.Errorf("%s: no licence", f.Name())
		}
	}
}

// A module of the page can be read at once.
func TestModulesAreSmall(t *testing.T) {
	for _, path := range own(t) {
		if path == "/" || filepath.Ext(path) != ".js" {
			continue
		}
		if n := strings.Count(string(testenv.Value(os.ReadFile(path[1:]))(t)), "\n"); n > 300 {
			t.Errorf("%s has %d lines", path, n)
		}
	}
}
