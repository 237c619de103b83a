package answer_test

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/internal/chatkittest"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type object = chatkittest.Object

// rig is an assistant behind the real handler, and a client with one conversation.
type rig struct {
	t      *testing.T
	s      store.Store
	h      *chatkit.Handler
	srv    *httptest.Server
	thread string
	log    *buffer
}

// buffer is a log that can be read while it is written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newRig(t *testing.T, r func(*slog.Logger) chatkit.Responder) *rig {
	t.Helper()
	g := &rig{t: t, s: memstore.New(), log: new(buffer)}
	log := slog.New(slog.NewTextHandler(g.log, nil))
	g.h = chatkit.NewHandler(g.s, r(log), chatkit.WithLogger(log))
	g.srv = httptest.NewServer(g.h)
	t.Cleanup(func() {
		g.srv.Close()
		testenv.Must(t, store.Close(g.s))
	})
	return g
}

// request sends a request for the conversation.
func (g *rig) request(ctx context.Context, kind string, params object) *http.Response {
	g.t.Helper()
	if g.thread != "" {
		params["thread_id"] = g.thread
	}
	req := testenv.Value(chatkittest.NewRequest(ctx, g.srv.URL, kind, params))(g.t)
	return testenv.Value(g.srv.Client().Do(req))(g.t)
}

// stream sends a request, reads its events and calls each, if not nil, with every event.
func (g *rig) stream(ctx context.Context, kind string, params object, each func(object)) []object {
	g.t.Helper()
	res := g.request(ctx, kind, params)
	defer res.Body.Close()
	var all []object
	for e, err := range chatkittest.Events(res.Body) {
		if ctx.Err() != nil {
			break // the line is incomplete if the client goes away in it
		}
		if err != nil {
			g.t.Fatalf("%s: %d %v", kind, res.StatusCode, err)
		}
		if e["type"] == "thread.created" {
			g.thread = e["thread"].(object)["id"].(string)
		}
		if err := schema().Validate(e); err != nil {
			g.t.Errorf("%s: %v\n%v", kind, err, e)
		}
		all = append(all, e)
		if each != nil {
			each(e)
		}
	}
	return all
}

// input returns the input of a message, with further members.
func input(text string, more ...object) object {
	in := chatkittest.Input(text)
	for _, m := range more {
		maps.Copy(in, m)
	}
	return object{"input": in}
}

// say sends a message, and returns the events after it was stored.
func (g *rig) say(text string, more ...object) []object {
	g.t.Helper()
	return g.sayTo(g.t.Context(), nil, text, more...)
}

func (g *rig) sayTo(ctx context.Context, each func(object), text string, more ...object) []object {
	g.t.Helper()
	kind := "threads.add_user_message"
	if g.thread == "" {
		kind = "threads.create"
	}
	all := g.stream(ctx, kind, input(text, more...), each)
	for i, e := range all {
		if e["type"] == "stream_options" {
			return all[i+1:]
		}
	}
	g.t.Fatalf("%q began no turn: %v", text, all)
	return nil
}

// ask sends a request that is answered with JSON.
func (g *rig) ask(kind string, params object) (int, object) {
	g.t.Helper()
	res := g.request(g.t.Context(), kind, params)
	return res.StatusCode, chatkittest.Answer(g.t, res)
}

// sayAndLeave sends a message, leaves once it has read enough, waits until the answer is saved, and returns the events that
// it read.
func (g *rig) sayAndLeave(text string, enough func(read []object) bool) (read []object) {
	g.t.Helper()
	ctx, leave := context.WithCancel(g.t.Context())
	defer leave()
	g.sayTo(ctx, func(e object) {
		if read = append(read, e); enough(read) {
			leave()
		}
	}, text)
	testenv.Must(g.t, g.h.Shutdown(g.t.Context()))
	g.wantStored("assistant_message sdk_hidden_context")
	return read
}

// schema returns the schema of all events, see chatkit's README.
var schema = sync.OnceValue(func() *jsonschema.Schema {
	return jsonschema.NewCompiler().MustCompile("../../../chatkit/testdata/schemas/chatkit.json")
})

// short has short names of events for tests.
var short = strings.NewReplacer(
	"thread.item.", "", "assistant_message.content_part.", "part.", "workflow.", "", "generated_image.", "image.",
)

// types returns the short names of the events, without repetitions. It leaves out changes of the thread, which package
// chatkit sends.
func types(events []object) string {
	var all []string
	for _, e := range events {
		name := e["type"].(string)
		if name == "thread.updated" {
			continue
		}
		if u, ok := e["update"].(object); ok {
			name = u["type"].(string)
		}
		if name = short.Replace(name); len(all) == 0 || all[len(all)-1] != name {
			all = append(all, name)
		}
	}
	return strings.Join(all, " ")
}

// text returns the text of all deltas.
func text(events []object) string {
	var b strings.Builder
	for _, e := range events {
		if u, ok := e["update"].(object); ok && u["delta"] != nil {
			b.WriteString(u["delta"].(string))
		}
	}
	return b.String()
}

// items returns the stored items, oldest first.
func (g *rig) items() []chat.Item {
	g.t.Helper()
	q := store.PageQuery{Order: store.OldestFirst, Limit: store.MaxLimit}
	return testenv.Value(g.s.LoadThreadItems(context.Background(), g.thread, q))(g.t).Data
}

// wantStored fails the test unless items of these types are stored after the conversation's first message.
func (g *rig) wantStored(types string) {
	g.t.Helper()
	var all []string
	for _, it := range g.items()[1:] {
		all = append(all, string(it.Type()))
	}
	if got := strings.Join(all, " "); got != types {
		g.t.Fatalf("stored %q, want %q", got, types)
	}
}

// last returns the newest item's content.
func last[T chat.Body](g *rig) T {
	g.t.Helper()
	items := g.items()
	b, ok, err := chat.DecodeItem[T](items[len(items)-1])
	if err != nil || !ok {
		g.t.Fatalf("the newest item is %v: %v", items[len(items)-1], err)
	}
	return b
}

func spoken(m chat.AssistantMessage) string { return m.Content[0].Text }
