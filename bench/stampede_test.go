package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// slowBase is a base whose reads wait before they answer. It counts them, and closes reading at the first.
type slowBase struct {
	store.Store
	reads   atomic.Int64
	reading chan struct{}
}

// slow wraps base. Each read calls wait, which returns when the read may go on or its context is done.
func slow(base store.Store, wait func(done <-chan struct{})) *slowBase {
	b := &slowBase{reading: make(chan struct{})}
	b.Store = store.Wrap(base, layer.Intercept("slow", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			if b.reads.Add(1) == 1 {
				close(b.reading)
			}
			if wait(ctx.Done()); ctx.Err() != nil {
				return ctx.Err()
			}
			return next(ctx)
		})))
	return b
}

// loader loads a thread. close releases its resources.
type loader struct {
	load  func(ctx context.Context, id string) (chat.Thread, error)
	close func()
}

// namedLoader makes a loader for a base.
type namedLoader struct {
	name string
	new  func(base store.Store) loader
}

// loaders returns the stacks that load a thread. They have room for that many entries.
func loaders(entries int, opts ...cache.Option) (all []namedLoader) {
	for _, p := range peersOf[chat.Thread]() {
		all = append(all, namedLoader{p.name, func(base store.Store) loader {
			c := p.new(sized(base.LoadThread, entries))
			return loader{c.Get, c.Close}
		}})
	}
	ours := func(name string, wrap func(base store.Store) store.Store) {
		all = append(all, namedLoader{name, func(base store.Store) loader {
			s := wrap(base)
			return loader{s.LoadThread, func() { check(store.Close(s)) }}
		}})
	}
	ours("**chatstore's singleflight**", func(base store.Store) store.Store { return store.Wrap(base, singleflight.New()) })
	ours("**chatstore's cache**", func(base store.Store) store.Store { return store.Wrap(base, cache.New(opts...)) })
	ours("**the recommended stack**", func(base store.Store) store.Store { return recommended(base, opts...) })
	return all
}

const (
	readTakes = time.Millisecond // delay of the base
	joining   = 50 * time.Millisecond
)

// stampedes measures section 4.
func stampedes(tb testing.TB) (tables []table) {
	ctx := asCaller(tb.Context(), owner)
	base := memstore.New()
	fill(tb, base, 1, 0)
	all := loaders(1000)
	for _, readers := range at.readers {
		t := table{
			title: fmt.Sprintf("%d readers of a cold thread, with a base that takes %v", readers, readTakes),
			head:  []string{"", "base reads", "last reader served after", "base reads, first reader cancelled", "other readers failed"},
			note: fmt.Sprintf("Medians of %d stampedes; with a cancelled reader, of %d. That reader comes first, and leaves when all others wait.", at.stampedes,
				at.stampedesLeft),
		}
		served := make([][]time.Duration, len(all))
		reads, readsAfter, failed := make([][]int64, len(all)), make([][]int64, len(all)), make([][]int64, len(all))
		for range at.stampedes {
			for i, l := range all {
				s := rush(ctx, l, base, readers)
				served[i], reads[i] = append(served[i], s.took), append(reads[i], s.reads)
			}
		}
		for range at.stampedesLeft {
			for i, l := range all {
				s := rushAfterOneWhoLeaves(ctx, l, base, readers)
				readsAfter[i], failed[i] = append(readsAfter[i], s.reads), append(failed[i], s.failed)
			}
		}
		for i, l := range all {
			t.rows = append(t.rows, []string{l.name, fmt.Sprint(median(reads[i])), fmt.Sprintf("%.1f ms", median(served[i]).Seconds()*1e3),
				fmt.Sprint(median(readsAfter[i])), fmt.Sprint(median(failed[i]))})
		}
		tables = append(tables, t)
	}
	return tables
}

// stampede is the result of one stampede.
type stampede struct {
	took   time.Duration // from the start until all are served
	reads  int64         // reads of the base
	failed int64         // failures, without the reader that gave up
}

// rush lets many readers load at once.
func rush(ctx context.Context, in namedLoader, base store.Store, readers int) stampede {
	behind := slow(base, func(done <-chan struct{}) {
		select {
		case <-time.After(readTakes):
		case <-done:
		}
	})
	l := in.new(behind.Store)
	defer l.close()
	took, failed := l.crowd(ctx, readers, nil)
	if failed > 0 {
		panic(fmt.Sprintf("%s: %d readers failed", in.name, failed))
	}
	return stampede{took: took, reads: behind.reads.Load()}
}

// rushAfterOneWhoLeaves starts one reader, and all others once the base is reading. The first leaves when all have come, and
// the base answers only then.
func rushAfterOneWhoLeaves(ctx context.Context, in namedLoader, base store.Store, readers int) stampede {
	gone := make(chan struct{})
	behind := slow(base, func(done <-chan struct{}) {
		select {
		case <-gone:
		case <-done:
		}
	})
	l := in.new(behind.Store)
	defer l.close()
	var first, others sync.WaitGroup
	others.Add(readers - 1)
	leaving, leave := context.WithCancel(ctx)
	first.Go(func() { _, _ = l.load(leaving, threadID(0)) }) // some loaders answer it although it has left
	first.Go(func() {
		others.Wait()
		time.Sleep(joining) // give the others time to begin their loads
		leave()
		close(gone)
	})
	_, failed := l.crowd(ctx, readers-1, func() {
		<-behind.reading
		others.Done()
	})
	first.Wait()
	return stampede{reads: behind.reads.Load(), failed: failed}
}

// crowd lets many readers load, each after a call of before. It returns how long all of them took, and how many failed.
func (l loader) crowd(ctx context.Context, readers int, before func()) (took time.Duration, failed int64) {
	var bad atomic.Int64
	took = together(readers, func(int) {
		if before != nil {
			before()
		}
		if t, err := l.load(ctx, threadID(0)); err != nil || t.ID != threadID(0) {
			bad.Add(1)
		}
	})
	return took, bad.Load()
}
