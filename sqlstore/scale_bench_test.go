package sqlstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// BenchmarkWriters measures writes of one and of sixteen writers on a server that syncs to disk, each with its own connection.
// Items go to sixteen threads. The kinds of write take turns; ratio is new threads against items.
//
//	go test -run '^$' -bench Writers -benchtime 1x .
func BenchmarkWriters(b *testing.B) {
	b.Run("postgres", func(b *testing.B) { benchmarkWriters(b, openPG, pgtest.Start(b).DSN) })
	b.Run("mariadb", func(b *testing.B) {
		benchmarkWriters(b, func(b testing.TB, dsn string, opts ...sqlstore.Option) *sqlstore.Store {
			return mysqlOn(dsn)(b, opts...)
		}, mysqltest.Start(b, "--innodb-log-file-size=256M", "--innodb-buffer-pool-size=256M").DSN)
	})
}

func benchmarkWriters(b *testing.B, open func(testing.TB, string, ...sqlstore.Option) *sqlstore.Store, dsn func(testing.TB) string) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			const rounds, each = 7, 1600
			s := open(b, dsn(b), sqlstore.WithMaxConns(writers))
			ctx := context.Background()
			for n := range 16 {
				must(b, s.SaveThread(ctx, thread(fmt.Sprintf("thr_%d", n))))
			}
			timed := func(round int, write func(id string, n int) error) float64 {
				begin := time.Now()
				var wg sync.WaitGroup
				for w := range writers {
					wg.Go(func() {
						for i := range each / writers {
							if err := write(fmt.Sprintf("x_%d_%d_%d", round, w, i), w); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				return each / time.Since(begin).Seconds()
			}
			for b.Loop() {
				var items, threads []float64
				for round := range rounds {
					items = append(items, timed(round, func(id string, w int) error { return s.AddThreadItem(ctx, fmt.Sprintf("thr_%d", w), item(b, id)) }))
					threads = append(threads, timed(round, func(id string, _ int) error { return s.SaveThread(ctx, thread(id)) }))
				}
				b.ReportMetric(median(items), "items/s")
				b.ReportMetric(median(threads), "threads/s")
				b.ReportMetric(median(threads)/median(items), "ratio")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// BenchmarkDistance measures a write over a network that delays each way by a millisecond. A read is one round trip. The metric
// round-trips is the time that the delay adds to a write, divided by the time that it adds to a read.
//
//	go test -run '^$' -bench Distance -benchtime 1x .
func BenchmarkDistance(b *testing.B) {
	b.Run("postgres", func(b *testing.B) {
		n := pgtest.NewNetwork(b, pgtest.Start(b).DSN(b))
		benchmarkDistance(b, openPG(b, n.DSN, sqlstore.WithMaxConns(1)), n.Delay)
	})
	b.Run("mariadb", func(b *testing.B) {
		n := mysqltest.NewNetwork(b, mysqltest.Start(b).DSN(b))
		benchmarkDistance(b, mysqlOn(n.DSN)(b, sqlstore.WithMaxConns(1)), n.Delay)
	})
}

func benchmarkDistance(b *testing.B, s *sqlstore.Store, delay func(time.Duration)) {
	ctx := context.Background()
	must(b, s.SaveThread(ctx, thread("thr_1")))
	k := 0
	write := func() error { k++; return s.AddThreadItem(ctx, "thr_1", item(b, fmt.Sprint("msg_", k))) }
	read := func() error { return errOf(s.LoadThread(ctx, "thr_1")) }
	added := func(call func() error) time.Duration {
		var quickest [2]time.Duration
		for i := range quickest {
			delay(time.Duration(i) * time.Millisecond)
			quickest[i] = time.Hour
			for range 200 {
				begin := time.Now()
				must(b, call())
				quickest[i] = min(quickest[i], time.Since(begin))
			}
		}
		delay(0)
		return quickest[1] - quickest[0]
	}
	for b.Loop() {
		b.ReportMetric(float64(added(write))/float64(added(read)), "round-trips")
		b.ReportMetric(0, "ns/op")
	}
}
