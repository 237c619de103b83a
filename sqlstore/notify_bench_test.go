package sqlstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// BenchmarkTriggers measures what the triggers cost. It writes the same items with and without them, in turns, on a server
// that syncs to disk. ratio is the throughput with triggers divided by that without.
//
//	go test -run '^$' -bench Triggers -benchtime 1x .
func BenchmarkTriggers(b *testing.B) {
	srv := pgtest.Start(b)
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			const rounds, each = 5, 400
			var with, without []float64
			dsn := srv.DSN(b)
			for b.Loop() {
				for round := range 2 * rounds {
					opts, into := []sqlstore.Option{sqlstore.WithMaxConns(writers)}, &with
					if round%2 == 1 {
						opts, into = append(opts, sqlstore.WithoutNotify()), &without
					}
					s := get[*sqlstore.Store](b)(sqlstore.OpenPostgres(context.Background(), dsn, opts...))
					if round%2 == 0 {
						must(b, get[*pubsub.Bus](b)(s.Bus(context.Background())).Close()) // switches the triggers on
					}
					for w := range writers {
						must(b, s.SaveThread(b.Context(), thread(fmt.Sprintf("thr_%d", w))))
					}
					begin := time.Now()
					var wg sync.WaitGroup
					for w := range writers {
						wg.Go(func() {
							for i := range each / writers {
								must(b, s.SaveItem(b.Context(), fmt.Sprintf("thr_%d", w), item(b, fmt.Sprintf("msg_%d", i))))
							}
						})
					}
					wg.Wait()
					*into = append(*into, each/time.Since(begin).Seconds())
					must(b, s.Close())
				}
			}
			b.ReportMetric(median(with), "writes/s")
			b.ReportMetric(median(without), "writes/s-without")
			b.ReportMetric(median(with)/median(without), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkDelivery measures the time from the return of a write until another process's subscriber gets the change. If that
// comes before the return, it counts as 0.
//
//	go test -run '^$' -bench Delivery -benchtime 2000x .
func BenchmarkDelivery(b *testing.B) {
	s := openPG(b, pgtest.Start(b).DSN(b))
	other := closed[*pubsub.Bus](b)(s.Bus(b.Context(), pubsub.WithLogger(slog.New(slog.DiscardHandler))))
	heard, up := make(chan time.Time, 1), make(chan bool, 16)
	stop := other.Subscribe(b.Context(), func(bus.Change) { heard <- time.Now() }, func(ok bool) { up <- ok })
	defer stop()
	<-up
	var took []float64
	for b.Loop() {
		must(b, s.SaveThread(b.Context(), thread("thr_1")))
		returned := time.Now()
		took = append(took, max(0, (<-heard).Sub(returned).Seconds()*1e6))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "µs-median")
	b.ReportMetric(took[len(took)*99/100], "µs-p99")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
