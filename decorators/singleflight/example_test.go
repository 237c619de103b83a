package singleflight_test

import (
	"context"
	"fmt"
	"log"
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

// A hundred callers read one thread at the same time. Callers that arrive while a load runs share its result, so the base gets few
// calls, most often one.
func Example() {
	ada := chat.Owner{Tenant: "acme", Subject: "ada"}
	base := memstore.New() // or sqlstore, or a store of your own
	if err := base.SaveThread(context.Background(), chat.Thread{ID: "thr_1", CreatedAt: time.Now(), Owner: ada}); err != nil {
		log.Fatal(err)
	}

	var calls atomic.Int64
	var arrived sync.WaitGroup
	arrived.Add(100)
	slow := layer.Intercept("slow", layer.InterceptorFunc( // counts the base's calls, which take until all callers are there
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			calls.Add(1)
			arrived.Wait()
			return next(ctx)
		}))
	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), singleflight.New(), slow)
	defer store.Close(s)

	ctx := store.WithPrincipal(context.Background(), store.Principal{Owner: ada})
	var readers sync.WaitGroup
	for range 100 {
		readers.Go(func() {
			arrived.Done()
			if _, err := s.LoadThread(ctx, "thr_1"); err != nil {
				log.Print(err)
			}
		})
	}
	readers.Wait()
	fmt.Println("calls were shared:", calls.Load() < 100)
	// Output: calls were shared: true
}
