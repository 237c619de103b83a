package panel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// rig is a Panel over a real stack.
type rig struct {
	t      *testing.T
	p      *Panel
	base   store.Store
	s      store.Store
	tracer trace.Tracer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, p: New(), base: memstore.New()}
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.p.SpanProcessor()))
	r.tracer = tp.Tracer("test")
	r.s = store.Wrap(r.base, tracing.New(tracing.WithTracerProvider(tp)), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), Base(tp))
	t.Cleanup(func() { testenv.Must(t, store.Close(r.s)) })
	return r
}

func as(user string) context.Context {
	return store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Subject: user}})
}

// request makes a followed request of a user.
func (r *rig) request(user, name string, do func(context.Context)) {
	ctx, root := r.tracer.Start(as(user), name)
	do(r.p.Follow(ctx))
	root.End()
}

// make makes a thread of a user, with an item.
func (r *rig) make(user, thread string) {
	r.request(user, "make", func(ctx context.Context) {
		testenv.Must(r.t, r.s.SaveThread(ctx, chat.Thread{ID: thread, CreatedAt: time.Now()}))
		testenv.Must(r.t, r.s.AddThreadItem(ctx, thread, message(r.t, thread)))
	})
}

func message(t *testing.T, thread string) chat.Item {
	t.Helper()
	it := testenv.Value(chat.NewItem("msg_"+thread, time.Now(), chat.UserMessage{}))(t)
	it.ThreadID = thread
	return it
}

func (s span) String() string {
	var all []string
	for _, c := range s.Children {
		all = append(all, c.String())
	}
	name := s.Name
	if s.Layer == baseLayer {
		name = "base:" + name
	}
	if len(all) == 0 {
		return name
	}
	return name + "(" + strings.Join(all, " ") + ")"
}

// raw returns the panel's answer to a user.
func (r *rig) raw(ctx context.Context) string {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.p.Handler(store.Layers(r.s)).ServeHTTP(w, httptest.NewRequest("GET", "/panel", nil).WithContext(ctx))
	if w.Code != 200 {
		r.t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func (r *rig) look(ctx context.Context) (a answer) {
	r.t.Helper()
	testenv.Must(r.t, json.Unmarshal([]byte(r.raw(ctx)), &a))
	return a
}

// trace returns the spans of a user's last request.
func (r *rig) trace(ctx context.Context) string {
	r.t.Helper()
	if v := r.look(ctx).Last; v != nil && v.Trace != nil {
		return v.Trace.String()
	}
	return ""
}

func TestTheNumbersAreTheUsersOwn(t *testing.T) {
	r := newRig(t)
	nobody := r.raw(as("ada"))
	r.make("grace", "hers")
	if got := r.raw(as("ada")); got != nobody {
		t.Errorf("before a request of ada's: %s, want %s", got, nobody)
	}
	r.make("ada", "thr")
	r.request("ada", "read", func(ctx context.Context) {
		for range 10 {
			testenv.Value(r.s.LoadThread(ctx, "thr"))(t)
		}
	})
	before := r.look(as("ada"))
	want := calls{Reads: 10, Writes: 2, Lookups: 10, Hits: 10, BaseReads: before.Totals.BaseReads, BaseWrites: 2}
	if got := before.Totals.calls; got != want || got.BaseReads > 3 || before.Totals.Requests != 2 || before.Totals.Hidden != 0 {
		t.Errorf("%+v, want %+v", before.Totals, want)
	}
	if len(before.Ops) != 3 || before.Ops[0].Name != "load_thread" || before.Ops[0].Calls != 10 || before.BaseMean <= 0 {
		t.Errorf("ops: %+v, base: %v", before.Ops, before.BaseMean)
	}
	for _, o := range before.Ops {
		if o.Mean <= 0 {
			t.Errorf("times: %+v", o)
		}
	}
	if want := "tracing authz cache tracing(base)"; !strings.HasPrefix(strings.Join(before.Stack, " "), want) {
		t.Errorf("stack %q, want %s", before.Stack, want)
	}
	for range 3 {
		r.request("grace", "read", func(ctx context.Context) {
			testenv.Value(r.s.LoadThread(ctx, "hers"))(t)
			_, _ = r.s.LoadThread(ctx, "thr")
		})
	}
	if diff := cmp.Diff(before, r.look(as("ada")), cmp.AllowUnexported(answer{}, totals{}, calls{}), cmpopts.IgnoreUnexported(span{}), cmpopts.IgnoreFields(totals{}, "times", "baseTime")); diff != "" {
		t.Errorf("grace's requests change ada's panel:\n%s", diff)
	}
}

func TestTheTraceIsATree(t *testing.T) {
	r := newRig(t)
	r.request("ada", "request", func(ctx context.Context) {
		testenv.Must(t, r.s.SaveThread(ctx, chat.Thread{ID: "thr", CreatedAt: time.Now()}))
		_, outer := r.tracer.Start(ctx, "outer")
		_, inner := r.tracer.Start(trace.ContextWithSpan(ctx, outer), "inner")
		outer.End() // ends before its child
		inner.End()
		testenv.Value(r.s.LoadThread(ctx, "thr"))(t)
		testenv.Value(r.s.LoadThread(ctx, "thr"))(t)
	})
	want := "request(save_thread(base:load_thread base:save_thread) outer(inner) load_thread(base:load_thread) load_thread)"
	if got := r.trace(as("ada")); got != want {
		t.Errorf("trace: %s", got)
	}
	spans := r.look(as("ada")).Last.Trace.Children
	if load := spans[len(spans)-1]; load.Cache != "hit" || load.Layer != outerLayer {
		t.Errorf("the last call: %+v", load)
	}
	r.request("ada", "another", func(context.Context) {})
	if got := r.trace(as("ada")); got != "another" {
		t.Errorf("the last trace: %s", got)
	}
}

// A turn is compared with its reads without the stack, also after other requests.
func TestTheLastTurnIsKept(t *testing.T) {
	r := newRig(t)
	r.make("ada", "thr")
	r.request("ada", "list", func(ctx context.Context) {
		testenv.Value(r.s.LoadThreads(ctx, store.ThreadQuery{}))(t)
	})
	v := r.look(as("ada"))
	if v.Turn == nil || v.Turn.Kind != "make" || v.Turn.Calls.Writes != 2 || v.Last.Kind != "list" || *v.Last.Calls != (calls{Reads: 1, BaseReads: 1}) {
		t.Errorf("turn %+v, last %+v", v.Turn, v.Last)
	}
}

func TestATraceIsShownToItsUserAlone(t *testing.T) {
	r := newRig(t)
	r.request("ada", "ada's", func(context.Context) {})
	r.request("grace", "grace's", func(context.Context) {})
	_, span := r.tracer.Start(context.Background(), "nobody's") // not followed
	r.p.Follow(trace.ContextWithSpan(context.Background(), span))
	span.End()
	for who, want := range map[context.Context]string{
		as("ada"): "ada's", as("grace"): "grace's", as("mallory"): "", context.Background(): "",
	} {
		if got := r.trace(who); got != want {
			t.Errorf("shown: %q, want %q", got, want)
		}
	}
}

// A client may choose its trace id. Another client's trace may contain requests of several users.
func TestATraceIDOfTwoUsersIsTwoTraces(t *testing.T) {
	r := newRig(t)
	remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
	begin := func(user, name string) (context.Context, trace.Span) {
		return r.tracer.Start(trace.ContextWithRemoteSpanContext(as(user), remote), name)
	}
	adas, root := begin("ada", "ada's")
	r.p.Follow(adas)
	_, early := r.tracer.Start(adas, "early")
	early.End()

	graces, other := begin("grace", "grace's")
	r.p.Follow(graces)
	_, late := r.tracer.Start(adas, "late")
	// A remote span that claims ada's span as its parent is ignored.
	claim := trace.ContextWithRemoteSpanContext(as("grace"), root.SpanContext())
	_, forged := r.tracer.Start(claim, "forged")
	forged.End()
	late.End()
	root.End()
	other.End()

	if got := r.trace(as("grace")); got != "grace's" {
		t.Errorf("grace sees %s", got)
	}
	if got := r.trace(as("ada")); got != "ada's(early late)" {
		t.Errorf("ada sees %s", got)
	}
}

// opened returns the number of open spans that the panel keeps.
func (p *Panel) opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// The number of spans and users is limited. Spans that never end are forgotten with their request.
func TestWhatIsKeptIsBounded(t *testing.T) {
	r := newRig(t)
	r.request("ada", "request", func(ctx context.Context) {
		for range 1000 {
			r.tracer.Start(ctx, "endless")
		}
		if open := r.p.opened(); open == 0 || open > 201 {
			t.Errorf("%d open spans are kept", open)
		}
	})
	if open := r.p.opened(); open != 0 {
		t.Errorf("%d spans of an ended request are open", open)
	}
	if v := r.look(as("ada")).Last; !v.Hidden || v.Calls != nil {
		t.Errorf("a request that is too long to be shown: %+v", v)
	}
	r.request("ada", "request", func(ctx context.Context) {
		for range 200 {
			_, s := r.tracer.Start(ctx, "s")
			s.End()
		}
	})
	if v := r.look(as("ada")).Last; v.Hidden || len(v.Trace.Children) != 200 {
		t.Errorf("a long request: %+v", v)
	}
	for i := range 2000 {
		r.request(fmt.Sprint("user", i), "request", func(context.Context) {})
	}
	if v := r.look(as("ada")); v.Last != nil || v.Totals.Requests != 0 {
		t.Errorf("what is known of 2,000 users ago: %+v", v)
	}
	if got := r.trace(as("user1999")); got != "request" {
		t.Errorf("the newest trace is not kept: %q", got)
	}
	if n := r.p.users.Len(); n > maxUsers {
		t.Errorf("%d users are kept", n)
	}
}

func TestRequestsAtOnce(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			user := fmt.Sprint("user", n%4)
			for range 10 {
				r.request(user, user, func(ctx context.Context) { _, _ = r.s.LoadThread(ctx, "thr") })
				if got := r.trace(as(user)); got != "" && !strings.Contains(got, user) && !strings.Contains(got, "load_thread") {
					t.Errorf("%s sees %s", user, got)
				}
			}
		})
	}
	wg.Wait()
}

// probes has the calls with which a stranger may try whether a row exists. Some answer a stranger with a success.
var probes = map[string]func(ctx context.Context, s store.Store, thread string, message chat.Item) error{
	"load_thread": func(ctx context.Context, s store.Store, thread string, _ chat.Item) error {
		_, err := s.LoadThread(ctx, thread)
		return err
	},
	"save_thread": func(ctx context.Context, s store.Store, thread string, _ chat.Item) error {
		return s.SaveThread(store.WithSaveMode(ctx, store.UpdateOnly), chat.Thread{ID: thread, CreatedAt: time.Now()})
	},
	"delete_thread": func(ctx context.Context, s store.Store, thread string, _ chat.Item) error {
		return s.DeleteThread(ctx, thread)
	},
	"load_thread_items": func(ctx context.Context, s store.Store, thread string, _ chat.Item) error {
		_, err := s.LoadThreadItems(ctx, thread, store.PageQuery{})
		return err
	},
	"load_item": func(ctx context.Context, s store.Store, thread string, it chat.Item) error {
		_, err := s.LoadItem(ctx, thread, it.ID)
		return err
	},
	"add_thread_item": func(ctx context.Context, s store.Store, thread string, it chat.Item) error {
		it.ID += "_new"
		return s.AddThreadItem(ctx, thread, it)
	},
	"save_item": func(ctx context.Context, s store.Store, thread string, it chat.Item) error {
		return s.SaveItem(ctx, thread, it)
	},
	"delete_thread_item": func(ctx context.Context, s store.Store, thread string, it chat.Item) error {
		return s.DeleteThreadItem(ctx, thread, it.ID)
	},
	"load_attachment": func(ctx context.Context, s store.Store, thread string, _ chat.Item) error {
		_, err := s.LoadAttachment(ctx, "atc_"+thread)
		return err
	},
	"save_attachment": func(ctx context.Context, s store.Store, thread string, _ chat.Item) error {
		return s.SaveAttachment(store.WithSaveMode(ctx, store.UpdateOnly), chat.Attachment{ID: "atc_" + thread})
	},
	"delete_attachment": func(ctx context.Context, s store.Store, thread string, _ chat.Item) error {
		return s.DeleteAttachment(ctx, "atc_"+thread)
	},
}

// Two strangers make the same requests. One asks about rows that exist, the other about rows that do not. Their panels are
// equal in each byte, while the requests run and after them, whatever is cached.
func TestAStrangerCannotTellWhetherARowExists(t *testing.T) {
	for _, warm := range []bool{false, true} {
		r := newRig(t)
		own := r.base // not cached
		if warm {
			own = r.s
		}
		owner := store.Principal{Owner: chat.Owner{Subject: "ada"}}
		ctx := as("ada")
		testenv.Must(t, own.SaveThread(ctx, chat.Thread{ID: "exists", CreatedAt: time.Now(), Owner: owner.Owner}))
		testenv.Must(t, own.AddThreadItem(ctx, "exists", message(t, "exists")))
		a := testenv.Value(chat.NewAttachment("atc_exists", chat.AttachmentBody{Type: "file", Name: "n", MIMEType: "text/plain"}))(t)
		a.Owner = owner.Owner
		testenv.Must(t, own.SaveAttachment(ctx, a))
		if warm {
			testenv.Value(own.LoadThreadItems(ctx, "exists", store.PageQuery{}))(t)
			testenv.Value(own.LoadItem(ctx, "exists", "msg_exists"))(t)
			testenv.Value(own.LoadAttachment(ctx, "atc_exists"))(t)
		}
		for name, probe := range probes {
			seen := map[string][]string{}
			for _, thread := range []string{"exists", "missing"} {
				stranger := name + thread
				r.request(stranger, "request", func(ctx context.Context) {
					err := probe(ctx, r.s, thread, message(t, thread))
					seen[thread] = append(seen[thread], fmt.Sprint(store.CodeOf(err)), r.raw(as(stranger)))
				})
				seen[thread] = append(seen[thread], r.raw(as(stranger)))
			}
			if diff := cmp.Diff(seen["exists"], seen["missing"]); diff != "" {
				t.Errorf("%s, cached: %v: the row exists and is missing:\n%s", name, warm, diff)
			}
			if last := seen["exists"][2]; strings.Contains(last, "_ms\":0.") || strings.Contains(last, "load") {
				t.Errorf("%s, cached: %v: the panel shows %s", name, warm, last)
			}
		}
	}
	if len(probes) != len(store.Ops())-1 { // load_threads names no row
		t.Errorf("%d probes", len(probes))
	}
}

// What a call found is not shown before the call has ended, because it may still be refused.
func TestACallUnderWayShowsNothing(t *testing.T) {
	r := newRig(t)
	r.request("ada", "request", func(ctx context.Context) {
		under, outer := r.tracer.Start(ctx, "load_thread", trace.WithAttributes(attribute.String("chatstore.layer", outerLayer)))
		_, base := r.tracer.Start(under, "load_thread", trace.WithAttributes(attribute.String("chatstore.layer", baseLayer)))
		before := r.raw(as("ada"))
		base.End()
		if got := r.raw(as("ada")); got != before {
			t.Errorf("the base has answered:\n%s\nbefore:\n%s", got, before)
		}
		outer.SetAttributes(attribute.String("chatstore.code", "ok"))
		outer.End()
		if got := r.trace(as("ada")); got != "request(load_thread(base:load_thread))" {
			t.Errorf("trace: %s", got)
		}
	})
}

// turn turns a user's cache on or off, and returns the status.
func (r *rig) turn(user, contentType, body string) int {
	q := httptest.NewRequest("POST", "/panel", strings.NewReader(body)).WithContext(as(user))
	q.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	r.p.Handler(nil).ServeHTTP(w, q)
	return w.Code
}

func TestTheSwitchTurnsTheCacheOffForItsUser(t *testing.T) {
	r := newRig(t)
	read := func(user string) *view {
		r.request(user, "read", func(ctx context.Context) {
			testenv.Value(r.s.LoadThread(ctx, user))(t)
			testenv.Value(r.s.LoadThread(ctx, user))(t)
		})
		return r.look(as(user)).Last
	}
	r.make("ada", "ada")
	r.make("grace", "grace")
	if v := read("ada"); v.Calls.BaseReads != 0 || !v.Cache {
		t.Errorf("with the cache: %+v", v.Calls)
	}
	if code := r.turn("ada", "application/json; charset=utf-8", `{"cache": false}`); code != 200 {
		t.Errorf("off: %d", code)
	}
	if v := read("ada"); *v.Calls != (calls{Reads: 2, Lookups: 2, BaseReads: 2}) || v.Cache || r.look(as("ada")).Cache {
		t.Errorf("without the cache: %+v", v.Calls)
	}
	if v := read("grace"); v.Calls.BaseReads != 0 || !v.Cache {
		t.Errorf("another user: %+v", v.Calls)
	}
	if code := r.turn("ada", "application/json", `{"cache": true}`); code != 200 {
		t.Errorf("on: %d", code)
	}
	if v := read("ada"); v.Calls.BaseReads != 0 || !v.Cache {
		t.Errorf("with the cache again: %+v", v.Calls)
	}
}

func TestABadSwitchIsRefused(t *testing.T) {
	r := newRig(t)
	off := `{"cache": false}`
	for _, c := range []struct {
		contentType, body string
		want              int
	}{
		{"", off, 415}, {"text/plain", off, 415}, {"application/x-www-form-urlencoded", off, 415},
		{"application/json", "", 400}, {"application/json", "{}", 400}, {"application/json", `{"cache": "no"}`, 400},
		{"application/json", off + off, 400}, {"application/json", `{"cache": false, "more": 1}`, 400},
		{"application/json", strings.Repeat(" ", 2000) + off, 400},
	} {
		if got := r.turn("ada", c.contentType, c.body); got != c.want {
			t.Errorf("%q %.30q: %d, want %d", c.contentType, c.body, got, c.want)
		}
		if !r.look(as("ada")).Cache {
			t.Errorf("%q %.30q: the cache is off", c.contentType, c.body)
		}
	}
}

// A handler may refuse what the store has let pass.
func TestAFailedRequestIsHidden(t *testing.T) {
	r := newRig(t)
	r.make("ada", "thr")
	for status, want := range map[int]bool{200: false, 206: false, 403: true, 404: true, 500: true} {
		r.request("ada", "request", func(ctx context.Context) {
			testenv.Value(r.s.LoadThread(ctx, "thr"))(t)
			trace.SpanFromContext(ctx).SetAttributes(attribute.Int("http.response.status_code", status))
		})
		if v := r.look(as("ada")).Last; v.Hidden != want || v.Hidden != (v.Calls == nil) || v.Hidden != (v.Trace == nil) {
			t.Errorf("%d: %+v", status, v)
		}
	}
	if n := r.look(as("ada")).Totals; n.Hidden != 3 || n.Reads != 2 {
		t.Errorf("totals: %+v", n)
	}
}
