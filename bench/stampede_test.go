package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// slow is a base whose reads take so long, or until their context is done; it counts them.
func slow(base store.Store, latency time.Duration) (store.Store, *atomic.Int64) {
	var reads atomic.Int64
	return store.Wrap(base, store.Intercept("slow", store.InterceptorFunc(
		func(ctx context.Context, c store.Call, next func(context.Context) error) error {
			if c.Op.IsWrite() {
				return next(ctx)
			}
			reads.Add(1)
			select {
			case <-time.After(latency):
				return next(ctx)
			case <-ctx.Done():
				return ctx.Err()
			}
		}))), &reads
}

// loader loads a thread. close releases what is behind it.
type loader struct {
	load  func(ctx context.Context, id string) (store.Thread, error)
	close func()
}

// loaders are what a thread can be loaded through.
func loaders() []struct {
	name string
	new  func(base store.Store) (loader, error)
} {
	type named = struct {
		name string
		new  func(base store.Store) (loader, error)
	}
	var all []named
	for _, p := range peersOf[store.Thread]() {
		all = append(all, named{p.name, func(base store.Store) (loader, error) {
			c := p.new(source[store.Thread]{load: base.LoadThread, size: func(store.Thread) int { return 1 }, entries: 1000, bytes: 1000})
			return loader{c.Get, c.Close}, nil
		}})
	}
	ours := func(name string, wrap func(base store.Store) (store.Store, error)) {
		all = append(all, named{name, func(base store.Store) (loader, error) {
			s, err := wrap(base)
			if err != nil {
				return loader{}, err
			}
			return loader{s.LoadThread, func() { _ = store.Close(s) }}, nil // memstore's cannot fail
		}})
	}
	ours("**chatstore's singleflight**", func(base store.Store) (store.Store, error) { return store.Wrap(base, singleflight.New()), nil })
	ours("**chatstore's cache**", func(base store.Store) (store.Store, error) { return store.Wrap(base, cache.New()), nil })
	ours("**the recommended stack**", func(base store.Store) (store.Store, error) { return recommended(base) })
	return all
}

// stampedes is section 4.
func stampedes(b *testing.B) (tables []table) {
	ctx := asCaller(b.Context(), owner)
	base := memstore.New()
	must(b, fill(ctx, base, 1, 0))
	for _, readers := range []int{64, 1000} {
		t := table{
			title: fmt.Sprintf("%d readers of a cold thread, with a base that takes 1 ms", readers),
			head:  []string{"", "base reads", "until the last is served", "base reads when the first gives up", "others who fail with it"},
			note: "Medians of 15 stampedes. For those in which the first gives up the base takes 20 ms, and the first leaves after 5 ms, when " +
				"the others wait for it.",
		}
		for _, l := range loaders() {
			var served []time.Duration
			var reads, readsAfter, failed []time.Duration // counts, for their median
			for range 15 {
				s := get[stampedeResult](b)(stampede(ctx, l.new, base, readers, false))
				served, reads = append(served, s.took), append(reads, time.Duration(s.reads))
				s = get[stampedeResult](b)(stampede(ctx, l.new, base, readers, true))
				readsAfter, failed = append(readsAfter, time.Duration(s.reads)), append(failed, time.Duration(s.failed))
			}
			count := func(d []time.Duration) string { return fmt.Sprint(int(median(d))) }
			t.rows = append(t.rows, []string{l.name, count(reads), fmt.Sprintf("%.1f ms", median(served).Seconds()*1e3), count(readsAfter), count(failed)})
		}
		tables = append(tables, t)
	}
	return tables
}

type stampedeResult struct {
	took   time.Duration
	reads  int64
	failed int64 // of those who did not give up
}

// stampede has so many read at once, of whom the first may give up when its read is under way.
func stampede(ctx context.Context, newLoader func(store.Store) (loader, error), base store.Store, readers int, leave bool) (r stampedeResult, err error) {
	latency := time.Millisecond
	if leave {
		latency *= 20
	}
	behind, reads := slow(base, latency)
	l, err := newLoader(behind)
	if err != nil {
		return r, err
	}
	defer l.close()
	var failed atomic.Int64
	var done sync.WaitGroup
	first, giveUp := context.WithCancel(ctx)
	defer giveUp()
	begin := time.Now()
	read := func(ctx context.Context, counts bool) {
		t, err := l.load(ctx, threadID(0))
		if counts && (err != nil || t.ID != threadID(0)) {
			failed.Add(1)
		}
	}
	done.Go(func() { read(first, !leave) })
	if leave {
		for reads.Load() == 0 {
			time.Sleep(10 * time.Microsecond)
		}
	}
	for range readers - 1 {
		done.Go(func() { read(ctx, true) })
	}
	if leave {
		time.Sleep(latency / 4)
		giveUp()
	}
	done.Wait()
	return stampedeResult{took: time.Since(begin), reads: reads.Load(), failed: failed.Load()}, nil
}
