package cache_test

import (
	"context"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Each turn reads its thread from memory and writes through to the base. Only the first turn reads from the base.
func Example() {
	base := memstore.New() // or sqlstore, or a store of your own
	var reads atomic.Int64
	count := layer.Intercept("count", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if !c.Op.IsWrite() {
				reads.Add(1)
			}
			return next(ctx)
		}))
	// The first layer is the outermost. The cache is beneath authz, so every read is authorized.
	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(cache.WithTTL(time.Minute)), count)
	defer store.Close(s)

	ctx := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "Night trains", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		before := reads.Load()
		n, err := oneTurn(ctx, s, "thr_1", fmt.Sprintf("question %d", i))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("turn %d: %d items, %d base reads\n", i, n, reads.Load()-before)
	}
	// Output:
	// turn 0: 1 items, 2 base reads
	// turn 1: 2 items, 0 base reads
	// turn 2: 3 items, 0 base reads
}

// oneTurn adds a user's message to a thread, and returns how many items the model would see.
func oneTurn(ctx context.Context, s store.Store, threadID, text string) (int, error) {
	thread, err := s.LoadThread(ctx, threadID)
	if err != nil {
		return 0, err
	}
	body := chat.UserMessage{Content: []chat.UserContent{{Text: text}}}
	message, err := chat.NewItem(s.GenerateItemID(ctx, chat.KindMessage, thread), time.Now(), body)
	if err != nil {
		return 0, err
	}
	if err := s.AddThreadItem(ctx, threadID, message); err != nil {
		return 0, err
	}
	page, err := s.LoadThreadItems(ctx, threadID, store.PageQuery{Limit: 20})
	return len(page.Data), err
}
