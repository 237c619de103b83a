package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// prompt is a memstore that answers polls without looking: all threads have version 1.
type prompt struct {
	*memstore.Store
	versions []uint64
}

func (b prompt) ThreadVersions(_ context.Context, ids []string) (string, []uint64, error) {
	return "", b.versions[:len(ids)], nil
}

// BenchmarkPoll measures one poll. Its calls and threads per second are those of a poll, divided by the interval. The base is a
// memstore, or one that answers at once: then the time is the cache's own. A time is that of the shortest poll, because other work on
// the machine only adds to it.
func BenchmarkPoll(b *testing.B) {
	ones := make([]uint64, 1000)
	for i := range ones {
		ones[i] = 1
	}
	rows := memstore.New()
	made := 0
	for _, threads := range []int{1000, 10_000, 100_000} {
		for ; made < threads; made++ {
			must(b, rows.SaveThread(b.Context(), thread(fmt.Sprint("thr_", made), "a title", chat.Owner{})))
		}
		for name, base := range map[string]store.Store{"memstore": rows, "the cache alone": prompt{rows, ones}} {
			b.Run(fmt.Sprintf("%d threads/%s", threads, name), func(b *testing.B) {
				s := store.Wrap(base, cache.New(cache.WithRevalidation(time.Hour), cache.WithMaxEntries(2*threads), cache.WithMaxBytes(2<<30)))
				defer store.Close(s)
				fill := func() {
					for i := range threads {
						get[chat.Thread](b)(s.LoadThread(b.Context(), fmt.Sprint("thr_", i)))
					}
				}
				fill()
				cache.Poll(s) // the first one drops everything
				fill()
				calls := func() (n, rows float64) {
					return statOf(s, "chatstore_cache_polls_total", "answered"), statOf(s, "chatstore_cache_polled_threads_total", "")
				}
				callsBefore, rowsBefore := calls()
				b.ReportAllocs()
				least := time.Hour
				for b.Loop() {
					begin := time.Now()
					cache.Poll(s)
					least = min(least, time.Since(begin))
				}
				n, rows := calls()
				b.ReportMetric((n-callsBefore)/float64(b.N), "calls/poll")
				b.ReportMetric((rows-rowsBefore)/float64(b.N), "threads/poll")
				b.ReportMetric(float64(least.Microseconds())/1000, "ms/poll")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
