package singleflight_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// A hundred readers who come while the first one waits share its call.
func Example() {
	var calls atomic.Int64
	arrived := make(chan struct{})
	slow := layer.Intercept("slow", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == store.OpLoadThread {
				calls.Add(1)
				<-arrived
			}
			return next(ctx)
		}))
	s := store.Wrap(memstore.New(), singleflight.New(), slow)
	defer store.Close(s)
	ctx := context.Background()
	_ = s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)})

	var readers sync.WaitGroup
	for range 100 {
		readers.Go(func() { _, _ = s.LoadThread(ctx, "thr_1") })
	}
	for followers(s) < 99 {
		runtime.Gosched()
	}
	close(arrived)
	readers.Wait()
	fmt.Println(calls.Load(), "call")
	// Output: 1 call
}
