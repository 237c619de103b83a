package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/testenv"
)

// behind starts a proxy before a server. Like nginx by default, it replaces the header Host by the server's address.
func behind(t *testing.T, srv *running, change func(*http.Response) error) (at string) {
	t.Helper()
	target := testenv.Value(url.Parse(srv.url))(t)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, ModifyResponse: change,
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	})
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// from makes a request that of a page with this origin, in a browser that names it in no other header.
func from(origin, host string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Origin", origin)
		if host != "" {
			r.Host = host
		}
	}
}

const aThread = `{"type":"threads.create","params":{"input":{"content":[{"type":"input_text","text":"hello"}],"attachments":[],"inference_options":{}}}}`

func TestThePublicURLIsATrustedOrigin(t *testing.T) {
	for _, public := range []string{"http://chat.example", "http://Chat.Example:80/", "http://chat.example/base"} {
		srv := startAlone(t, func(c *config) { c.url = strings.TrimSuffix(public, "/") })
		c := newClient(t, behind(t, srv, nil), "ada", testKey)
		for origin, want := range map[string]int{
			"http://chat.example": 200, "https://chat.example": 403, "http://chat.example:8080": 403, "http://evil.example": 403, "null": 403,
		} {
			if res, text := c.do(t, http.MethodPost, "/chatkit", aThread, from(origin, "chat.example")); res.StatusCode != want {
				t.Errorf("-url %s, a page of %s: %d %s, want %d", public, origin, res.StatusCode, text, want)
			}
		}
	}
}

func TestAFrontEndOnAnotherOriginIsServed(t *testing.T) {
	srv := startAlone(t, func(c *config) {
		c.url, c.origins = "https://chat.example", []string{"https://app.example", "http://LOCALHOST:5173"}
	})
	c := newClient(t, srv.url, "ada", testKey)
	ask := func(method, path, body, origin string, headers ...string) *http.Response {
		t.Helper()
		res, _ := c.do(t, method, path, body, from(origin, ""), func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			for pair := range slices.Chunk(headers, 2) {
				r.Header.Set(pair[0], pair[1])
			}
		})
		if !slices.Contains(res.Header.Values("Vary"), "Origin") {
			t.Errorf("%s %s of %s: Vary is %q", method, path, origin, res.Header.Values("Vary"))
		}
		return res
	}
	readable := func(res *http.Response, origin string) bool {
		return res.Header.Get("Access-Control-Allow-Origin") == origin && res.Header.Get("Access-Control-Allow-Credentials") == "true"
	}
	for _, origin := range []string{"https://app.example", "http://localhost:5173"} {
		res := ask("OPTIONS", "/chatkit", "", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-mine")
		if h := res.Header; res.StatusCode != 204 || !readable(res, origin) || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") ||
			h.Get("Access-Control-Allow-Headers") != "content-type,x-mine" {
			t.Errorf("%s, preflight: %d %v", origin, res.StatusCode, h)
		}
		if res := ask("POST", "/chatkit", aThread, origin); res.StatusCode != 200 || !readable(res, origin) ||
			res.Header.Get("Access-Control-Expose-Headers") != "Retry-After" {
			t.Errorf("%s, a thread: %d %v", origin, res.StatusCode, res.Header)
		}
		if res := ask("GET", "/files/none", "", origin); res.StatusCode != 404 || !readable(res, origin) {
			t.Errorf("%s, an error: %d %v", origin, res.StatusCode, res.Header)
		}
		res = ask("POST", "/session", `{"user":"ada"}`, origin)
		if cookies := res.Cookies(); len(cookies) != 1 || cookies[0].SameSite != http.SameSiteNoneMode || !cookies[0].Secure {
			t.Errorf("%s: a page of another site cannot send the cookie: %v", origin, cookies)
		}
	}
	for _, origin := range []string{"https://evil.example", "http://app.example", "https://app.example.evil.example", "null"} {
		preflight := ask("OPTIONS", "/chatkit", "", origin, "Access-Control-Request-Method", "POST")
		if res := ask("POST", "/chatkit", aThread, origin); res.StatusCode != 403 || readable(res, origin) || preflight.StatusCode != 405 || readable(preflight, origin) {
			t.Errorf("%s: %d %v, preflight %d %v", origin, res.StatusCode, res.Header, preflight.StatusCode, preflight.Header)
		}
	}
}

func TestSessionsAreSecureIfThePublicURLIs(t *testing.T) {
	for public, secure := range map[string]bool{"": false, "http://chat.example": false, "https://chat.example": true, "HTTPS://chat.example": true} {
		srv := startAlone(t, func(c *config) { c.url = public })
		res, _ := newClient(t, srv.url, "ada", testKey).do(t, http.MethodPost, "/session", `{"user":"ada"}`)
		if cookies := res.Cookies(); len(cookies) != 1 || cookies[0].Secure != secure || cookies[0].SameSite != http.SameSiteStrictMode {
			t.Errorf("-url %q: %v", public, cookies)
		}
	}
}

// compressed compresses an answer as a proxy may, unless the server forbids it. The compressor holds a text back until it
// has enough.
func compressed(res *http.Response) error {
	if strings.Contains(res.Header.Get("Cache-Control"), "no-transform") {
		return nil
	}
	plain := res.Body
	read, write := io.Pipe()
	go func() {
		z := gzip.NewWriter(write)
		_, err := io.Copy(z, plain)
		_ = z.Close()
		_ = write.CloseWithError(err)
	}()
	res.Body = struct {
		io.Reader
		io.Closer
	}{read, plain}
	res.Header.Set("Content-Encoding", "gzip")
	res.Header.Del("Content-Length")
	return nil
}

// letGo is a responder that answers when it is let go.
type letGo chan struct{}

func (l letGo) Respond(ctx context.Context, turn *chatkit.Turn) error {
	select {
	case <-l:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func (l letGo) Act(context.Context, *chatkit.Turn, chatkit.Action) error { return nil }

func TestACompressingProxyHoldsNoEventBack(t *testing.T) {
	answer := make(letGo)
	srv := startAlone(t, func(c *config) { c.responder = answer })
	c := newClient(t, behind(t, srv, compressed), "ada", testKey)
	zipped := func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") }
	if res, _ := c.do(t, http.MethodPost, "/chatkit", `{"type":"threads.list"}`, zipped); res.Header.Get("Content-Encoding") != "gzip" {
		t.Error("the proxy does not compress: the test proves nothing")
	}
	res := testenv.Value(c.send(t.Context(), http.MethodPost, "/chatkit", aThread, zipped))(t)
	defer res.Body.Close()
	if res.Header.Get("Content-Encoding") != "" || res.Header.Get("X-Accel-Buffering") != "no" {
		close(answer)
		t.Fatalf("the proxy holds events back: %v", res.Header)
	}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), `"stream_options"`) {
	}
	close(answer) // the client has read what came before the answer
	_, err := io.Copy(io.Discard, res.Body)
	testenv.Must(t, err)
}
