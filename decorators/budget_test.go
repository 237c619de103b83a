package decorators_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// The benchmarks of DESIGN's budgets. Each measures the reference R, lru.Cache[string, store.Thread].Get, in turns with what
// it is about, and reports the ratio of the medians as xR: times differ between machines, ratios hardly.
//
//	go test -run '^$' -bench Budget ./decorators

const threadID = "thr_1a2b3c4d"

var ada = store.Principal{Owner: store.Owner{Tenant: "acme", Subject: "ada"}}

// caller is the context of a request: a principal, an unsampled parent span, and a deadline's worth of nesting.
func caller(ctx context.Context) context.Context {
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	return store.WithPrincipal(trace.ContextWithSpanContext(ctx, parent), ada)
}

func seed(tb testing.TB, s store.Store, items int) {
	tb.Helper()
	ctx := store.WithPrincipal(tb.Context(), ada)
	must(tb, s.SaveThread(ctx, store.Thread{ID: threadID, Title: "A chat about budgets", CreatedAt: noon, Owner: ada.Owner}))
	for i := range items {
		it, err := store.NewItem(fmt.Sprintf("msg_%08d", i), noon.Add(time.Duration(i)*time.Second),
			store.AssistantMessage{Content: []store.AssistantContent{{Type: "output_text", Text: "a line of text, as answers are made of"}}})
		must(tb, err)
		must(tb, s.AddThreadItem(ctx, threadID, it))
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// reference makes R.
func reference(tb testing.TB) func() {
	c, err := lru.New[string, store.Thread](1000)
	must(tb, err)
	for i := range 999 {
		c.Add(fmt.Sprintf("thr_%08d", i), store.Thread{})
	}
	c.Add(threadID, store.Thread{ID: threadID})
	return func() {
		if _, ok := c.Get(threadID); !ok {
			tb.Fatal("the reference missed")
		}
	}
}

// ratio runs f and ref in turns of equal length, and reports f's median turn over ref's.
func ratio(b *testing.B, ref, f func()) {
	const turn = 2000
	var fs, refs []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		begin := time.Now()
		for range turn {
			f()
		}
		fs = append(fs, time.Since(begin))
		b.StopTimer()
		begin = time.Now()
		for range turn {
			ref()
		}
		refs = append(refs, time.Since(begin))
		b.StartTimer()
	}
	report(b, median(fs)/turn, median(refs)/turn)
}

func report(b *testing.B, f, ref time.Duration) {
	b.ReportMetric(float64(f)/float64(ref), "xR")
	b.ReportMetric(float64(f), "ns/call")
	b.ReportMetric(float64(ref), "R-ns")
	b.ReportMetric(0, "ns/op") // of a turn of many: of no use
}

func median(d []time.Duration) time.Duration {
	d = append([]time.Duration(nil), d...)
	for i := 1; i < len(d); i++ {
		for j := i; j > 0 && d[j] < d[j-1]; j-- {
			d[j], d[j-1] = d[j-1], d[j]
		}
	}
	return d[len(d)/2]
}

func BenchmarkBudgetCachedLoadThread(b *testing.B) {
	s := store.Wrap(memstore.New(), cache.New())
	defer store.Close(s)
	seed(b, s, 30)
	ctx := b.Context()
	ratio(b, reference(b), func() { load(b, ctx, s) })
}

func BenchmarkBudgetRecommendedStackLoadThread(b *testing.B) {
	s, _ := recommended(b)
	seed(b, s, 30)
	ctx := caller(b.Context())
	ratio(b, reference(b), func() { load(b, ctx, s) })
}

func BenchmarkBudgetRecommendedStackNewest20(b *testing.B) {
	s, _ := recommended(b)
	seed(b, s, 100)
	ctx := caller(b.Context())
	ratio(b, reference(b), func() { page(b, ctx, s) })
}

func BenchmarkBudgetCachedNewest20(b *testing.B) {
	s := store.Wrap(memstore.New(), cache.New())
	defer store.Close(s)
	seed(b, s, 100)
	ctx := b.Context()
	ratio(b, reference(b), func() { page(b, ctx, s) })
}

// A coalesced miss against the bare call: what a shared load costs beside the load.
func BenchmarkBudgetCoalescedMiss(b *testing.B) {
	base := memstore.New()
	s := store.Wrap(base, cache.New())
	defer store.Close(s)
	seed(b, s, 30)
	ctx := b.Context()
	fresh := ctx
	var misses atomic.Int64
	ratioOver(b, func() { load(b, fresh, base) }, func() {
		must(b, s.DeleteThread(ctx, "thr_of_nobody")) // nothing
		misses.Add(1)
		_, _ = s.LoadThread(ctx, "thr_of_nobody") // absent rows are not cached: always a miss
	})
}

// ratioOver is ratio, but reports the difference per call.
func ratioOver(b *testing.B, bare, f func()) {
	const turn = 200
	var fs, bares []time.Duration
	for b.Loop() {
		begin := time.Now()
		for range turn {
			f()
		}
		fs = append(fs, time.Since(begin))
		begin = time.Now()
		for range turn {
			bare()
		}
		bares = append(bares, time.Since(begin))
	}
	b.ReportMetric(float64(median(fs)-median(bares))/turn, "ns-over-bare")
	b.ReportMetric(0, "ns/op")
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

// The allocations of the budgets are exact, and so are tests.
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

// A stampede of 1,000 on a cold thread, through the whole recommended stack.
func TestBudgetColdStampede(t *testing.T) {
	var reads atomic.Int64
	gate := make(chan struct{})
	held := store.Intercept("gate", store.InterceptorFunc(
		func(ctx context.Context, c store.Call, next func(context.Context) error) error {
			if !c.Op.IsWrite() {
				reads.Add(1)
				<-gate
			}
			return next(ctx)
		}))
	base := memstore.New()
	seed(t, base, 30)
	s := store.Wrap(base, cache.New(), held)
	t.Cleanup(func() { must(t, store.Close(s)) })
	var wg sync.WaitGroup
	var waiting sync.WaitGroup
	for range 1000 {
		waiting.Add(1)
		wg.Go(func() {
			waiting.Done()
			load(t, t.Context(), s)
		})
	}
	waiting.Wait()
	close(gate)
	wg.Wait()
	if n := reads.Load(); n != 1 {
		t.Errorf("1000 readers cost %d base reads", n)
	}
}

var _ = sdktrace.AlwaysSample
