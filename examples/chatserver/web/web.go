// Package web is the example's page. It needs no build step and no other server, and is embedded in the program.
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

// Handler serves the page at / and its files. It calls other for any other path.
func Handler(other http.Handler) http.Handler {
	serve := http.FileServerFS(files)
	tags := etags()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := fs.Stat(files, strings.TrimPrefix(r.URL.Path, "/")); err != nil && r.URL.Path != "/" {
			other.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		// Only the page's own scripts run, and no other page can frame it. The scheme data: is for images only.
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "+
			"img-src 'self' data: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// The browser asks for each file every time, so that all have the same version. Unchanged files are not sent again.
		h.Set("Cache-Control", "no-cache")
		if tag := tags[r.URL.Path]; tag != "" {
			h.Set("ETag", tag)
		}
		serve.ServeHTTP(w, r)
	})
}

// etags returns the entity tag of each path, because embedded files have no modification time.
func etags() map[string]string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("web: " + err.Error()) // cannot fail: the files are embedded
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
