package authz_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// retention is a policy that denies every delete. For all other calls it asks the embedded policy.
type retention struct{ authz.Policy }

func (p retention) Decide(ctx context.Context, r authz.Request) (authz.Decision, error) {
	if r.Action == authz.Delete {
		return authz.Deny, nil
	}
	return p.Policy.Decide(ctx, r)
}

// A policy of your own can embed another policy and change some of its decisions.
func ExamplePolicy() {
	s := store.Wrap(memstore.New(), authz.New(retention{authz.OwnerOnly()}))
	ada := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})

	if err := s.SaveThread(ada, chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	err := s.DeleteThread(ada, "thr_1")
	fmt.Println(err, errors.Is(err, store.ErrDenied))
	// Output:
	// delete_thread: denied: thread "thr_1" true
}
