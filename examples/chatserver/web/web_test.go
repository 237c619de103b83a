package web_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/examples/chatserver/web"
)

func TestThePageIsWholeAndNothingElseIsServed(t *testing.T) {
	for path, want := range map[string]struct {
		status int
		typ    string
	}{
		"/": {200, "text/html"}, "/app.js": {200, "text/javascript"}, "/items.js": {200, "text/javascript"},
		"/panel.js": {200, "text/javascript"}, "/style.css": {200, "text/css"}, "/web.go": {404, ""}, "/../main.go": {404, ""},
	} {
		w := httptest.NewRecorder()
		web.Handler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want.status || want.typ != "" && !strings.HasPrefix(w.Header().Get("Content-Type"), want.typ) {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		if w.Code != http.StatusOK {
			continue
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		// The policy forbids inline scripts and styles, and the page must load nothing from other servers.
		if text := w.Body.String(); strings.Contains(text, "style=") || strings.Contains(text, "onclick=") || strings.Contains(text, "innerHTML") {
			t.Errorf("%s has inline styles, handlers, or HTML made of text", path)
		}
	}
}

func TestWhatTheBrowserHasIsNotSentAgain(t *testing.T) {
	seen := map[string]string{}
	for _, path := range []string{"/", "/app.js", "/items.js", "/panel.js", "/style.css"} {
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
