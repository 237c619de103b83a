// Package web is the example's page: no build step, nothing from elsewhere, embedded in the program.
package web

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed index.html app.js items.js panel.js style.css
var files embed.FS

// Handler serves the page at / and what it is made of beside it. Of anything else it asks other.
func Handler(other http.Handler) http.Handler {
	serve := http.FileServerFS(files)
	tags := etags()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := fs.Stat(files, strings.TrimPrefix(r.URL.Path, "/")); err != nil && r.URL.Path != "/" {
			other.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		// No script but the page's own runs, whatever a conversation says, and nobody frames it. data: is for images alone.
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "+
			"img-src 'self' data: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// Asked for each time, so that the parts are of one version; and sent where they have changed.
		h.Set("Cache-Control", "no-cache")
		if tag := tags[r.URL.Path]; tag != "" {
			h.Set("ETag", tag)
		}
		serve.ServeHTTP(w, r)
	})
}

// etags returns the entity tag of each path: embedded files have no time of change.
func etags() map[string]string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("web: " + err.Error()) // it is in the program
	}
	tags := map[string]string{}
	for _, e := range entries {
		text, err := files.ReadFile(e.Name())
		if err != nil {
			panic("web: " + err.Error())
		}
		tags["/"+strings.TrimSuffix(e.Name(), "index.html")] = fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(text))[:16])
	}
	return tags
}
