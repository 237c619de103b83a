package memstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

var benchSizes = []int{100, 10_000, 1_000_000}

// filled returns a Store with one thread of n items.
func filled(b *testing.B, n int) *memstore.Store {
	b.Helper()
	s, ctx := memstore.New(), context.Background()
	must(b, s.SaveThread(ctx, thread("thr_1", ada)))
	for i := range n {
		must(b, s.AddThreadItem(ctx, "thr_1", item(b, fmt.Sprintf("msg_%d", i), i)))
	}
	return s
}

// BenchmarkPage reads pages of 20 items at the newest end, in the middle and at the oldest end of threads of 100 to a
// million items. It uses 64 cursors in turn. The sub-benchmarks named ratio divide the time of a page of the largest thread
// by that of the smallest. They measure both in turns, in one run.
//
//	go test -run '^$' -bench Page ./memstore
func BenchmarkPage(b *testing.B) {
	stores := map[int]*memstore.Store{}
	for _, n := range benchSizes {
		stores[n] = filled(b, n)
	}
	places := []struct {
		name string
		at   func(n int) int // the index of the first cursor
	}{
		{"head", func(n int) int { return n - 1 }},
		{"middle", func(n int) int { return n/2 + 35 }},
		{"tail", func(n int) int { return 64 + 20 }},
	}
	for _, place := range places {
		queries := func(n int) []store.PageQuery {
			var qs []store.PageQuery
			for i := range 64 {
				qs = append(qs, store.PageQuery{Limit: 20, After: fmt.Sprintf("msg_%d", place.at(n)-i)})
			}
			return qs
		}
		page := func(n int, q store.PageQuery) {
			if p, err := stores[n].LoadThreadItems(context.Background(), "thr_1", q); err != nil || len(p.Data) != 20 {
				b.Fatalf("got %d items, error %v", len(p.Data), err)
			}
		}
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%s/n=%d", place.name, n), func(b *testing.B) {
				qs := queries(n)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					page(n, qs[i%len(qs)])
				}
			})
		}
		b.Run(place.name+"/ratio", func(b *testing.B) {
			small, large := benchSizes[0], benchSizes[len(benchSizes)-1]
			var took [2]time.Duration
			sizes := [2]int{small, large}
			qs := [2][]store.PageQuery{queries(small), queries(large)}
			for b.Loop() {
				for k, n := range sizes {
					start := time.Now()
					for _, q := range qs[k] {
						page(n, q)
					}
					took[k] += time.Since(start)
				}
			}
			b.ReportMetric(float64(took[1])/float64(took[0]), "1M/100")
		})
	}
}

// BenchmarkOwnersThreads lists one owner's ten threads, among ten and among a million threads of others.
func BenchmarkOwnersThreads(b *testing.B) {
	ctx := context.Background()
	open := func(others int) *memstore.Store {
		s := memstore.New()
		for i := range others {
			o := chat.Owner{Tenant: "acme", Subject: fmt.Sprint("user", i%1000)}
			must(b, s.SaveThread(ctx, thread(fmt.Sprintf("thr_%d", i), o)))
			if i%(others/10) == 0 {
				must(b, s.SaveThread(ctx, thread(fmt.Sprintf("mine_%d", i), ada)))
			}
		}
		return s
	}
	for _, n := range []int{10, 1_000_000} {
		s := open(n)
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada)})
				if err != nil || len(p.Data) != 10 {
					b.Fatalf("got %d threads, error %v", len(p.Data), err)
				}
			}
		})
	}
}

// BenchmarkLoadThread loads one thread among a thousand.
func BenchmarkLoadThread(b *testing.B) {
	s, ctx := memstore.New(), context.Background()
	for i := range 1000 {
		must(b, s.SaveThread(ctx, thread(fmt.Sprintf("thr_%d", i), ada)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.LoadThread(ctx, "thr_500"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImport measures the cost of adding one item, oldest first and newest first.
func BenchmarkImport(b *testing.B) {
	for _, order := range []struct {
		name string
		sign int
	}{{"oldest_first", 1}, {"newest_first", -1}} {
		b.Run(order.name, func(b *testing.B) {
			s, ctx := memstore.New(), context.Background()
			must(b, s.SaveThread(ctx, thread("thr_1", ada)))
			i := 0
			for b.Loop() {
				i++
				must(b, s.AddThreadItem(ctx, "thr_1", item(b, fmt.Sprintf("msg_%d", i), i*order.sign)))
			}
		})
	}
}
