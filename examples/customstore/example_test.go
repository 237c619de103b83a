package customstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/resilience"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/examples/customstore"
	"github.com/chatstore/chatstore/store"
)

func Example() {
	s := store.Wrap(customstore.New(),
		tracing.New(),
		authz.New(authz.OwnerOnly(), authz.ShareBelow()),
		cache.New(),
		resilience.New(),
	)
	defer store.Close(s)
	fmt.Println(store.Layers(s))

	ada := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	bob := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "bob"}})

	thread := chat.Thread{ID: "thr_1", Title: "Tea", CreatedAt: time.Date(2026, 5, 1, 16, 0, 0, 0, time.UTC)}
	fmt.Println(s.SaveThread(store.WithSaveMode(ada, store.InsertOnly), thread))

	_, err := s.LoadThread(bob, "thr_1")
	fmt.Println(errors.Is(err, store.ErrNotFound), err)
	// Output:
	// [tracing authz cache resilience *customstore.Store]
	// <nil>
	// true load_thread: not found: thread "thr_1"
}
