package limit_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/limit"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// Ada saves threads in a loop. After a burst of three she must wait, and others need not.
func Example() {
	s := store.Wrap(memstore.New(),
		limit.New(limit.WithReads(50, 100), limit.WithWrites(1.0/60, 3), limit.WithInFlight(8)),
		authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	defer store.Close(s)

	as := func(subject string) context.Context {
		owner := chat.Owner{Tenant: "acme", Subject: subject}
		return store.WithPrincipal(context.Background(), store.Principal{Owner: owner})
	}
	for i := range 4 {
		err := s.SaveThread(as("ada"), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: time.Now()})
		if e, ok := errors.AsType[*store.Error](err); ok && errors.Is(err, store.ErrLimited) {
			fmt.Println(err, "- call again in about", e.RetryAfter.Round(time.Second))
		} else if err != nil {
			log.Fatal(err)
		}
	}
	err := s.SaveThread(as("bob"), chat.Thread{ID: "thr_9", CreatedAt: time.Now()})
	fmt.Println("bob:", err)
	// Output:
	// save_thread: limited: thread "thr_3" - call again in about 1m0s
	// bob: <nil>
}
