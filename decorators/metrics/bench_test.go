package metrics_test

import (
	"context"
	"testing"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// The benchmarks run what they measure in turns with what it is compared to, and report the ratio of the medians: times
// differ between machines, ratios hardly. R is the reference of the project's budgets, lru.Cache[string, chat.Thread].Get.
//
//	go test -run '^$' -bench Metrics ./decorators/metrics

// empty is a base that costs nothing.
type empty struct{ store.Store }

func (empty) LoadThread(context.Context, string) (chat.Thread, error) { return chat.Thread{}, nil }

func BenchmarkMetricsLoadThread(b *testing.B) {
	s := store.Wrap(empty{}, newLayer(b, prometheus.NewRegistry()))
	spy.InTurns(b, "xR", func() { _, _ = s.LoadThread(b.Context(), "thr_1a2b3c4d") }, reference(b))
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
	spy.InTurns(b, "x-bare-observer",
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
