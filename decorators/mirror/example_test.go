package mirror_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/mirror"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// A team tries a second store. One of its threads has another title, which the mirror reports.
// It does so beside the call, so the two lines come in any order.
func Example() {
	ctx := context.Background()
	first := memstore.New()  // the store in use
	second := memstore.New() // the store to try, such as sqlstore on PostgreSQL

	s := store.Wrap(first, mirror.New(second, mirror.WithReport(func(d mirror.Divergence) {
		fmt.Println(d.Call.Op, d.Call.ThreadID, "differs in", d.Field)
	})))
	now := time.Now()
	save := func(s store.Store, title string) {
		if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: title, CreatedAt: now}); err != nil {
			log.Fatal(err)
		}
	}
	save(second, "Holidays")
	save(first, "Travel")

	thread, err := s.LoadThread(ctx, "thr_1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(thread.Title)

	// Close waits for the trials, and leaves the second store open.
	if err := store.Close(s); err != nil {
		log.Fatal(err)
	}
	// Unordered output:
	// Travel
	// load_thread thr_1 differs in title
}
