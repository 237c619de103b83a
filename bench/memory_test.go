package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"gonum.org/v1/plot/plotter"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// fresh is a base that returns new copies of pages each time, as a database does. It counts the loads of pages.
type fresh struct {
	store.Store
	loads atomic.Int64
}

func (f *fresh) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	f.loads.Add(1)
	p, err := f.Store.LoadThreadItems(ctx, id, q)
	for i, it := range p.Data {
		if p.Data[i], err = chat.ParseItem(strings.Clone(it.JSON().String())); err != nil {
			return p, err
		}
	}
	return p, err
}

// sizeOf returns the memory of a page. textOf returns the length of its JSON, which is easier to compute.
func sizeOf(p store.Page[chat.Item]) int {
	n := cap(p.Data) * int(unsafe.Sizeof(chat.Item{}))
	for _, it := range p.Data {
		n += it.Footprint()
	}
	return n
}

func textOf(p store.Page[chat.Item]) (n int) {
	for _, it := range p.Data {
		n += len(it.JSON().String())
	}
	return n
}

// hitsAndMemory measures section 3.
func hitsAndMemory(tb testing.TB) (tables []table) {
	ctx := tb.Context()
	base := &fresh{Store: memstore.New()}
	fill(tb, base, at.traceThreads, at.traceItems)
	ids := make([]string, at.traceThreads)
	for n := range ids {
		ids[n] = threadID(n)
	}
	ranks := zipf(at.traceThreads, at.traceReads)
	page := get[store.Page[chat.Item]](tb)(base.LoadThreadItems(ctx, ids[0], store.PageQuery{}))
	type contender struct {
		name string
		new  func(bytes int) (get func(ctx context.Context, id string) (store.Page[chat.Item], error), done func())
	}
	var contenders []contender
	join := func(name string, newPeer func(source[store.Page[chat.Item]]) peer[store.Page[chat.Item]], size func(store.Page[chat.Item]) int) {
		contenders = append(contenders, contender{name, func(bytes int) (func(context.Context, string) (store.Page[chat.Item], error), func()) {
			c := newPeer(source[store.Page[chat.Item]]{load: func(ctx context.Context, id string) (store.Page[chat.Item], error) {
				return base.LoadThreadItems(ctx, id, store.PageQuery{})
			}, size: size, entries: bytes / size(page), bytes: bytes})
			return c.Get, c.Close
		}})
	}
	for _, p := range peersOf[store.Page[chat.Item]]()[1:] { // the map has no bound
		join(p.name, p.new, sizeOf)
	}
	join("otter v2, weighed by JSON length", newOtter[store.Page[chat.Item]], textOf)
	contenders = append(contenders, contender{"**chatstore's cache**", func(bytes int) (func(context.Context, string) (store.Page[chat.Item], error), func()) {
		s := store.Wrap(base, cache.New(cache.WithMaxBytes(int64(bytes)), cache.WithMaxEntries(at.traceThreads)))
		return func(ctx context.Context, id string) (store.Page[chat.Item], error) {
			return s.LoadThreadItems(ctx, id, store.PageQuery{})
		}, func() { must(tb, store.Close(s)) }
	}})
	var bounds []string
	for _, bytes := range at.traceBounds {
		bounds = append(bounds, mebibytes(bytes))
	}
	drawn := &picture{file: "memory", title: "Hits by heap size, bounded by " + strings.Join(bounds, ", "),
		x: "heap, in MiB", y: "hits, percent", ticks: []int{4, 8, 16, 32, 64, 128}, least: 50}
	for _, c := range contenders {
		drawn.lines = append(drawn.lines, line{name: strings.Trim(c.name, "*")})
	}
	for n, bytes := range at.traceBounds {
		t := table{
			title: "Hits and memory, with a bound of " + bounds[n], head: []string{"", "hits", "heap", "heap / bound", "longest Get"},
			note: fmt.Sprintf("%s reads of %s threads by a Zipf distribution, and one read of each thread in the middle. A page has %d items and %s bytes of "+
				"JSON, and takes %s bytes of memory. Medians of %d rounds. The longest Get includes a load; garbage is collected between Gets.",
				grouped(at.traceReads), grouped(at.traceThreads), at.traceItems, grouped(textOf(page)), grouped(sizeOf(page)), at.traceRounds),
		}
		results := make([][]traced, len(contenders))
		for range at.traceRounds {
			for i, c := range contenders {
				before := testenv.Heap()
				get, done := c.new(bytes)
				r := replay(tb, base, get, ids, ranks)
				r.heap = testenv.Heap() - before
				results[i] = append(results[i], r)
				done()
			}
		}
		for i, c := range contenders {
			hits := median(column(results[i], func(r traced) float64 { return r.hits }))
			held := float64(median(column(results[i], func(r traced) int { return r.heap })))
			longest := median(column(results[i], func(r traced) time.Duration { return r.longest }))
			t.rows = append(t.rows, []string{c.name, fmt.Sprintf("%.1f %%", 100*hits), fmt.Sprintf("%.1f MiB", held/(1<<20)),
				fmt.Sprintf("%.2f ×", held/float64(bytes)), nanos(longest)})
			drawn.lines[i].points = append(drawn.lines[i].points, plotter.XY{X: held / (1 << 20), Y: 100 * hits})
		}
		tables = append(tables, t)
	}
	tables[len(tables)-1].picture = drawn
	return tables
}

// traced is the result of a trace.
type traced struct {
	hits    float64 // from 0 to 1
	heap    int     // bytes in use at the end
	longest time.Duration
}

// column returns one field of all rows.
func column[V any](all []traced, field func(traced) V) (values []V) {
	for _, r := range all {
		values = append(values, field(r))
	}
	return values
}

// replay reads the threads in the order of ranks, and in the middle each thread once. The collector runs only between Gets,
// so that it stops none.
func replay(tb testing.TB, base *fresh, get func(ctx context.Context, id string) (store.Page[chat.Item], error), ids []string, ranks []int) (r traced) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	base.loads.Store(0)
	reads := 0
	read := func(id string) {
		if reads++; reads%readsOfACollection == 0 {
			runtime.GC()
		}
		begin := time.Now()
		p, err := get(tb.Context(), id)
		r.longest = max(r.longest, time.Since(begin))
		if err != nil || len(p.Data) != at.traceItems {
			tb.Fatal(len(p.Data), err)
		}
	}
	for n, rank := range ranks {
		if n == len(ranks)/2 {
			for _, id := range ids {
				read(id)
			}
		}
		read(ids[rank])
	}
	r.hits = 1 - float64(base.loads.Load())/float64(reads)
	return r
}

// readsOfACollection is the number of reads between two collections: about a hundred megabytes of garbage.
const readsOfACollection = 10_000

func mebibytes(n int) string { return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20)) }
