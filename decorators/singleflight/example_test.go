package singleflight_test

import (
	"context"
	"fmt"
	"log"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// A hundred callers read one thread at the same time. The base gets one call.
func Example() {
	ada := chat.Owner{Tenant: "acme", Subject: "ada"}
	base := memstore.New() // or sqlstore, or a store of your own
	if err := base.SaveThread(context.Background(), chat.Thread{ID: "thr_1", CreatedAt: time.Now(), Owner: ada}); err != nil {
		log.Fatal(err)
	}

	var calls atomic.Int64
	arrived := make(chan struct{})
	slow := layer.Intercept("slow", layer.InterceptorFunc( // makes the base slow
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == store.OpLoadThread {
				calls.Add(1)
				<-arrived
			}
			return next(ctx)
		}))
	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), singleflight.New(), slow)
	defer store.Close(s)

	ctx := store.WithPrincipal(context.Background(), store.Principal{Owner: ada})
	var readers sync.WaitGroup
	for range 100 {
		readers.Go(func() {
			if _, err := s.LoadThread(ctx, "thr_1"); err != nil {
				log.Print(err)
			}
		})
	}
	for followers(s) < 99 { // until all have called
		runtime.Gosched()
	}
	close(arrived)
	readers.Wait()
	fmt.Println(calls.Load(), "call,", followers(s), "followers")
	// Output: 1 call, 99 followers
}

// followers returns how many callers have joined another caller's call so far.
func followers(s store.Store) (n float64) {
	for reporter := range store.All[layer.StatsReporter](s) {
		for _, stat := range reporter.AppendStats(nil) {
			if stat.Name == "chatstore_flights_total" && stat.Labels[1].Value == "follower" {
				n += stat.Value
			}
		}
	}
	return n
}
