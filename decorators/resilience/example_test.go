package resilience_test

import (
	"context"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/resilience"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// The base is unavailable for two calls, then for a long time.
func Example() {
	base := faulty.New(memstore.New()) // stands for a database
	s := store.Wrap(base, resilience.New(
		resilience.WithTimeLimit(2*time.Second),
		resilience.WithRetries(2, time.Millisecond),
		resilience.WithBreaker(5, time.Minute),
	))
	defer store.Close(s)
	ctx := context.Background()

	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "Tea", CreatedAt: time.Now()}); err != nil {
		fmt.Println(err)
	}
	base.Inject(faulty.Fault{Op: store.OpLoadThread, Times: 2, Do: faulty.Fail(store.ErrUnavailable)})
	th, err := s.LoadThread(ctx, "thr_1")
	fmt.Println(th.Title, err)

	base.Reset()
	base.Inject(faulty.Fault{Do: faulty.Fail(store.ErrUnavailable)})
	for range 100 {
		_, err = s.LoadThread(ctx, "thr_1")
	}
	fmt.Println(err)
	fmt.Println("calls of the base:", base.Total())
	// Output:
	// Tea <nil>
	// load_thread: unavailable
	// calls of the base: 3
}
