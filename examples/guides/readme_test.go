package guides_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func wrap(ctx context.Context) error {
	m, err := metrics.New(prometheus.DefaultRegisterer)
	if err != nil {
		return err
	}
	s := store.Wrap(memstore.New(), // or sqlstore, or your own
		tracing.New(), m, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	defer store.Close(s)

	ada := chat.Owner{Tenant: "acme", Subject: "ada"} // from your authentication
	ctx = store.WithPrincipal(ctx, store.Principal{Owner: ada})
	thread := chat.Thread{ID: s.GenerateThreadID(ctx), Title: "Tea", CreatedAt: time.Now()}
	if err := s.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), thread); err != nil {
		return err
	}
	loaded, err := s.LoadThread(ctx, thread.ID) // store.ErrNotFound for every other user
	fmt.Println(loaded.Title, err)              // Tea <nil>
	return err
}

func Example() {
	if err := wrap(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output: Tea <nil>
}
