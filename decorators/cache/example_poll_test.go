package cache_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// Two caches over one base see each other's writes without a bus, after twice the interval at the latest. Here that is 20 ms;
// usual intervals are a second or more.
func ExampleWithRevalidation() {
	base := memstore.New()
	a := store.Wrap(base, cache.New(cache.WithRevalidation(10*time.Millisecond)))
	b := store.Wrap(base, cache.New(cache.WithRevalidation(10*time.Millisecond)))
	defer store.Close(a, b)

	ctx, created := context.Background(), time.Now()
	if err := a.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "first", CreatedAt: created}); err != nil {
		log.Fatal(err)
	}
	if _, err := b.LoadThread(ctx, "thr_1"); err != nil { // now b has the thread
		log.Fatal(err)
	}
	if err := a.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "second", CreatedAt: created}); err != nil {
		log.Fatal(err)
	}
	for {
		thread, err := b.LoadThread(ctx, "thr_1")
		if err != nil {
			log.Fatal(err)
		}
		if thread.Title == "second" {
			fmt.Println("b sees the write")
			return
		}
	}
	// Output: b sees the write
}
