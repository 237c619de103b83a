package lifecycle_test

import (
	"context"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func Example() {
	ctx := context.Background()
	from, to := memstore.New(), memstore.New() // or two databases
	ada := chat.Owner{Tenant: "acme", Subject: "ada"}
	for _, id := range []string{"thr_1", "thr_2"} {
		t := chat.Thread{ID: id, CreatedAt: time.Now().Add(-1000 * time.Hour), Owner: ada}
		if err := from.SaveThread(ctx, t); err != nil {
			panic(err)
		}
	}

	copied, err := lifecycle.Copy(ctx, to, from)
	fmt.Println("copied", copied.Saved.Threads, err)

	pruned, err := lifecycle.Prune(ctx, to, store.AnyOwner(), lifecycle.WithInactive(720*time.Hour), lifecycle.WithDryRun())
	fmt.Println("would delete", pruned.Deleted, err)

	receipt, err := lifecycle.Erase(ctx, to, ada)
	fmt.Println("erased", receipt.Erased.Threads, err)
	// Output:
	// copied 2 <nil>
	// would delete 2 <nil>
	// erased 2 <nil>
}

func ExampleFork() {
	s := memstore.New() // in a service: the whole stack, with authz
	ctx := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	now := time.Now()
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "Tea", CreatedAt: now}); err != nil {
		panic(err)
	}
	for i := range 3 {
		it, err := chat.NewItem(fmt.Sprint("msg_", i), now, chat.EndOfTurn{})
		if err != nil {
			panic(err)
		}
		if err := s.AddThreadItem(ctx, "thr_1", it); err != nil {
			panic(err)
		}
	}

	fork, err := lifecycle.Fork(ctx, s, "thr_1", "msg_1")
	if err != nil {
		panic(err)
	}
	for it, err := range lifecycle.Items(ctx, s, fork.ID) {
		fmt.Println(fork.Title, it.ID, err)
	}
	// Output:
	// Tea msg_0 <nil>
	// Tea msg_1 <nil>
}
