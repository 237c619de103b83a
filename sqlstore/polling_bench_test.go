package sqlstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store/driver"
)

// BenchmarkVersions asks for the versions of many threads as a poll of cache.WithRevalidation does, 1,000 in a call. It reports the
// time of all calls together, the shortest of all rounds.
//
//	go test -run '^$' -bench Versions -benchtime 5x .
func BenchmarkVersions(b *testing.B) {
	for _, base := range []struct {
		name string
		open func(b *testing.B) *sqlstore.Store
	}{
		{"sqlite", func(b *testing.B) *sqlstore.Store { return sqliteFile(b) }},
		{"postgres", func(b *testing.B) *sqlstore.Store { return postgres(pgtest.Shared(b).DSN(b))(b) }},
		{"mariadb", func(b *testing.B) *sqlstore.Store { return mysqlOn(mysqltest.Shared(b).DSN(b))(b) }},
		{"galera", func(b *testing.B) *sqlstore.Store { return mysqlOn(mysqltest.SharedCluster(b).DSN(b))(b) }},
	} {
		b.Run(base.name, func(b *testing.B) {
			s := base.open(b)
			var ids []string
			for n := range 100_000 {
				ids = append(ids, fmt.Sprint("thr_", n))
			}
			var all sync.WaitGroup
			for part := range 4 {
				all.Go(func() {
					for n := part; n < len(ids); n += 4 {
						must(b, s.SaveThread(b.Context(), thread(ids[n])))
					}
				})
			}
			all.Wait()
			for _, threads := range []int{1_000, 10_000, 100_000} {
				b.Run(fmt.Sprint(threads, " threads"), func(b *testing.B) {
					least := time.Hour
					for b.Loop() {
						begin := time.Now()
						for n := 0; n < threads; n += driver.MaxVersions {
							if _, _, err := s.ThreadVersions(b.Context(), ids[n:n+driver.MaxVersions]); err != nil {
								b.Fatal(err)
							}
						}
						least = min(least, time.Since(begin))
					}
					b.ReportMetric(float64(threads/driver.MaxVersions), "calls")
					b.ReportMetric(float64(least.Microseconds())/1000, "ms")
					b.ReportMetric(0, "ns/op")
				})
			}
		})
	}
}
