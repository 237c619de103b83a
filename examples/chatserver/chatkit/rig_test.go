package chatkit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/examples/chatserver/chatkit"
	"github.com/chatstore/chatstore/examples/chatserver/internal/chatkittest"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a Responder made of functions.
type script struct {
	respond func(context.Context, *chatkit.Turn) error
	act     func(context.Context, *chatkit.Turn, chatkit.Action) error
}

func (s script) Respond(ctx context.Context, t *chatkit.Turn) error {
	if s.respond == nil {
		return nil
	}
	return s.respond(ctx, t)
}

func (s script) Act(ctx context.Context, t *chatkit.Turn, a chatkit.Action) error {
	return s.act(ctx, t, a)
}

// rig is a handler behind real HTTP, over a guarded store that tells which calls it has had.
type rig struct {
	t    *testing.T
	h    *chatkit.Handler
	srv  *httptest.Server
	base store.Store // unguarded
	s    store.Store

	mu    sync.Mutex
	calls []string
	log   bytes.Buffer
}

func newRig(t *testing.T, r chatkit.Responder, opts ...chatkit.Option) *rig {
	t.Helper()
	return newRigOver(t, memstore.New(), r, opts...)
}

func newRigOver(t *testing.T, base store.Store, r chatkit.Responder, opts ...chatkit.Option) *rig {
	t.Helper()
	g := unserved(t, base, r, opts...)
	g.srv = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(func() {
		g.srv.Close()
		if err := store.Close(g.s); err != nil {
			t.Error(err)
		}
	})
	return g
}

// unserved is a rig without a server, for bubbles: see [rig.call].
func unserved(t *testing.T, base store.Store, r chatkit.Responder, opts ...chatkit.Option) *rig {
	g := &rig{t: t, base: base}
	g.s = store.Wrap(base, layer.Observe("spy", g), authz.New(authz.OwnerOnly()))
	log := slog.New(slog.NewTextHandler(&g.log, nil))
	g.h = chatkit.NewHandler(g.s, r, append([]chatkit.Option{chatkit.WithLogger(log)}, opts...)...)
	return g
}

func (g *rig) serve(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if user := r.Header.Get("Test-User"); user != "" {
		ctx = as(user)(ctx)
	}
	g.h.ServeHTTP(w, r.WithContext(ctx))
}

// call makes a request of ada's without a network, and returns the status and what was answered.
func (g *rig) call(ctx context.Context, kind string, params any) (int, string) {
	g.t.Helper()
	r, err := chatkittest.NewRequest(ctx, "/", kind, params)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Test-User", "ada")
	w := httptest.NewRecorder()
	g.serve(w, r)
	return w.Code, w.Body.String()
}

func as(user string) func(context.Context) context.Context {
	return func(ctx context.Context) context.Context {
		return store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Tenant: "t", Subject: user}})
	}
}

var ada = as("ada")(context.Background())

// Begin and End make the rig the spy's Observer: it notes writes.
func (g *rig) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	if c.Op.IsWrite() {
		g.mu.Lock()
		g.calls = append(g.calls, c.Op.String())
		g.mu.Unlock()
	}
	return ctx, nil
}

func (g *rig) End(context.Context, layer.Call, layer.Result, any) {}

// writes returns the writes since it was called last.
func (g *rig) writes() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	calls := strings.Join(g.calls, " ")
	g.calls = nil
	return calls
}

type object = chatkittest.Object

// request sends a request, and returns the answer unread.
func (g *rig) request(ctx context.Context, user, kind string, params any) *http.Response {
	g.t.Helper()
	req, err := chatkittest.NewRequest(ctx, g.srv.URL, kind, params)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Test-User", user)
	res, err := g.srv.Client().Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	return res
}

// ask sends a request that is answered with JSON, and returns the status and the answer.
func (g *rig) ask(user, kind string, params any) (int, object) {
	g.t.Helper()
	res := g.request(g.t.Context(), user, kind, params)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	var v object
	if err := json.Unmarshal(text, &v); err != nil {
		g.t.Fatalf("%s: %d: %v: %s", kind, res.StatusCode, err, text)
	}
	if typ := res.Header.Get("Content-Type"); typ != "application/json" {
		g.t.Errorf("%s: Content-Type %s", kind, typ)
	}
	return res.StatusCode, v
}

// stream sends a request that is answered with events, and returns them all.
func (g *rig) stream(user, kind string, params any) []object {
	g.t.Helper()
	res := g.request(g.t.Context(), user, kind, params)
	defer res.Body.Close()
	if typ := res.Header.Get("Content-Type"); typ != "text/event-stream" {
		text, _ := io.ReadAll(res.Body)
		g.t.Fatalf("%s: %d %s: %s", kind, res.StatusCode, typ, text)
	}
	var all []object
	for e := range events(g.t, res.Body) {
		all = append(all, e)
	}
	return all
}

// events reads a stream as it comes.
func events(t *testing.T, body io.Reader) func(func(object) bool) {
	return func(yield func(object) bool) {
		for e, err := range chatkittest.Events(body) {
			if err != nil {
				t.Error(err)
			}
			if err != nil || !yield(e) {
				return
			}
		}
	}
}

// types says which events there were: those of updates by the update.
func types(events []object) string {
	var all []string
	for _, e := range events {
		typ := e["type"].(string)
		if u, ok := e["update"].(object); ok {
			typ = u["type"].(string)
		}
		all = append(all, typ)
	}
	return strings.Join(all, " ")
}

var say = chatkittest.Input

// newThread makes a thread of ada's with these items, whose ids are i1, i2, …
func (g *rig) newThread(bodies ...chat.Body) {
	g.t.Helper()
	if err := g.s.SaveThread(ada, chat.Thread{ID: "thr", CreatedAt: at(0)}); err != nil {
		g.t.Fatal(err)
	}
	for i, b := range bodies {
		it, err := chat.NewItem(fmt.Sprintf("i%d", i+1), at(i+1), b)
		if err != nil {
			g.t.Fatal(err)
		}
		if err := g.s.AddThreadItem(ada, "thr", it); err != nil {
			g.t.Fatal(err)
		}
	}
	g.writes()
}

// stored returns the types and ids of a thread's items, the oldest first, as they are in the base.
func (g *rig) stored(threadID string) []chat.Item {
	g.t.Helper()
	page, err := g.base.LoadThreadItems(context.Background(), threadID, store.PageQuery{Order: store.OldestFirst, Limit: 1000})
	if err != nil {
		g.t.Fatal(err)
	}
	return page.Data
}

func itemTypes(items []chat.Item) string {
	var all []string
	for _, it := range items {
		all = append(all, string(it.Type()))
	}
	return strings.Join(all, " ")
}
