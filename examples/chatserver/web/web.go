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

//go:embed *.html *.js *.css vendor
var files embed.FS

// policy lets only the page's own scripts run, and no other page frame it. Only DOMPurify can make HTML of text. The schemes data:
// and blob: are for images only.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob: https:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types dompurify"

// Handler serves the page at / and its files. It calls other for any other path.
func Handler(other http.Handler) http.Handler {
	serve := http.FileServerFS(files)
	tags := etags()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f, err := fs.Stat(files, strings.TrimPrefix(r.URL.Path, "/")); r.URL.Path != "/" && (err != nil || f.IsDir()) {
			other.ServeHTTP(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
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
	tags := map[string]string{}
	err := fs.WalkDir(files, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := files.ReadFile(path)
		tags["/"+strings.TrimSuffix(path, "index.html")] = fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(text))[:16])
		return err
	})
	if err != nil {
		panic("web: " + err.Error()) // cannot fail: the files are embedded
	}
	return tags
}
