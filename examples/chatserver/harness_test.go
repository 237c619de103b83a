package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/examples/chatserver/answer"
	"github.com/chatstore/chatstore/examples/chatserver/identity"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// childArgs has the arguments of a test that runs the program in its own process, which can be killed.
const childArgs = "CHATSERVER_TEST_ARGS"

func TestMain(m *testing.M) {
	if args := os.Getenv(childArgs); args != "" {
		os.Exit(command(context.Background(), strings.Split(args, "\n"), os.Stdout, os.Stderr))
	}
	pgtest.Main(m, mysqltest.Close)
}

// hang limits a wait for a real server or browser. No test measures it. It is shorter than cache.DefaultTTL, so that no wait
// ends because an entry expires.
const hang = 2 * time.Minute

var testKey = bytes.Repeat([]byte("k"), 32)

// running is a server on its own port.
type running struct {
	*server
	url  string
	stop func() error // stops the server as a signal does, and waits for its end
}

// startServer starts the program without its flags, with an SQLite file, and stops it with the test. change may be nil.
func startServer(t *testing.T, change func(*config)) *running {
	t.Helper()
	dir := t.TempDir()
	c := config{
		store: filepath.Join(dir, "chat.db"), files: filepath.Join(dir, "files"), key: testKey, users: []string{"ada", "grace"},
		grace: hang, responder: answer.NewDemo(answer.WithPace(0)), log: slog.New(slog.DiscardHandler), wrap: wrap,
	}
	if change != nil {
		change(&c)
	}
	srv := testenv.Value(newServer(t.Context(), c))(t)
	srv.http.ReadHeaderTimeout = hang // on a slow machine a connection of many waits longer
	l := testenv.Value(net.Listen("tcp", "127.0.0.1:0"))(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.serve(ctx, l) }()
	r := &running{server: srv, url: "http://" + l.Addr().String()}
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { testenv.Must(t, r.stop()) })
	return r
}

// startAlone is startServer for a test that does not run in parallel. It fails if goroutines of the test are left at its
// end.
func startAlone(t *testing.T, change func(*config)) *running {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	return startServer(t, change)
}

// eventually calls a check until it returns no fault, because the checked work happens elsewhere.
func eventually(t *testing.T, wrong func() string) {
	t.Helper()
	for deadline := time.Now().Add(hang); ; {
		switch w := wrong(); {
		case w == "":
			return
		case time.Now().After(deadline):
			t.Fatal(w)
		}
	}
}

// client is a user with a bearer token.
type client struct {
	http  *http.Client
	url   string
	token string
}

func newClient(t *testing.T, url, user string, key []byte) *client {
	t.Helper()
	issuer := testenv.Value(identity.New(key, false))(t)
	token := testenv.Value(issuer.Token(user, time.Hour))(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{&http.Client{Transport: transport}, url, token}
}

// newPage returns a client with a session cookie, like a browser.
func newPage(t *testing.T, url, user string) *client {
	t.Helper()
	c := newClient(t, url, "nobody", testKey)
	c.token, c.http.Jar = "", testenv.Value(cookiejar.New(nil))(t)
	if res, _ := c.do(t, http.MethodPost, "/session", fmt.Sprintf(`{"user":%q}`, user)); res.StatusCode != http.StatusNoContent {
		t.Fatalf("signing in: %d", res.StatusCode)
	}
	return c
}

// send sends a request after the given changes to it.
func (c *client) send(ctx context.Context, method, path, body string, change ...func(*http.Request)) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, f := range change {
		f(req)
	}
	return c.http.Do(req)
}

// do sends a request, and returns the answer and its text.
func (c *client) do(t *testing.T, method, path, body string, change ...func(*http.Request)) (*http.Response, string) {
	t.Helper()
	res := testenv.Value(c.send(t.Context(), method, path, body, change...))(t)
	defer res.Body.Close()
	return res, string(testenv.Value(io.ReadAll(res.Body))(t))
}

// object is a JSON object.
type object = chatkittest.Object

// failed is an error answer.
type failed struct {
	status int
	text   string
}

func (f failed) Error() string { return fmt.Sprintf("%d %s", f.status, f.text) }

func (c *client) chatkit(ctx context.Context, kind string, params object) (*http.Response, error) {
	body, err := json.Marshal(object{"type": kind, "params": params})
	if err != nil {
		return nil, err
	}
	res, err := c.send(ctx, http.MethodPost, "/chatkit", string(body))
	if err != nil || res.StatusCode == http.StatusOK {
		return res, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return nil, errors.Join(failed{res.StatusCode, string(text)}, err)
}

// ask makes a request that is answered with JSON.
func (c *client) ask(ctx context.Context, kind string, params object) (v object, err error) {
	res, err := c.chatkit(ctx, kind, params)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return v, json.NewDecoder(res.Body).Decode(&v)
}

// stream makes a request that is answered with events, and calls f for each. It fails if the stream ends in an error.
func (c *client) stream(ctx context.Context, kind string, params object, f func(object)) error {
	res, err := c.chatkit(ctx, kind, params)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	for e, err := range chatkittest.Events(res.Body) {
		if err != nil {
			return err
		}
		if e["type"] == "error" {
			return failed{res.StatusCode, fmt.Sprint(e)}
		}
		f(e)
	}
	return nil
}

var input = chatkittest.Input

// newThread creates a thread with a first message, and returns its id. It calls done with each finished item.
func (c *client) newThread(ctx context.Context, text string, done func(item object)) (id string, err error) {
	return c.turn(ctx, "threads.create", object{"input": input(text)}, done)
}

// say sends a message and reads the answer.
func (c *client) say(ctx context.Context, threadID, text string, done func(item object)) error {
	_, err := c.turn(ctx, "threads.add_user_message", object{"thread_id": threadID, "input": input(text)}, done)
	return err
}

func (c *client) turn(ctx context.Context, kind string, params object, done func(item object)) (created string, err error) {
	err = c.stream(ctx, kind, params, func(e object) {
		switch e["type"] {
		case "thread.created":
			created = e["thread"].(object)["id"].(string)
		case "thread.item.done":
			done(e["item"].(object))
		}
	})
	return created, err
}

// items returns all items of a thread, oldest first.
func (c *client) items(ctx context.Context, threadID string) (all []object, err error) {
	for after := ""; ; {
		page, err := c.ask(ctx, "items.list", object{"thread_id": threadID, "limit": 100, "order": "asc", "after": after})
		if err != nil {
			return nil, err
		}
		for _, row := range page["data"].([]any) {
			all = append(all, row.(object))
		}
		if page["has_more"] != true {
			return all, nil
		}
		after = page["after"].(string)
	}
}

func itemIDs(items []object) []string {
	ids := make([]string, 0, len(items))
	for _, it := range items {
		ids = append(ids, it["id"].(string))
	}
	return ids
}

// reads returns the number of reads that a metrics layer has counted.
func reads(t *testing.T, registry *prometheus.Registry, layer string) (n float64) {
	t.Helper()
	for _, op := range store.Ops() {
		if !op.IsWrite() {
			n += sum(t, registry, "chatstore_operations_total", "layer", layer, "operation", op.String())
		}
	}
	return n
}

// sum returns the sum of a family's samples with these labels.
func sum(t *testing.T, registry *prometheus.Registry, family string, labels ...string) (total float64) {
	t.Helper()
	for _, f := range testenv.Value(registry.Gather())(t) {
		for _, m := range f.GetMetric() {
			if f.GetName() == family && hasLabels(m, labels) {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}

func hasLabels(m *dto.Metric, labels []string) bool {
	for pair := range slices.Chunk(labels, 2) {
		if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == pair[0] && l.GetValue() == pair[1] }) {
			return false
		}
	}
	return true
}
