package cache_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// Two caches over one base see each other's writes over a bus. Between processes, use a bus of sqlstore or redisbus instead.
func Example_localBus() {
	base, wire := memstore.New(), bus.Local()
	a := store.Wrap(base, cache.New(cache.WithBus(wire)))
	b := store.Wrap(base, cache.New(cache.WithBus(wire)))
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
	thread, err := b.LoadThread(ctx, "thr_1")
	fmt.Println(thread.Title, err)
	// Output: second <nil>
}
