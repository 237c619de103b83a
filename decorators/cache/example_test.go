package cache_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// A turn of a chat on a warm thread reads from memory and writes through.
func Example() {
	var reads atomic.Int64
	count := layer.Intercept("count", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if !c.Op.IsWrite() {
				reads.Add(1)
			}
			return next(ctx)
		}))
	s := store.Wrap(memstore.New(), cache.New(), count)
	defer store.Close(s)

	ctx, at := context.Background(), time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	_ = s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: at})
	for i := range 3 {
		_, _ = s.LoadThread(ctx, "thr_1")
		item, _ := chat.NewItem(fmt.Sprintf("msg_%d", i), at.Add(time.Duration(i)*time.Second), chat.EndOfTurn{})
		_ = s.AddThreadItem(ctx, "thr_1", item)
		page, _ := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 20})
		fmt.Println("turn", i, "sees", len(page.Data), "items after", reads.Load(), "base reads")
	}
	// Output:
	// turn 0 sees 1 items after 2 base reads
	// turn 1 sees 2 items after 2 base reads
	// turn 2 sees 3 items after 2 base reads
}

// Two caches over one base, in one process, stay coherent over a bus.
func Example_localBus() {
	base, wire := memstore.New(), bus.Local()
	a := store.Wrap(base, cache.New(cache.WithBus(wire)))
	b := store.Wrap(base, cache.New(cache.WithBus(wire)))
	defer store.Close(a, b)

	ctx, at := context.Background(), time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	_ = a.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "first", CreatedAt: at})
	_, _ = b.LoadThread(ctx, "thr_1")
	_ = a.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "second", CreatedAt: at})
	thread, _ := b.LoadThread(ctx, "thr_1")
	fmt.Println(thread.Title)
	// Output: second
}
