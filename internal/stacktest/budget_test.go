package stacktest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// These benchmarks measure the budgets: the cost of a cached read, and of a read through the stack. Each alternates with the
// reference R, which is lru.Cache[string, chat.Thread].Get, and reports the ratio of the least costs as xR. Ratios differ less between
// machines than times do.
//
//	go test -run '^$' -bench Budget ./internal/stacktest

const threadID = "thr_1a2b3c4d"

var ada = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}}

// caller returns the context of a request, with a principal and an unsampled parent span.
func caller(ctx context.Context) context.Context {
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	return store.WithPrincipal(trace.ContextWithSpanContext(ctx, parent), ada)
}

func seed(tb testing.TB, s store.Store, items int) {
	tb.Helper()
	ctx := store.WithPrincipal(tb.Context(), ada)
	must(tb, s.SaveThread(ctx, chat.Thread{ID: threadID, Title: "A chat about budgets", CreatedAt: noon, Owner: ada.Owner}))
	for i := range items {
		it := testenv.OrPanic(chat.NewItem(fmt.Sprintf("msg_%08d", i), noon.Add(time.Duration(i)*time.Second),
			chat.AssistantMessage{Content: []chat.AssistantContent{{Type: "output_text", Text: "a line of text, as answers are made of"}}}))
		must(tb, s.AddThreadItem(ctx, threadID, it))
	}
}

var must = testenv.Must

// ratio reports the cost of f as a multiple of R.
func ratio(b *testing.B, f func()) { spy.InTurns(b, "xR", f, spy.Reference(b)) }

func BenchmarkBudgetCachedLoadThread(b *testing.B) {
	s := store.Wrap(memstore.New(), cache.New())
	defer store.Close(s)
	seed(b, s, 30)
	ctx := b.Context()
	ratio(b, func() { load(b, ctx, s) })
}

func BenchmarkBudgetRecommendedStackLoadThread(b *testing.B) {
	s, _ := recommended(b)
	seed(b, s, 30)
	ctx := caller(b.Context())
	ratio(b, func() { load(b, ctx, s) })
}

func BenchmarkBudgetRecommendedStackNewest20(b *testing.B) {
	s, _ := recommended(b)
	seed(b, s, 100)
	ctx := caller(b.Context())
	ratio(b, func() { page(b, ctx, s) })
}

func BenchmarkBudgetCachedNewest20(b *testing.B) {
	s := store.Wrap(memstore.New(), cache.New())
	defer store.Close(s)
	seed(b, s, 100)
	ctx := b.Context()
	ratio(b, func() { page(b, ctx, s) })
}

// usual is a stack as many programs have it. It builds span options and attributes for every call, and looks up metrics by their
// labels. A generic cache keeps JSON under a joined string key. A separate query checks the owner.
type usual struct {
	base     store.Store
	tracer   trace.Tracer
	duration *prometheus.HistogramVec
	calls    *prometheus.CounterVec
	cache    *lru.Cache[string, []byte]
}

func newUsual(base store.Store) *usual {
	return &usual{
		base: base, cache: testenv.OrPanic(lru.New[string, []byte](1000)), tracer: sdktrace.NewTracerProvider().Tracer("usual"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "duration_seconds"}, []string{"operation", "status"}),
		calls:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total"}, []string{"operation", "code"}),
	}
}

func (u *usual) LoadThread(ctx context.Context, id string) (t chat.Thread, err error) {
	ctx, span := u.tracer.Start(ctx, "store.LoadThread", trace.WithSpanKind(trace.SpanKindInternal),
		trace.WithAttributes(attribute.String("operation", "load_thread"), attribute.String("thread.id", id)))
	begin := time.Now()
	defer func() {
		status := store.CodeOf(err).String()
		u.duration.WithLabelValues("load_thread", status).Observe(time.Since(begin).Seconds())
		u.calls.WithLabelValues("load_thread", status).Inc()
		span.SetAttributes(attribute.String("code", status))
		span.End()
	}()
	p, _ := store.PrincipalFrom(ctx)
	if row, err := u.base.LoadThread(ctx, id); err != nil || row.Owner != p.Owner {
		return chat.Thread{}, store.ErrNotFound
	}
	key := fmt.Sprintf("thread:%s:%s:%s", p.Owner.Tenant, p.Owner.Subject, id)
	if text, ok := u.cache.Get(key); ok {
		err = json.Unmarshal(text, &t)
		return t, err
	}
	if t, err = u.base.LoadThread(ctx, id); err != nil {
		return t, err
	}
	text, err := json.Marshal(t)
	u.cache.Add(key, text)
	return t, err
}

func (u *usual) load(tb testing.TB, ctx context.Context) {
	if th, err := u.LoadThread(ctx, threadID); err != nil || th.ID != threadID {
		tb.Fatal(th, err)
	}
}

// BenchmarkBudgetAgainstTheUsualStack compares the recommended stack with the usual one. Both are warm, over a base in memory. Over
// a database, the usual stack's query for the owner would also cost a round trip.
func BenchmarkBudgetAgainstTheUsualStack(b *testing.B) {
	s, base := recommended(b)
	seed(b, s, 30)
	u := newUsual(base)
	ctx := caller(b.Context())
	ours, theirs := spy.Turns(b.Loop, 1000, func() { load(b, ctx, s) }, func() { u.load(b, ctx) })
	b.ReportMetric(float64(theirs)/float64(ours), "x-faster")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkBudgetCoalescedMiss measures the cost of a shared load and of storing its answer, without the load itself. Two threads
// alternate in a cache of one entry, so every read misses.
func BenchmarkBudgetCoalescedMiss(b *testing.B) {
	base := memstore.New()
	s := store.Wrap(base, cache.New(cache.WithMaxEntries(1)))
	defer store.Close(s)
	ctx := b.Context()
	ids := []string{threadID, "thr_other"}
	for _, id := range ids {
		must(b, base.SaveThread(ctx, chat.Thread{ID: id, CreatedAt: noon}))
	}
	read := func(s store.Store) func() {
		n := 0
		return func() {
			n++
			must(b, errOf(s.LoadThread(ctx, ids[n%2])))
		}
	}
	miss, bare := spy.Turns(b.Loop, 200, read(s), read(base))
	b.ReportMetric(float64(miss-bare), "ns-over-bare")
	b.ReportMetric(testing.AllocsPerRun(200, read(s))-testing.AllocsPerRun(200, read(base)), "allocs-over-bare")
	b.ReportMetric(0, "ns/op")
	if counted(s, "chatstore_cache_requests_total", "hit") > 0 {
		b.Fatal("some reads were cache hits")
	}
}

func load(tb testing.TB, ctx context.Context, s store.Store) {
	if th, err := s.LoadThread(ctx, threadID); err != nil || th.ID != threadID {
		tb.Fatal(th, err)
	}
}

func page(tb testing.TB, ctx context.Context, s store.Store) {
	if p, err := s.LoadThreadItems(ctx, threadID, store.PageQuery{}); err != nil || len(p.Data) != 20 {
		tb.Fatal(len(p.Data), err)
	}
}

// TestBudgetAllocations checks the exact numbers of allocations.
func TestBudgetAllocations(t *testing.T) {
	alone := store.Wrap(memstore.New(), cache.New())
	t.Cleanup(func() { must(t, store.Close(alone)) })
	seed(t, alone, 100)
	stack, _ := recommended(t)
	seed(t, stack, 100)
	ctx := caller(t.Context())
	for _, c := range []struct {
		name string
		want float64
		f    func()
	}{
		{"cached LoadThread", 0, func() { load(t, t.Context(), alone) }},
		{"cached newest 20", 1, func() { page(t, t.Context(), alone) }},
		{"recommended stack, LoadThread", 0, func() { load(t, ctx, stack) }},
		{"recommended stack, newest 20", 1, func() { page(t, ctx, stack) }},
	} {
		if n := testing.AllocsPerRun(200, c.f); n != c.want {
			t.Errorf("%s: %v allocations, want %v", c.name, n, c.want)
		}
	}
}

// TestBudgetRatios fails if the ratios of the benchmarks get much worse. Each bound is two to four times the usual ratio.
func TestBudgetRatios(t *testing.T) {
	if !tryAll() {
		t.Skip("this test compares speeds: it needs a quiet machine, no race detector, and CHATSTORE_FULL=1")
	}
	alone := store.Wrap(memstore.New(), cache.New())
	t.Cleanup(func() { must(t, store.Close(alone)) })
	seed(t, alone, 100)
	stack, base := recommended(t)
	seed(t, stack, 100)
	ctx, u, r := caller(t.Context()), newUsual(base), spy.Reference(t)
	cached, recommended := func() { load(t, t.Context(), alone) }, func() { load(t, ctx, stack) }
	for _, c := range []struct {
		name   string
		most   float64
		f, ref func()
	}{
		{"cached LoadThread against R", 8, cached, r},
		{"cached newest 20 against R", 40, func() { page(t, t.Context(), alone) }, r},
		{"recommended stack, LoadThread, against R", 30, recommended, r},
		{"recommended stack, newest 20, against R", 90, func() { page(t, ctx, stack) }, r},
		{"recommended stack, LoadThread, against the usual one", 0.4, recommended, func() { u.load(t, ctx) }},
	} {
		n := 0
		cost, ref := spy.Turns(func() bool { n++; return n <= 50 }, 500, c.f, c.ref)
		if ratio := float64(cost) / float64(ref); ratio > c.most {
			t.Errorf("%s: %.1f, want at most %v", c.name, ratio, c.most)
		}
	}
}

// TestBudgetColdStampedeIsOneRead has 1,000 concurrent readers of a cold thread. It does not use synctest, so that some readers
// come while the first load ends.
func TestBudgetColdStampedeIsOneRead(t *testing.T) {
	for range 20 {
		base := faulty.New(memstore.New())
		seed(t, base, 30)
		base.Reset()
		s := store.Wrap(base, cache.New())
		var readers sync.WaitGroup
		for range 1000 {
			readers.Go(func() { load(t, t.Context(), s) })
		}
		readers.Wait()
		must(t, store.Close(s))
		if n := base.Total(); n != 1 {
			t.Fatalf("1,000 readers cost %d base reads, want 1", n)
		}
	}
}
