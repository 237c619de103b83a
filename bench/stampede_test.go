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

// slowBase is a base whose reads take so long, or until their context is done. It counts them, and closes reading with the first.
type slowBase struct {
	store.Store
	reads   atomic.Int64
	reading chan struct{}
}

func slow(base store.Store, latency time.Duration) *slowBase {
	b := &slowBase{reading: make(chan struct{})}
	b.Store = store.Wrap(base, layer.Intercept("slow", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			if b.reads.Add(1) == 1 {
				close(b.reading)
			}
			select {
			case <-time.After(latency):
				return next(ctx)
			case <-ctx.Done():
				return ctx.Err()
			}
		})))
	return b
}

// loader loads a thread. close releases what is behind it.
type loader struct {
	load  func(ctx context.Context, id string) (chat.Thread, error)
	close func()
}

// namedLoader makes a loader in front of a base.
type namedLoader struct {
	name string
	new  func(base store.Store) (loader, error)
}

// loaders are what a thread can be loaded through.
func loaders() (all []namedLoader) {
	for _, p := range peersOf[chat.Thread]() {
		all = append(all, namedLoader{p.name, func(base store.Store) (loader, error) {
			c := p.new(source[chat.Thread]{load: base.LoadThread, size: func(chat.Thread) int { return 1 }, entries: 1000, bytes: 1000})
			return loader{c.Get, c.Close}, nil
		}})
	}
	ours := func(name string, wrap func(base store.Store) (store.Store, error)) {
		all = append(all, namedLoader{name, func(base store.Store) (loader, error) {
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

// How long the base takes. Where the first gives up, there is time for all others to come before.
const (
	readTakes      = time.Millisecond
	longReadTakes  = 100 * time.Millisecond
	firstGivesUpIn = longReadTakes / 2
)

// stampedes is section 4.
func stampedes(tb testing.TB) (tables []table) {
	ctx := asCaller(tb.Context(), owner)
	base := memstore.New()
	must(tb, fill(ctx, base, 1, 0))
	all := loaders()
	for _, readers := range at.readers {
		t := table{
			title: fmt.Sprintf("%d readers of a cold thread, with a base that takes %v", readers, readTakes),
			head:  []string{"", "base reads", "until the last is served", "base reads when the first gives up", "others who fail with it"},
			note: fmt.Sprintf("Medians of %d stampedes. Where the first gives up they are of %d, and the base takes %v: the first comes alone and leaves "+
				"after %v, when all the others have come.", at.turns, at.stampedesLeft, longReadTakes, firstGivesUpIn),
		}
		served := make([][]time.Duration, len(all))
		reads, readsAfter, failed := make([][]int64, len(all)), make([][]int64, len(all)), make([][]int64, len(all))
		for range at.turns {
			for i, l := range all {
				s := get[stampede](tb)(rush(ctx, l, base, readers))
				served[i], reads[i] = append(served[i], s.took), append(reads[i], s.reads)
			}
		}
		for range at.stampedesLeft {
			for i, l := range all {
				s := get[stampede](tb)(rushAfterOneWhoLeaves(ctx, l, base, readers))
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

// stampede is what came of one.
type stampede struct {
	took   time.Duration // from the start until the last is served
	reads  int64         // of the base
	failed int64         // of those who did not give up
}

// rush has so many read at once.
func rush(ctx context.Context, in namedLoader, base store.Store, readers int) (stampede, error) {
	behind := slow(base, readTakes)
	l, err := in.new(behind.Store)
	if err != nil {
		return stampede{}, err
	}
	defer l.close()
	took, failed := l.crowd(ctx, readers, nil)
	if failed > 0 {
		return stampede{}, fmt.Errorf("%s: %d readers failed", in.name, failed)
	}
	return stampede{took: took, reads: behind.reads.Load()}, nil
}

// rushAfterOneWhoLeaves has one read, with a deadline before the base will answer, and all others when that read is under way.
func rushAfterOneWhoLeaves(ctx context.Context, in namedLoader, base store.Store, readers int) (stampede, error) {
	behind := slow(base, longReadTakes)
	l, err := in.new(behind.Store)
	if err != nil {
		return stampede{}, err
	}
	defer l.close()
	var (
		first sync.WaitGroup
		came  atomic.Int64
		early bool
	)
	first.Go(func() {
		ctx, giveUp := context.WithTimeout(ctx, firstGivesUpIn)
		defer giveUp()
		_, _ = l.load(ctx, threadID(0)) // some answer it, later than it would wait
		early = came.Load() < int64(readers-1)
	})
	_, failed := l.crowd(ctx, readers-1, func() {
		<-behind.reading
		came.Add(1)
	})
	first.Wait()
	if early {
		return stampede{}, fmt.Errorf("%s: the first left before the last came: the machine is too slow for this", in.name)
	}
	return stampede{reads: behind.reads.Load(), failed: failed}, nil
}

// crowd has so many load, each after it has called before. It returns how long that took all of them, and how many failed.
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
