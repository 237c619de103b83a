package tracing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// record returns a provider that samples every span, and the recorder of its spans.
func record(opts ...sdktrace.TracerProviderOption) (*sdktrace.TracerProvider, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	return sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(r))...), r
}

// open wraps base in a layer, and returns the recorder of its spans.
func open(base store.Store, opts ...tracing.Option) (store.Store, *tracetest.SpanRecorder) {
	tp, r := record()
	return store.Wrap(base, tracing.New(append(opts, tracing.WithTracerProvider(tp))...)), r
}

// callAll makes a call of every op. Each must succeed.
func callAll(ctx context.Context, t *testing.T, s store.Store) {
	t.Helper()
	for _, op := range store.Ops() {
		if err := spy.CallOp(ctx, s, op); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// attributesOf returns the span's attributes as text, without the operation and the layer.
func attributesOf(s sdktrace.ReadOnlySpan) map[string]string {
	m := map[string]string{}
	for _, kv := range s.Attributes() {
		m[string(kv.Key)] = kv.Value.String()
	}
	delete(m, "chatstore.operation")
	delete(m, "chatstore.layer")
	return m
}

// all ends the test unless exactly want spans have started and ended.
func all(t *testing.T, r *tracetest.SpanRecorder, want int) {
	t.Helper()
	if started, ended := len(r.Started()), len(r.Ended()); started != want || ended != want {
		t.Fatalf("%d spans started and %d ended, want %d", started, ended, want)
	}
}

func one(t *testing.T, r *tracetest.SpanRecorder) sdktrace.ReadOnlySpan {
	t.Helper()
	all(t, r, 1)
	return r.Ended()[0]
}

func TestEveryMethodReachesTheBaseOnceWithOneSpan(t *testing.T) {
	methods := reflect.TypeFor[store.Store]()
	for m := range methods.Methods() {
		t.Run(m.Name, func(t *testing.T) {
			tp, r := record()
			ctx := store.WithSaveMode(t.Context(), store.UpdateOnly)
			inner := spy.Through(ctx, t, tracing.New(tracing.WithTracerProvider(tp)), m)
			if store.SaveModeFrom(inner) != store.UpdateOnly {
				t.Error("the caller's context did not reach the base")
			}
			if strings.HasPrefix(m.Name, "Generate") {
				if n := len(r.Started()); n != 0 {
					t.Errorf("%d spans, want none for a method that generates ids", n)
				}
				return
			}
			span := one(t, r)
			if got, want := strings.ReplaceAll(span.Name(), "_", ""), strings.ToLower(m.Name); got != want {
				t.Errorf("the span is named %s, want %s", span.Name(), want)
			}
			if got := trace.SpanFromContext(inner).SpanContext(); !got.Equal(span.SpanContext()) {
				t.Error("the span is not in the base's context")
			}
		})
	}
}

func TestEverySpanEnds(t *testing.T) {
	failures := []store.Code{store.CodeTimeout, store.CodeUnavailable, store.CodeInternal, store.CodePanic}
	for _, op := range store.Ops() {
		for _, o := range spy.Outcomes() {
			t.Run(op.String()+"/"+o.Name, func(t *testing.T) {
				tp, r := record()
				o.Through(t, tracing.New(tracing.WithTracerProvider(tp)), op)
				span := one(t, r)
				attrs := attributesOf(span)
				if got := attrs["chatstore.code"]; got != o.Code.String() {
					t.Errorf("chatstore.code is %q, want %q", got, o.Code)
				}
				status, errorType := sdktrace.Status{}, ""
				if slices.Contains(failures, o.Code) {
					status, errorType = sdktrace.Status{Code: codes.Error}, o.Code.String()
				}
				if span.Status() != status || attrs["error.type"] != errorType {
					t.Errorf("status %+v with error.type %q, want %+v with %q", span.Status(), attrs["error.type"], status, errorType)
				}
				if len(span.Events()) != 0 {
					t.Errorf("the span has events: %v", span.Events())
				}
				if o.Code != store.CodeOK && attrs["chatstore.page.items"] != "" {
					t.Error("page.items is set though no page was returned")
				}
			})
		}
	}
}

func TestACancelledCallEndsItsSpan(t *testing.T) {
	s, r := open(&spy.Base{Do: func(ctx context.Context, _ store.Op) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, op := range store.Ops() {
		if err := spy.CallOp(ctx, s, op); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", op, err)
		}
	}
	all(t, r, len(store.Ops()))
	for _, span := range r.Ended() {
		if span.Status().Code != codes.Unset {
			t.Errorf("%s: the status is %v after the caller's own cancellation, want unset", span.Name(), span.Status())
		}
	}
}

func TestAttributesOfEachOp(t *testing.T) {
	item := map[string]string{
		"gen_ai.conversation.id": "thr_1", "chatstore.item.id": "msg_1", "chatstore.item.type": "user_message", "chatstore.code": "ok",
	}
	thread := map[string]string{"gen_ai.conversation.id": "thr_1", "chatstore.code": "ok"}
	itemID := map[string]string{"gen_ai.conversation.id": "thr_1", "chatstore.item.id": "msg_1", "chatstore.code": "ok"}
	attachment := map[string]string{"chatstore.attachment.id": "atc_1", "chatstore.code": "ok"}
	want := map[store.Op]map[string]string{
		store.OpLoadThread:   thread,
		store.OpSaveThread:   thread,
		store.OpDeleteThread: thread,
		store.OpLoadThreads: {
			"chatstore.page.limit": "7", "chatstore.page.items": "2", "chatstore.page.has_more": "false", "chatstore.code": "ok",
		},
		store.OpLoadThreadItems: {
			"gen_ai.conversation.id": "thr_1", "chatstore.page.limit": "3", "chatstore.page.items": "3",
			"chatstore.page.has_more": "true", "chatstore.code": "ok",
		},
		store.OpAddThreadItem:    item,
		store.OpSaveItem:         item,
		store.OpLoadItem:         itemID,
		store.OpDeleteThreadItem: itemID,
		store.OpSaveAttachment:   attachment,
		store.OpLoadAttachment:   attachment,
		store.OpDeleteAttachment: attachment,
	}
	for _, op := range store.Ops() {
		t.Run(op.String(), func(t *testing.T) {
			s, r := open(&spy.Base{}, tracing.WithLayer("backend"),
				tracing.WithAttributes(attribute.String("db.system.name", "sqlite"), attribute.String("chatstore.layer", "mine")))
			testenv.Must(t, spy.CallOp(t.Context(), s, op))
			span := one(t, r)
			want[op]["db.system.name"] = "sqlite" // ops may share the map
			if diff := cmp.Diff(want[op], attributesOf(span)); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			all := attribute.NewSet(span.Attributes()...)
			for key, want := range map[attribute.Key]string{"chatstore.operation": op.String(), "chatstore.layer": "backend"} {
				if v, _ := all.Value(key); v.AsString() != want {
					t.Errorf("%s is %q, want %q", key, v.AsString(), want)
				}
			}
			if span.SpanKind() != trace.SpanKindInternal || span.Name() != op.String() {
				t.Errorf("the span has kind %v and name %q", span.SpanKind(), span.Name())
			}
			if got := span.InstrumentationScope().Name; got != tracing.ScopeName {
				t.Errorf("scope %q", got)
			}
		})
	}
}

// unsampled returns a context with a valid parent that is not sampled.
func unsampled(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, Remote: true,
	}))
}

func TestBeneathAnUnsampledParentNothingIsStarted(t *testing.T) {
	base, p := &spy.Base{}, &countingProvider{TracerProvider: noop.NewTracerProvider()}
	s := store.Wrap(base, tracing.New(tracing.WithTracerProvider(p)))
	ctx := unsampled(t.Context())
	callAll(ctx, t, s)
	calls := base.Calls()
	for _, c := range calls {
		if c.Ctx != ctx {
			t.Errorf("%s: the context was changed", c.Method)
		}
	}
	if len(calls) != len(store.Ops()) {
		t.Errorf("%d calls reached the base, want %d", len(calls), len(store.Ops()))
	}
	if p.started != 0 {
		t.Errorf("%d spans started, want none", p.started)
	}
}

func TestBeneathAnUnsampledParentNothingIsAllocated(t *testing.T) {
	base := &spy.Base{Forget: true}
	s, _ := open(base)
	ctx := unsampled(t.Context())
	for _, op := range store.Ops() {
		// CallOp and the base allocate too.
		without := testing.AllocsPerRun(100, func() { _ = spy.CallOp(ctx, base, op) })
		if n := testing.AllocsPerRun(100, func() { _ = spy.CallOp(ctx, s, op) }); n != without {
			t.Errorf("%s: %v allocations, %v without the layer", op, n, without)
		}
	}
}

func TestAnUnrecordedSpanLeavesTheNotesOfOthersAlone(t *testing.T) {
	p := &countingProvider{TracerProvider: noop.NewTracerProvider()}
	s := store.Wrap(&spy.Base{}, tracing.New(tracing.WithTracerProvider(p)))
	ctx, notes := layer.WithNotes(t.Context(), store.OpLoadThread, nil)
	_ = spy.CallOp(ctx, s, store.OpLoadThread)
	notes.SetCache("hit")
	if cache, _, _ := notes.Close(); cache != "hit" {
		t.Error("the layer closed another layer's notes")
	}
}

func TestARootThatIsNotSampledStaysSoBeneath(t *testing.T) {
	tp, r := record(sdktrace.WithSampler(sdktrace.NeverSample()))
	base := &spy.Base{}
	s := store.Wrap(base, tracing.New(tracing.WithTracerProvider(tp)))
	testenv.Must(t, spy.CallOp(t.Context(), s, store.OpLoadThread))
	inner := base.Calls()[0].Ctx
	if sc := trace.SpanContextFromContext(inner); !sc.IsValid() || sc.IsSampled() {
		t.Errorf("the base's context has the span %v: a second layer beneath would ask the sampler again", sc)
	}
	if layer.HintsFor(inner, store.OpLoadThread).Notes != nil {
		t.Error("the base's context has notes, but there is no span to use them")
	}
	if len(r.Started()) != 0 {
		t.Error("a span was recorded")
	}
}

func TestNotesOfInnerLayersBecomeAttributes(t *testing.T) {
	leader := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{7}, SpanID: trace.SpanID{8}, TraceFlags: trace.FlagsSampled,
	})
	for name, tt := range map[string]struct {
		note  func(*layer.Notes)
		want  map[string]string
		links []trace.SpanContext
	}{
		"nothing noted": {func(*layer.Notes) {}, map[string]string{}, nil},
		"cache hit":     {func(n *layer.Notes) { n.SetCache("hit") }, map[string]string{"chatstore.cache.result": "hit"}, nil},
		"follower": {
			func(n *layer.Notes) { n.SetCache("miss"); n.SetFlight("follower", leader) },
			map[string]string{"chatstore.cache.result": "miss", "chatstore.flight.role": "follower"},
			[]trace.SpanContext{leader},
		},
		"leader, its own origin": {
			func(n *layer.Notes) { n.SetFlight("leader", n.Origin()) },
			map[string]string{"chatstore.flight.role": "leader"}, nil,
		},
		"follower of a caller without a span": {
			func(n *layer.Notes) { n.SetFlight("follower", nil) },
			map[string]string{"chatstore.flight.role": "follower"}, nil,
		},
		"follower of an invalid span": {
			func(n *layer.Notes) { n.SetFlight("follower", trace.SpanContext{}) },
			map[string]string{"chatstore.flight.role": "follower"}, nil,
		},
		"follower of something else": {
			func(n *layer.Notes) { n.SetFlight("follower", "a test's leader") },
			map[string]string{"chatstore.flight.role": "follower"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, op := range store.Ops() {
				if op.IsWrite() {
					continue // writes are neither cached nor shared
				}
				s, r := open(&spy.Base{Do: func(ctx context.Context, op store.Op) error {
					tt.note(layer.HintsFor(ctx, op).Notes)
					return nil
				}})
				_ = spy.CallOp(t.Context(), s, op)
				span := one(t, r)
				got := attributesOf(span)
				maps.DeleteFunc(got, func(k, _ string) bool {
					return !strings.HasPrefix(k, "chatstore.cache.") && !strings.HasPrefix(k, "chatstore.flight.")
				})
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", op, diff)
				}
				var links []trace.SpanContext
				for _, l := range span.Links() {
					links = append(links, l.SpanContext)
				}
				if !slices.EqualFunc(tt.links, links, trace.SpanContext.Equal) {
					t.Errorf("%s: links to %v, want %v", op, links, tt.links)
				}
			}
		})
	}
}

func TestAFollowerLinksToItsLeader(t *testing.T) {
	tp, r := record()
	var leader any
	base := &spy.Base{Do: func(ctx context.Context, op store.Op) error {
		notes := layer.HintsFor(ctx, op).Notes
		if leader == nil {
			leader = notes.Origin()
			notes.SetFlight("leader", leader)
		} else {
			notes.SetFlight("follower", leader)
		}
		return nil
	}}
	layer := tracing.New(tracing.WithTracerProvider(tp))
	_ = spy.CallOp(t.Context(), store.Wrap(base, layer), store.OpLoadItem)
	other := tracing.New(tracing.WithTracerProvider(tp), tracing.WithLayer("other"))
	_ = spy.CallOp(t.Context(), store.Wrap(base, other), store.OpLoadItem)
	spans := r.Ended()
	if n := len(spans[0].Links()); n != 0 {
		t.Errorf("the leader has %d links, want none", n)
	}
	if links := spans[1].Links(); len(links) != 1 || !links[0].SpanContext.Equal(spans[0].SpanContext()) {
		t.Errorf("the follower's links are %v, want the leader's span", links)
	}
}

func TestNoLinkToASpanThatIsNone(t *testing.T) {
	p := &countingProvider{TracerProvider: noop.NewTracerProvider(), recording: true}
	base := &spy.Base{Do: func(ctx context.Context, op store.Op) error {
		layer.HintsFor(ctx, op).Notes.SetFlight("follower",
			trace.NewSpanContext(trace.SpanContextConfig{SpanID: trace.SpanID{9}})) // has no trace id
		return nil
	}}
	_ = spy.CallOp(t.Context(), store.Wrap(base, tracing.New(tracing.WithTracerProvider(p))), store.OpLoadThread)
	if p.ended != 1 || p.linked != 0 {
		t.Errorf("%d spans ended with %d links, want 1 without links", p.ended, p.linked)
	}
}

func TestHostileIDsAreLeftOut(t *testing.T) {
	for name, id := range map[string]string{
		"too long": strings.Repeat("x", chat.MaxIDBytes+1), "not UTF-8": "thr_\xff", "control character": "thr_\n1", "empty": "",
	} {
		s, r := open(&spy.Base{})
		_, _ = s.LoadThread(t.Context(), id)
		_, _ = s.LoadItem(t.Context(), id, id)
		_, _ = s.LoadAttachment(t.Context(), id)
		for _, span := range r.Ended() {
			if diff := cmp.Diff(map[string]string{"chatstore.code": "ok"}, attributesOf(span)); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", name, span.Name(), diff)
			}
		}
		all(t, r, 3)
	}
}

func TestAPanicInTheTracerStillEndsTheSpan(t *testing.T) {
	p := &countingProvider{TracerProvider: noop.NewTracerProvider(), recording: true, panics: true}
	s := store.Wrap(&spy.Base{}, tracing.New(tracing.WithTracerProvider(p)))
	if recovered, _ := spy.Try(t.Context(), s, store.OpLoadThread); recovered == nil {
		t.Fatal("SetAttributes did not panic")
	}
	if p.started != 1 || p.ended != 1 {
		t.Errorf("%d spans started and %d ended, want 1 and 1", p.started, p.ended)
	}
}

// lateProvider sets the global provider. It runs once, because the API passes a global provider to older tracers only once in a
// process.
var lateProvider = sync.OnceValues(func() (before store.Store, r *tracetest.SpanRecorder) {
	before = store.Wrap(&spy.Base{}, tracing.New())
	tp, r := record()
	otel.SetTracerProvider(tp)
	return before, r
})

func TestTheGlobalProviderMayComeLater(t *testing.T) {
	s, r := lateProvider()
	n := len(r.Ended())
	testenv.Must(t, spy.CallOp(t.Context(), s, store.OpLoadThread))
	if got := len(r.Ended()) - n; got != 1 {
		t.Errorf("%d spans ended, want 1", got)
	}
}

func TestConcurrentCalls(t *testing.T) {
	s, r := open(&spy.Base{Forget: true})
	var wg sync.WaitGroup
	const callers = 8
	for range callers {
		wg.Go(func() { callAll(t.Context(), t, s) })
	}
	wg.Wait()
	all(t, r, callers*len(store.Ops()))
}

func TestLayerNames(t *testing.T) {
	s := store.Wrap(&spy.Base{Forget: true}, tracing.New(), tracing.New(tracing.WithLayer("backend")))
	if diff := cmp.Diff([]string{"tracing", "tracing(backend)"}, store.Layers(s)[:2]); diff != "" {
		t.Error(diff)
	}
}

func TestMisusePanicsWithASentence(t *testing.T) {
	for want, f := range map[string]func(){
		"tracing.WithTracerProvider: the provider is nil": func() { tracing.WithTracerProvider(nil) },
		"tracing.WithLayer: the name is empty":            func() { tracing.WithLayer("") },
	} {
		testenv.Panics(t, want, f)
	}
}

// countingProvider counts spans that start and end, and links. It also counts spans that are not recording.
type countingProvider struct {
	trace.TracerProvider
	recording bool
	panics    bool

	started, ended, linked int
}

func (p *countingProvider) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return countingTracer{p.TracerProvider.Tracer(name, opts...), p}
}

type countingTracer struct {
	trace.Tracer
	p *countingProvider
}

func (t countingTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t.p.started++
	_, span := t.Tracer.Start(ctx, name, opts...)
	span = &countingSpan{span, t.p}
	return trace.ContextWithSpan(ctx, span), span
}

type countingSpan struct {
	trace.Span
	p *countingProvider
}

func (s *countingSpan) IsRecording() bool          { return s.p.recording }
func (s *countingSpan) End(...trace.SpanEndOption) { s.p.ended++ }

func (s *countingSpan) AddLink(trace.Link) { s.p.linked++ }

func (s *countingSpan) SetAttributes(...attribute.KeyValue) {
	if s.p.panics {
		panic("SetAttributes panics")
	}
}

// TestOnlyReadsAreNoted checks that a write has no notes, because it is neither cached nor shared.
func TestOnlyReadsAreNoted(t *testing.T) {
	for _, op := range store.Ops() {
		noted := false
		s, _ := open(&spy.Base{Do: func(ctx context.Context, op store.Op) error {
			noted = layer.HintsFor(ctx, op).Notes != nil
			return nil
		}})
		_ = spy.CallOp(t.Context(), s, op)
		if noted == op.IsWrite() {
			t.Errorf("%s: its context has notes: %v, want %v", op, noted, !noted)
		}
	}
}

func TestNoContentInSpans(t *testing.T) {
	tp, r := record()
	layer := tracing.New(tracing.WithTracerProvider(tp))
	base := memstore.New()
	spy.Conversation(t.Context(), t, layer(base), base)
	for _, do := range spy.Leaks() {
		for _, op := range store.Ops() {
			_, _ = spy.Try(store.WithPrincipal(t.Context(), spy.Person), store.Wrap(&spy.Base{Do: do}, layer), op)
		}
	}

	seen := map[string]bool{}
	for _, span := range r.Ended() {
		seen[span.Name()] = true
		stub := tracetest.SpanStubFromReadOnlySpan(span)
		text := fmt.Sprintf("%+v\n%s", stub, testenv.OrPanic(json.Marshal(stub)))
		if strings.Contains(text, spy.Canary) {
			t.Errorf("span %s has content: %s", span.Name(), text)
		}
	}
	if len(seen) != len(store.Ops()) {
		t.Errorf("spans of %d ops, want all", len(seen))
	}
}
