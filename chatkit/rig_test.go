package chatkit_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
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

// rig is a handler behind real HTTP, over a guarded store that records its calls.
type rig struct {
	t    *testing.T
	h    *chatkit.Handler
	srv  *httptest.Server
	base store.Store // without the guard
	s    store.Store

	mu    sync.Mutex
	calls []string
}

func newRig(t *testing.T, r chatkit.Responder, opts ...chatkit.Option) *rig {
	return newRigOver(t, memstore.New(), r, opts...)
}

func newRigOver(t *testing.T, base store.Store, r chatkit.Responder, opts ...chatkit.Option) *rig {
	g := unserved(t, base, r, opts...)
	g.srv = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(func() {
		g.srv.Close()
		testenv.Must(t, store.Close(g.s))
	})
	return g
}

// unserved returns a rig without a server, for bubbles: see [rig.call].
func unserved(t *testing.T, base store.Store, r chatkit.Responder, opts ...chatkit.Option) *rig {
	g := &rig{t: t, base: base}
	g.s = store.Wrap(base, layer.Observe("spy", g), authz.New(authz.OwnerOnly()))
	quiet := chatkit.WithLogger(slog.New(slog.DiscardHandler))
	g.h = chatkit.NewHandler(g.s, r, append(opts, quiet)...)
	return g
}

func (g *rig) serve(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	if user := r.Header.Get("Test-User"); user != "" {
		ctx = as(user)(ctx)
	}
	g.h.ServeHTTP(w, r.WithContext(ctx))
}

// call makes a request of ada without a network, and returns the status and the answer.
func (g *rig) call(ctx context.Context, kind string, params any) (int, string) {
	g.t.Helper()
	return g.callAs(ctx, "ada", kind, params)
}

func (g *rig) callAs(ctx context.Context, user, kind string, params any) (int, string) {
	g.t.Helper()
	r := testenv.Value(chatkittest.NewRequest(ctx, "/", kind, params))(g.t)
	r.Header.Set("Test-User", user)
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

// Begin and End make the rig an Observer of the spy. It records writes.
func (g *rig) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	if c.Op.IsWrite() {
		g.mu.Lock()
		g.calls = append(g.calls, c.Op.String())
		g.mu.Unlock()
	}
	return ctx, nil
}

func (g *rig) End(context.Context, layer.Call, layer.Result, any) {}

// writes returns the writes since the last call of writes.
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
	req := testenv.Value(chatkittest.NewRequest(ctx, g.srv.URL, kind, params))(g.t)
	req.Header.Set("Test-User", user)
	return testenv.Value(g.srv.Client().Do(req))(g.t)
}

// ask sends a request that is answered with JSON, and returns the status and the answer.
func (g *rig) ask(user, kind string, params any) (int, object) {
	g.t.Helper()
	res := g.request(g.t.Context(), user, kind, params)
	if typ, cache := res.Header.Get("Content-Type"), res.Header.Get("Cache-Control"); typ != "application/json" || cache != "no-store" {
		g.t.Errorf("%s: Content-Type %s, Cache-Control %s", kind, typ, cache)
	}
	answer := chatkittest.Answer(g.t, res)
	if res.StatusCode == http.StatusOK {
		if err := check(kind, answer); err != nil {
			g.t.Errorf("%s: %v", kind, err)
		}
	}
	return res.StatusCode, answer
}

// want sends a request that must be answered with JSON and the given status.
func (g *rig) want(status int, user, kind string, params object) {
	g.t.Helper()
	if got, v := g.ask(user, kind, params); got != status {
		g.t.Errorf("%s of %s: %d %v, want %d", kind, user, got, v, status)
	}
}

// stream sends a request that is answered with events, and returns all events.
func (g *rig) stream(user, kind string, params any) []object {
	g.t.Helper()
	res := g.request(g.t.Context(), user, kind, params)
	defer res.Body.Close()
	if typ := res.Header.Get("Content-Type"); typ != "text/event-stream" {
		text, _ := io.ReadAll(res.Body)
		g.t.Fatalf("%s: %d %s: %s", kind, res.StatusCode, typ, text)
	}
	return slices.Collect(events(g.t, res.Body))
}

// events yields the events of a stream.
func events(t *testing.T, body io.Reader) func(func(object) bool) {
	return func(yield func(object) bool) {
		for e, err := range chatkittest.Events(body) {
			if err == nil {
				err = check("", e)
			}
			if err != nil {
				t.Error(err)
			}
			if err != nil || !yield(e) {
				return
			}
		}
	}
}

// wantTypes fails the test unless the events have these types.
func wantTypes(t *testing.T, events []object, want string) {
	t.Helper()
	if got := types(events); got != want {
		t.Errorf("events:\n%s\nwant\n%s", got, want)
	}
}

// types returns the types of events; for an update, the type of the update.
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

// message returns the parameters of a message for the thread of newThread.
func message(text string) object { return object{"thread_id": "thr", "input": say(text)} }

func newItem(t *testing.T, id string, second int, b chat.Body) chat.Item {
	t.Helper()
	return testenv.Value(chat.NewItem(id, at(second), b))(t)
}

// newThread saves a thread of ada with these items, whose ids are i1, i2, …
func (g *rig) newThread(bodies ...chat.Body) {
	g.t.Helper()
	g.save(chat.Thread{ID: "thr", CreatedAt: at(0)}, bodies...)
}

func (g *rig) save(th chat.Thread, bodies ...chat.Body) {
	g.t.Helper()
	testenv.Must(g.t, g.s.SaveThread(ada, th))
	for i, b := range bodies {
		testenv.Must(g.t, g.s.AddThreadItem(ada, th.ID, newItem(g.t, fmt.Sprint("i", i+1), i+1, b)))
	}
	g.writes()
}

// attach saves an attachment of ada, atc.
func (g *rig) attach(metadata chat.JSON) {
	g.t.Helper()
	body := chat.AttachmentBody{Type: "file", Name: "n", MIMEType: "text/plain", Metadata: metadata}
	testenv.Must(g.t, g.s.SaveAttachment(ada, testenv.Value(chat.NewAttachment("atc", body))(g.t)))
}

// stored returns a thread's items in the base, oldest first.
func (g *rig) stored(threadID string) []chat.Item {
	g.t.Helper()
	q := store.PageQuery{Order: store.OldestFirst, Limit: 1000}
	return testenv.Value(g.base.LoadThreadItems(context.Background(), threadID, q))(g.t).Data
}

// wantStored fails the test unless the base has items of these types in a thread.
func (g *rig) wantStored(threadID, types string) {
	g.t.Helper()
	if got := itemTypes(g.stored(threadID)); got != types {
		g.t.Fatalf("stored: %s; want %s", got, types)
	}
}

// load returns the body of an item of ada.
func load[T chat.Body](g *rig, id string) T {
	g.t.Helper()
	body, ok, err := chat.DecodeItem[T](testenv.Value(g.s.LoadItem(ada, "thr", id))(g.t))
	if err != nil || !ok {
		g.t.Fatalf("%s: wrong type (%v)", id, err)
	}
	return body
}

func itemTypes(items []chat.Item) string {
	var all []string
	for _, it := range items {
		all = append(all, string(it.Type()))
	}
	return strings.Join(all, " ")
}
