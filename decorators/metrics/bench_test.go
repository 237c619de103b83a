package metrics_test

import (
	"context"
	"slices"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// The benchmarks run what they measure in turns with what it is compared to, and report the ratio of the medians: times
// differ between machines, ratios hardly. R is the reference of the project's budgets, lru.Cache[string, chat.Thread].Get.
//
//	go test -run '^$' -bench Metrics ./decorators/metrics

// empty is a base that costs nothing.
type empty struct{ *spy }

func (empty) LoadThread(context.Context, string) (chat.Thread, error) { return chat.Thread{}, nil }

func BenchmarkMetricsLoadThread(b *testing.B) {
	s := store.Wrap(empty{}, newLayer(b, prometheus.NewRegistry()))
	compare(b, "xR", func() { _, _ = s.LoadThread(b.Context(), "thr_1a2b3c4d") }, reference(b))
}

func BenchmarkMetricsLoadThreadParallel(b *testing.B) {
	s := store.Wrap(empty{}, newLayer(b, prometheus.NewRegistry()))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = s.LoadThread(b.Context(), "thr_1a2b3c4d")
		}
	})
}

// BenchmarkMetricsOverBareObserver is what the counting costs, without what any Observer does.
func BenchmarkMetricsOverBareObserver(b *testing.B) {
	s := store.Wrap(empty{}, newLayer(b, prometheus.NewRegistry()))
	bare := store.Wrap(empty{}, layer.Observe("bare", bareObserver{}))
	compare(b, "x-bare-observer",
		func() { _, _ = s.LoadThread(b.Context(), "thr_1a2b3c4d") },
		func() { _, _ = bare.LoadThread(b.Context(), "thr_1a2b3c4d") })
}

type bareObserver struct{}

func (bareObserver) Begin(ctx context.Context, _ layer.Call) (context.Context, any) {
	return ctx, bareObserver{}
}
func (bareObserver) End(context.Context, layer.Call, layer.Result, any) {}

// reference makes R.
func reference(b *testing.B) func() {
	c, err := lru.New[string, chat.Thread](1000)
	if err != nil {
		b.Fatal(err)
	}
	c.Add("thr_1a2b3c4d", chat.Thread{ID: "thr_1a2b3c4d"})
	return func() {
		if _, ok := c.Get("thr_1a2b3c4d"); !ok {
			b.Fatal("the reference missed")
		}
	}
}

// compare runs f and ref in turns.
func compare(b *testing.B, unit string, f, ref func()) {
	const turn = 1000
	var fs, refs []time.Duration
	b.ReportAllocs()
	run := func(f func()) time.Duration {
		begin := time.Now()
		for range turn {
			f()
		}
		return time.Since(begin) / turn
	}
	for b.Loop() {
		fs = append(fs, run(f))
		b.StopTimer()
		refs = append(refs, run(ref))
		b.StartTimer()
	}
	slices.Sort(fs)
	slices.Sort(refs)
	mine, its := fs[len(fs)/2], refs[len(refs)/2]
	b.ReportMetric(float64(mine)/float64(its), unit)
	b.ReportMetric(float64(mine), "ns/call")
	b.ReportMetric(float64(its), "ns/reference")
	b.ReportMetric(testing.AllocsPerRun(1000, f), "allocs/call")
	b.ReportMetric(0, "ns/op") // of a turn: of no use
}
