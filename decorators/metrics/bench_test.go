package metrics_test

import (
	"context"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Each benchmark alternates with its reference and reports the ratio of their costs; xR is the ratio to [spy.Reference].
//
//	go test -run '^$' -bench Metrics ./decorators/metrics

// empty is a base that costs nothing.
type empty struct{ store.Store }

func (empty) LoadThread(context.Context, string) (chat.Thread, error) { return chat.Thread{}, nil }

func BenchmarkMetricsLoadThread(b *testing.B) {
	s := store.Wrap(empty{}, newLayer(b, prometheus.NewRegistry()))
	spy.InTurns(b, "xR", func() { _, _ = s.LoadThread(b.Context(), "thr_1a2b3c4d") }, spy.Reference(b))
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

// BenchmarkMetricsScrape gathers a layer that has seen successful and failed calls of every op.
func BenchmarkMetricsScrape(b *testing.B) {
	reg := prometheus.NewRegistry()
	base := &spy.Base{Forget: true}
	s := store.Wrap(base, newLayer(b, reg))
	for _, err := range []error{nil, store.ErrUnavailable} {
		base.Do = func(context.Context, store.Op) error { return err }
		var all sync.WaitGroup
		for range 200 { // to have counts in every stripe
			all.Go(func() { callAll(b, s) })
		}
		all.Wait()
	}
	b.ReportAllocs()
	for b.Loop() {
		_, err := reg.Gather()
		must(b, err)
	}
}

// BenchmarkMetricsOverBareObserver measures the cost of counting, compared with an Observer that does nothing.
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
