package bench

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"gonum.org/v1/plot/plotter"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// fresh is a base whose pages are new in memory each time, as those of a database are, and that counts them.
type fresh struct {
	store.Store
	loads atomic.Int64
}

func (f *fresh) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[store.Item], error) {
	f.loads.Add(1)
	p, err := f.Store.LoadThreadItems(ctx, id, q)
	for i, it := range p.Data {
		if p.Data[i], err = store.ParseItem(strings.Clone(it.JSON().String())); err != nil {
			return p, err
		}
	}
	return p, err
}

// sizeOf is what a page holds, and textOf the length of its JSON, which is what one has at hand.
func sizeOf(p store.Page[store.Item]) int {
	n := cap(p.Data) * int(unsafe.Sizeof(store.Item{}))
	for _, it := range p.Data {
		n += it.Footprint()
	}
	return n
}

func textOf(p store.Page[store.Item]) (n int) {
	for _, it := range p.Data {
		n += len(it.JSON().String())
	}
	return n
}

// What section 3 reads: pages of some threads often, and in the middle all of them once.
const (
	traceThreads = 20_000
	traceItems   = 20
	traceReads   = 200_000
)

// hitsAndMemory is section 3.
func hitsAndMemory(b *testing.B) (tables []table) {
	ctx := b.Context()
	base := &fresh{Store: memstore.New()}
	must(b, fill(ctx, base, traceThreads, traceItems))
	ids := make([]string, traceThreads)
	for n := range ids {
		ids[n] = threadID(n)
	}
	ranks := zipf(traceThreads, traceReads)
	page := get[store.Page[store.Item]](b)(base.LoadThreadItems(ctx, ids[0], store.PageQuery{}))
	type contender struct {
		name string
		new  func(bytes int) (get func(ctx context.Context, id string) (store.Page[store.Item], error), done func())
	}
	var contenders []contender
	join := func(name string, newPeer func(source[store.Page[store.Item]]) peer[store.Page[store.Item]], size func(store.Page[store.Item]) int) {
		contenders = append(contenders, contender{name, func(bytes int) (func(context.Context, string) (store.Page[store.Item], error), func()) {
			c := newPeer(source[store.Page[store.Item]]{load: func(ctx context.Context, id string) (store.Page[store.Item], error) {
				return base.LoadThreadItems(ctx, id, store.PageQuery{})
			}, size: size, entries: bytes / size(page), bytes: bytes})
			return c.Get, c.Close
		}})
	}
	for _, p := range peersOf[store.Page[store.Item]]()[1:] { // the map has no bound
		join(p.name, p.new, sizeOf)
	}
	join("otter v2, told the JSON's length", newOtter[store.Page[store.Item]], textOf)
	contenders = append(contenders, contender{"**chatstore's cache**", func(bytes int) (func(context.Context, string) (store.Page[store.Item], error), func()) {
		s := store.Wrap(base, cache.New(cache.WithMaxBytes(int64(bytes)), cache.WithMaxEntries(traceThreads)))
		return func(ctx context.Context, id string) (store.Page[store.Item], error) {
			return s.LoadThreadItems(ctx, id, store.PageQuery{})
		}, func() { must(b, store.Close(s)) }
	}})
	bounds := []int{4 << 20, 16 << 20, 64 << 20}
	drawn := &picture{file: "memory", title: fmt.Sprintf("Hits for the memory that is held, bounded by %d, %d and %d MiB", bounds[0]>>20, bounds[1]>>20, bounds[2]>>20),
		x: "heap, in MiB", y: "hits, of a hundred", ticks: []int{4, 8, 16, 32, 64, 128}, least: 50}
	for _, c := range contenders {
		drawn.lines = append(drawn.lines, line{name: strings.Trim(c.name, "*")})
	}
	for _, bytes := range bounds {
		t := table{
			title: fmt.Sprintf("Hits and memory, with a bound of %d MiB", bytes>>20), head: []string{"", "hits", "heap", "of the bound", "longest Get"},
			note: fmt.Sprintf("%s reads of %s threads, few of them often, and in the middle each of them once. A page has %d items and %s bytes of JSON, and "+
				"takes %s; the peers are told that, or hold as many entries. A longest Get has a load in it, and collections of garbage.",
				grouped(traceReads), grouped(traceThreads), traceItems, grouped(textOf(page)), grouped(sizeOf(page))),
		}
		for i, c := range contenders {
			before := heap()
			get, done := c.new(bytes)
			base.loads.Store(0)
			var longest time.Duration
			reads := 0
			read := func(id string) {
				begin := time.Now()
				if p, err := get(ctx, id); err != nil || len(p.Data) != traceItems {
					b.Fatal(c.name, len(p.Data), err)
				}
				longest = max(longest, time.Since(begin))
				reads++
			}
			for n, rank := range ranks {
				if n == traceReads/2 {
					for _, id := range ids {
						read(id)
					}
				}
				read(ids[rank])
			}
			held := heap() - before
			hits := 1 - float64(base.loads.Load())/float64(reads)
			t.rows = append(t.rows, []string{c.name, fmt.Sprintf("%.1f %%", 100*hits), fmt.Sprintf("%.1f MiB", float64(held)/(1<<20)),
				fmt.Sprintf("%.2f ×", float64(held)/float64(bytes)), nanos(longest)})
			drawn.lines[i].points = append(drawn.lines[i].points, plotter.XY{X: float64(held) / (1 << 20), Y: 100 * hits})
			done()
			runtime.KeepAlive(get)
		}
		tables = append(tables, t)
	}
	tables[len(tables)-1].picture = drawn
	return tables
}

// heap is how much memory is in use.
func heap() int {
	runtime.GC()
	runtime.GC() // what the first found to be unused
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
