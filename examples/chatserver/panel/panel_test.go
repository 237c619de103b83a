package panel

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// rig is a Panel over a real stack.
type rig struct {
	t      *testing.T
	p      *Panel
	s      store.Store
	tracer trace.Tracer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	reg := prometheus.NewRegistry()
	p := New(reg)
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p.SpanProcessor()))
	layer := func(name string) store.Middleware {
		return testenv.Value(metrics.New(reg, metrics.WithStore("chatserver"), metrics.WithLayer(name)))(t)
	}
	s := store.Wrap(memstore.New(), tracing.New(tracing.WithTracerProvider(tp)), layer("outer"),
		authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), layer("inner"))
	t.Cleanup(func() { testenv.Must(t, store.Close(s)) })
	return &rig{t, p, s, tp.Tracer("test")}
}

func as(user string) context.Context {
	return store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Subject: user}})
}

// request makes a followed request of a user.
func (r *rig) request(user, name string, do func(context.Context)) {
	ctx, root := r.tracer.Start(as(user), name)
	r.p.Follow(ctx)
	do(ctx)
	root.End()
}

type node struct {
	Name       string            `json:"name"`
	Attributes map[string]string `json:"attributes"`
	Children   []node            `json:"children"`
}

func (n node) String() string {
	var all []string
	for _, c := range n.Children {
		all = append(all, c.String())
	}
	if len(all) == 0 {
		return n.Name
	}
	return n.Name + "(" + strings.Join(all, " ") + ")"
}

type answer struct {
	Reads     float64 `json:"reads"`
	BaseReads float64 `json:"base_reads"`
	Saved     float64 `json:"base_reads_saved"`
	HitRatio  float64 `json:"hit_ratio"`
	Refused   float64 `json:"refusals"`
	Ops       []struct {
		Op    string  `json:"op"`
		Count int     `json:"count"`
		P50   float64 `json:"p50_ms"`
		P99   float64 `json:"p99_ms"`
	} `json:"ops"`
	Trace []node `json:"trace"`
}

func (r *rig) look(ctx context.Context) answer {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.p.ServeHTTP(w, httptest.NewRequest("GET", "/panel", nil).WithContext(ctx))
	var v answer
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != 200 {
		r.t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	return v
}

func (r *rig) trace(ctx context.Context) string {
	r.t.Helper()
	var all []string
	for _, n := range r.look(ctx).Trace {
		all = append(all, n.String())
	}
	return strings.Join(all, " ")
}

func TestTheNumbersAreThoseOfTheLayers(t *testing.T) {
	r := newRig(t)
	if v := r.look(as("ada")); v.Reads != 0 || v.HitRatio != 0 || len(v.Ops) != 0 {
		t.Errorf("before anything: %+v", v)
	}
	r.request("ada", "make", func(ctx context.Context) {
		testenv.Must(t, r.s.SaveThread(ctx, chat.Thread{ID: "thr", CreatedAt: time.Now()}))
	})
	for range 10 {
		testenv.Value(r.s.LoadThread(as("ada"), "thr"))(t)
	}
	if _, err := r.s.LoadThread(as("grace"), "thr"); err == nil {
		t.Fatal("grace reads ada's thread")
	}
	v := r.look(as("ada"))
	if v.Reads != 11 || v.BaseReads == 0 || v.BaseReads > 3 || v.Saved < 8 || v.Saved > 20 {
		t.Errorf("%v reads, %v of the base, %v saved", v.Reads, v.BaseReads, v.Saved)
	}
	if v.HitRatio < .5 || v.HitRatio > 1 || v.Refused != 1 {
		t.Errorf("hit ratio %v, %v refused", v.HitRatio, v.Refused)
	}
	if len(v.Ops) != 2 || v.Ops[0].Op != "load_thread" || v.Ops[0].Count != 11 {
		t.Errorf("ops: %+v", v.Ops)
	}
	for _, o := range v.Ops {
		if o.P50 <= 0 || o.P99 < o.P50 || math.IsInf(o.P99, 0) {
			t.Errorf("quantiles: %+v", o)
		}
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
		_, _ = r.s.LoadThread(ctx, "thr")
	})
	if got := r.trace(as("ada")); got != "request(save_thread outer(inner) load_thread)" {
		t.Errorf("trace: %s", got)
	}
	top := r.look(as("ada")).Trace[0]
	if load := top.Children[len(top.Children)-1]; load.Attributes["chatstore.cache.result"] == "" || load.Attributes["gen_ai.conversation.id"] != "" {
		t.Errorf("attributes: %v", load.Attributes)
	}
	r.request("ada", "another", func(context.Context) {})
	if got := r.trace(as("ada")); got != "another" {
		t.Errorf("the last trace: %s", got)
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

// The number of spans is limited, also of those that never end. They are forgotten with their trace.
func TestWhatIsKeptIsBounded(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.request("ada", "request", func(ctx context.Context) {
			for range 1000 {
				r.tracer.Start(ctx, "endless")
			}
		})
		if open := r.p.opened(); open == 0 || open > 200 {
			t.Errorf("%d open spans are kept", open)
		}
	}
	r.request("ada", "request", func(ctx context.Context) {
		for range 1000 {
			_, s := r.tracer.Start(ctx, "s")
			s.End()
		}
	})
	if got := strings.Count(r.trace(as("ada")), "s"); got > 202 {
		t.Errorf("%d spans of one request", got)
	}
	r.request("bob", "request", func(ctx context.Context) { r.tracer.Start(ctx, "endless") })
	for i := range 2000 {
		r.request(fmt.Sprint("user", i), "request", func(context.Context) {})
	}
	if open := r.p.opened(); open != 0 {
		t.Errorf("%d open spans of forgotten traces are kept", open)
	}
	if got := r.trace(as("ada")); got != "" {
		t.Errorf("the trace of 2,000 users ago is kept: %s", got)
	}
	if got := r.trace(as("user1999")); got != "request" {
		t.Errorf("the newest trace is not kept: %q", got)
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
