package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/store"
)

// originOf returns the origin of a URL in the form that browsers send: in lower case, without the default port.
func originOf(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("must be an http or https URL without a user") // without the text, which may have a password
	}
	if _, err := strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16); err != nil || strings.Contains(u.Host, "*") {
		return "", errors.New("must name one host, and a port up to 65535")
	}
	u.Host = strings.ToLower(u.Host)
	if port := u.Port(); port == "80" && u.Scheme == "http" || port == "443" && u.Scheme == "https" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.Scheme + "://" + u.Host, nil
}

// fromOrigins lets browsers send requests from pages of the server itself, of its public URL and of the given origins. It
// refuses those of other pages. Answers can be read by pages of the given origins (CORS).
func fromOrigins(h http.Handler, public string, origins []string) (http.Handler, error) {
	protected := http.NewCrossOriginProtection()
	protected.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chatkit.WriteError(w, &store.Error{Code: store.CodeDenied, Field: "the request comes from another site's page"})
	}))
	if public != "" {
		own, err := originOf(public)
		if err == nil && strings.ContainsAny(public, "?#") {
			err = errors.New("must have neither a query nor a fragment")
		}
		if err != nil {
			return nil, errors.New("-url: " + err.Error())
		}
		// A proxy that changes the header Host makes the page's own requests look foreign.
		if err := protected.AddTrustedOrigin(own); err != nil {
			return nil, err
		}
	}
	var readers []string
	for _, text := range origins {
		origin, err := originOf(text)
		if u, _ := url.Parse(text); err == nil && (u.Path != "" || strings.ContainsAny(text, "?#")) {
			err = errors.New("must have no path")
		}
		if err != nil {
			return nil, fmt.Errorf("-origins: each must be of the form https://chat.example: one %w", err)
		}
		if err := protected.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
		readers = append(readers, origin)
	}
	return readableBy(protected.Handler(h), readers), nil
}

// readableBy adds the CORS headers for pages of the given origins, and answers their preflights.
func readableBy(next http.Handler, origins []string) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, origin := w.Header(), r.Header.Get("Origin")
		h.Add("Vary", "Origin")
		if !slices.Contains(origins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			h.Set("Access-Control-Expose-Headers", "Retry-After")
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE")
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked) // the origin is trusted, and a front end may add headers
		}
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
	})
}

// isLoopback reports whether only programs of this machine can reach an address.
func isLoopback(at net.Addr) bool {
	tcp, ok := at.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// forHosts protects a server that listens only on this machine against DNS rebinding: it refuses requests for foreign host
// names. Otherwise a foreign name that resolves to this machine could make a foreign page the server's own.
func forHosts(h http.Handler, at net.Addr, public string) http.Handler {
	if !isLoopback(at) {
		return h
	}
	known := []string{"localhost", "127.0.0.1", "::1", at.(*net.TCPAddr).IP.String()}
	message := "this server does not serve this host name (see -url)"
	if u, err := url.Parse(public); err == nil && u.Host != "" {
		known = append(known, strings.ToLower(u.Hostname()))
		message = "this server does not serve this host name: it is " + u.Hostname() + " (see -url), and a proxy must pass the header Host"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := url.URL{Host: r.Host}
		if slices.Contains(known, strings.ToLower(asked.Hostname())) {
			h.ServeHTTP(w, r)
			return
		}
		chatkit.WriteError(w, chatkit.StatusError{
			Status: http.StatusMisdirectedRequest, Code: store.CodeDenied.String(), Message: message,
		})
	})
}
