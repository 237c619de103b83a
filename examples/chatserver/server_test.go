package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

func (c *client) get(t *testing.T, path string) (int, string) {
	t.Helper()
	res, text := c.do(t, http.MethodGet, path, "")
	return res.StatusCode, text
}

func TestTwoUsersSeeTheirOwn(t *testing.T) {
	srv := startAlone(t, nil)
	ada, grace := newPage(t, srv.url, "ada"), newClient(t, srv.url, "grace", testKey)
	id := testenv.Value(ada.newThread(t.Context(), "for my eyes", func(object) {}))(t)
	if v, err := ada.ask(t.Context(), "threads.list", object{}); err != nil || len(v["data"].([]any)) != 1 {
		t.Errorf("ada's threads: %v, %v", v, err)
	}
	if v, err := grace.ask(t.Context(), "threads.list", object{}); err != nil || len(v["data"].([]any)) != 0 {
		t.Errorf("grace's threads: %v, %v", v, err)
	}
	if _, err := grace.ask(t.Context(), "threads.get_by_id", object{"thread_id": id}); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("ada's thread, for grace: %v", err)
	}
}

func TestNobodyIsAnsweredWithoutASession(t *testing.T) {
	srv := startAlone(t, nil)
	nobody := newClient(t, srv.url, "nobody", testKey)
	nobody.token = ""
	for _, path := range []string{"/panel", "/files/atc_1", "/shared", "/shared/thr_1"} {
		if status, text := nobody.get(t, path); status != 401 || !strings.Contains(text, `"unauthenticated"`) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if _, err := nobody.ask(t.Context(), "threads.list", object{}); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("/chatkit: %v", err)
	}
	if _, text := nobody.get(t, "/session"); !strings.Contains(text, `"user":""`) {
		t.Errorf("/session: %s", text)
	}
	for _, body := range []string{`{"user":"mallory"}`, `{}`, `x`, strings.Repeat(" ", 5<<10)} {
		if res, _ := nobody.do(t, http.MethodPost, "/session", body); res.StatusCode != 400 || len(res.Cookies()) > 0 {
			t.Errorf("signing in with %.20q: %d", body, res.StatusCode)
		}
	}
}

// Old browsers send the cookie with requests of other sites. So the server checks the origin as well.
func TestAnotherSitesPageIsRefused(t *testing.T) {
	srv := startAlone(t, nil)
	c := newPage(t, srv.url, "ada")
	res, text := c.do(t, http.MethodPost, "/chatkit", `{"type":"threads.list","params":{}}`, func(r *http.Request) {
		r.Header.Set("Origin", "https://elsewhere.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	})
	if res.StatusCode != http.StatusForbidden || !strings.Contains(text, `"code":"denied"`) {
		t.Errorf("%d %s", res.StatusCode, text)
	}
}

// A foreign host name that resolves to this machine must not reach the page: it could sign in.
func TestOnlyTheServersOwnNamesAreAnswered(t *testing.T) {
	srv := startAlone(t, func(c *config) { c.url = "https://chat.example:8443" })
	c := newClient(t, srv.url, "ada", testKey)
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:8080": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "[::2]:80": 421,
		"localhost": 200, "LOCALHOST:8080": 200, "127.0.0.1:1": 200, "[::1]:8080": 200, "chat.example": 200,
	} {
		if res, _ := c.do(t, http.MethodGet, "/session", "", func(r *http.Request) { r.Host = host }); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, res.StatusCode, want)
		}
	}
}

func TestEveryErrorIsJSON(t *testing.T) {
	srv := startAlone(t, nil)
	c := newPage(t, srv.url, "ada")
	for request, want := range map[string]int{
		"GET /nothing": 404, "GET /web.go": 404, "GET /files/none": 404, "POST /": 405, "GET /chatkit": 405, "PATCH /session": 405,
		"POST /files/x": 405, "DELETE /metrics": 405, "POST /chatkit": 400, "POST /session": 400,
	} {
		method, path, _ := strings.Cut(request, " ")
		res, text := c.do(t, method, path, "{}")
		var v struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(text), &v); err != nil || res.StatusCode != want || v.Error.Code == "" || v.Error.Message == "" {
			t.Errorf("%s: %d %+v, %v; want %d", request, res.StatusCode, v, err, want)
		}
		if want == 405 && res.Header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", request)
		}
	}
}

// Traces go to a collector if the environment names one, or are printed.
func TestTracesAreExported(t *testing.T) {
	var items, requests atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/v1/traces" { // of which one trace may take several
			items.Add(int64(bytes.Count(text, []byte("add_thread_item"))))
			requests.Add(int64(bytes.Count(text, []byte("POST /chatkit"))))
		}
		if bytes.Contains(text, []byte("a secret")) || bytes.Contains(text, []byte(`"ada"`)) {
			t.Error("a trace has content or a user's name")
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	var printed strings.Builder
	srv := startAlone(t, func(c *config) {
		c.exporters = testenv.Value(exporters(t.Context(), "stdout", &printed))(t)
	})
	c := newClient(t, srv.url, "ada", testKey)
	testenv.Value(c.newThread(t.Context(), "a secret", func(object) {}))(t)
	// A client cannot choose the trace of its request.
	res, _ := c.do(t, http.MethodPost, "/chatkit", `{"type":"threads.list"}`, func(r *http.Request) {
		r.Header.Set("Traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	})
	if res.StatusCode != 200 {
		t.Fatal(res.StatusCode)
	}
	testenv.Must(t, srv.stop()) // exports the remaining spans
	if text := printed.String(); strings.Contains(text, `"Name":"load_threads","SpanContext":{"TraceID":"0123456789abcdef0123456789abcdef"`) {
		t.Error("a client chose its trace")
	}
	if items.Load() == 0 || requests.Load() == 0 {
		t.Error("the collector has no trace")
	}
	if text := printed.String(); !strings.Contains(text, "add_thread_item") || strings.Contains(text, "a secret") {
		t.Errorf("printed: %s", text)
	}
}

func TestWhatOperatorsAskFor(t *testing.T) {
	srv := startAlone(t, nil)
	c := newPage(t, srv.url, "ada")
	testenv.Value(c.newThread(t.Context(), "hello", func(object) {}))(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, text := c.get(t, path); status != 200 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	status, text := c.get(t, "/metrics")
	for _, series := range []string{
		`chatkit_requests_total{code="ok",type="threads.create"} 1`, `chatkit_turns_total{outcome="done"} 1`, "chatkit_streams 0",
		`chatstore_operations_total{code="ok",layer="outer",operation="save_thread",store="chatserver"}`,
		`chatstore_cache_requests_total{`, `chatstore_authz_decisions_total{`, `chatstore_pool_connections{`, "go_goroutines", "process_resident_memory_bytes",
	} {
		if status != 200 || !strings.Contains(text, series) {
			t.Errorf("/metrics: %d, without %s", status, series)
		}
	}
	// Only this format has exemplars.
	res, text := c.do(t, http.MethodGet, "/metrics", "", func(r *http.Request) {
		r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	})
	if typ := res.Header.Get("Content-Type"); !strings.HasPrefix(typ, "application/openmetrics-text") || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("/metrics as OpenMetrics: %s", typ)
	}
	for _, secret := range []string{`"ada"`, `"demo"`, "thr_"} {
		if strings.Contains(text, secret) {
			t.Errorf("/metrics names %q", secret)
		}
	}
}

func TestAServerWithoutItsDatabaseIsNotReady(t *testing.T) {
	postgres := pgtest.Start(t)
	dsn := postgres.DSN(t)
	srv := startServer(t, func(c *config) { c.store = dsn })
	c := newPage(t, srv.url, "ada")
	testenv.Must(t, postgres.Stop(syscall.SIGQUIT))
	if status, text := c.get(t, "/readyz"); (status != 503 || !strings.Contains(text, `"unavailable"`)) && status != 504 { // on a slow machine its time limit may be first
		t.Errorf("/readyz: %d %s", status, text)
	}
	if status, _ := c.get(t, "/healthz"); status != 200 {
		t.Errorf("/healthz: %d: a restart of the server would not help", status)
	}
	if _, err := c.newThread(t.Context(), "hello", func(object) {}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a new thread: %v", err)
	}
}

func TestAFileIsSentWithAMessage(t *testing.T) {
	srv := startAlone(t, nil)
	c := newPage(t, srv.url, "ada")
	a := testenv.Value(c.ask(t.Context(), "attachments.create", object{"name": "tea.txt", "size": 3, "mime_type": "text/plain"}))(t)
	path := a["upload_descriptor"].(object)["url"].(string)
	if res, text := c.do(t, http.MethodPut, path, "tea"); res.StatusCode != 204 {
		t.Fatalf("upload: %d %s", res.StatusCode, text)
	}
	in := input("look")
	in["attachments"] = []any{a["id"]}
	var sent object
	err := c.stream(t.Context(), "threads.create", object{"input": in}, func(e object) {
		if it, ok := e["item"].(object); ok && it["type"] == "user_message" {
			sent = it
		}
	})
	if err != nil || sent["attachments"].([]any)[0].(object)["name"] != "tea.txt" {
		t.Errorf("sent: %v, %v", sent, err)
	}
	if status, text := c.get(t, path); status != 200 || text != "tea" {
		t.Errorf("read back: %d %q", status, text)
	}
	res, err := c.send(t.Context(), http.MethodPut, path, strings.Repeat("x", maxUpload+1))
	if err == nil {
		res.Body.Close()
		if res.StatusCode < 400 {
			t.Errorf("an upload over the bound: %d", res.StatusCode)
		}
	}
}

// A stop ends streams when the grace period is over, and keeps their text so far.
func TestAStopKeepsWhatWasStreamed(t *testing.T) {
	dir := t.TempDir()
	open := func(c *config) {
		c.store, c.files = filepath.Join(dir, "chat.db"), filepath.Join(dir, "files")
		c.grace, c.responder = 50*time.Millisecond, answer.NewDemo(answer.WithPace(5*time.Millisecond))
	}
	srv := startAlone(t, open)
	c := newClient(t, srv.url, "ada", testKey)
	id, deltas, ended := "", 0, false
	stopped := make(chan error, 1)
	err := c.stream(t.Context(), "threads.create", object{"input": input("/long 100000")}, func(e object) {
		if e["type"] == "thread.created" {
			id = e["thread"].(object)["id"].(string)
		}
		if deltas++; deltas == 20 {
			ended = true
			go func() { stopped <- srv.stop() }()
		}
	})
	if !ended || err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Fatalf("the stream ended with %v", err)
	}
	testenv.Must(t, <-stopped)
	again := startServer(t, open)
	items, err := newClient(t, again.url, "ada", testKey).items(t.Context(), id)
	if err != nil || len(items) != 2 || items[1]["type"] != "assistant_message" {
		t.Fatalf("kept: %v, %v", items, err)
	}
}

func TestTokenIsGoodForTheServerOfItsKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	var out, errs strings.Builder
	if code := command(context.Background(), []string{"token", "-user", "ada", "-key", file}, &out, &errs); code != 0 {
		t.Fatalf("%d: %s", code, errs.String())
	}
	key := testenv.Value(identity.KeyFile(file))(t)
	srv := startAlone(t, func(c *config) { c.key = key })
	c := newClient(t, srv.url, "x", testKey)
	if _, err := c.ask(t.Context(), "threads.list", object{}); err == nil {
		t.Error("a token of another key was accepted")
	}
	c.token = strings.TrimSpace(out.String())
	if _, err := c.ask(t.Context(), "threads.list", object{}); err != nil {
		t.Error(err)
	}
}

func TestWrongFlagsAreSaid(t *testing.T) {
	t.Chdir(t.TempDir())
	for args, says := range map[string]string{
		"-nonsense":                        "nonsense",
		"extra":                            "extra",
		"-trace=file":                      "-trace=file",
		"-openai-url=http://x":             "-openai-model",
		"-openai-url=x -openai-model=m":    "-openai-url",
		"-store=/nowhere/at/all/x":         "chatserver:",
		"-bus=nonsense":                    "chatserver:",
		"-addr=nonsense":                   "chatserver:",
		"-store=postgres://127.0.0.1:1/x":  "connection refused",
		"-store=oracle://x/y":              "sqlite:PATH",
		"-pooler":                          "-listen",
		"-pooler -listen=x":                "only for PostgreSQL",
		"-url=chat.example":                "-url",
		"-url=https://u:p@chat.example":    "-url",
		"-origins=app.example":             "-origins",
		"-origins=https://a.example/x":     "-origins",
		"-store host=x user=y":             "quotes",
		"-pooler=yes!":                     "-pooler: the value is not valid",
		"-zone=x":                          "-zone: the value is not valid",
		"-quota":                           "-quota: needs a value",
		"-url=https://a.example?x":         "query",
		"-url=https://a.example#x":         "fragment",
		"-url=https://a.example:70000":     "65535",
		"-origins=*":                       "-origins",
		"-origins=https://*.example":       "one host",
		"-origins=https://a.example:70000": "65535",
		"-origins=https://u@a.example":     "without a user",
		"-metrics=nonsense":                "-metrics",
		"token":                            "name",
		"token -user=ada -life=-x":         "-life",
		"token -user=ada -key=/no/x":       "chatserver:",
	} {
		var errs strings.Builder
		if code := command(context.Background(), strings.Fields(args), io.Discard, &errs); code == 0 || !strings.Contains(errs.String(), says) {
			t.Errorf("%s: %d %s", args, code, errs.String())
		}
	}
	if code := command(context.Background(), []string{"-h"}, io.Discard, io.Discard); code != 0 {
		t.Errorf("-h: %d", code)
	}
	if _, err := os.Stat("chatserver.key"); err != nil {
		t.Error("the key file is missing", err)
	}
}
