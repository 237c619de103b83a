package authz_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// Two users of one store reach only their own threads. The cache beneath is shared between them.
func Example() {
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	defer store.Close(s)

	// A server does this for each request, after it has authenticated the user.
	ada := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	eve := store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "eve"}})

	// The new thread gets the caller as its owner.
	if err := s.SaveThread(ada, chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		fmt.Println(err)
	}

	thread, err := s.LoadThread(ada, "thr_1")
	fmt.Println(thread.Owner.Subject, err)

	_, err = s.LoadThread(eve, "thr_1")
	fmt.Println(err)
	_, err = s.LoadThread(context.Background(), "thr_1") // without a principal
	fmt.Println(err)
	// Output:
	// ada <nil>
	// load_thread: not found: thread "thr_1"
	// load_thread: unauthenticated: thread "thr_1"
}

// user returns the context of a user's request.
func user(tenant, subject string, roles ...string) context.Context {
	return store.WithPrincipal(context.Background(),
		store.Principal{Owner: chat.Owner{Tenant: tenant, Subject: subject}, Roles: roles})
}

// An administrator lists the threads of all users of the tenant.
func ExampleTenantAdmin() {
	s := store.Wrap(memstore.New(), authz.New(authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin"))))
	if err := s.SaveThread(user("acme", "ada"), chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	if err := s.SaveThread(user("evil", "eve"), chat.Thread{ID: "thr_2", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}

	page, err := s.LoadThreads(user("acme", "bob", "admin"), store.ThreadQuery{Owner: store.AnyOwner()})
	for _, t := range page.Data {
		fmt.Println(t.ID, t.Owner.Subject)
	}
	fmt.Println(err)
	// Output:
	// thr_1 ada
	// <nil>
}

// The audit function sees why a call was denied, and which code the caller got.
func ExampleWithAudit() {
	audit := func(_ context.Context, d authz.Denial) {
		fmt.Println("denied:", d.Request.Principal.Owner.Subject, d.Request.Op, d.Kind, d.ID, d.Reason, "code", d.Code)
	}
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), authz.WithAudit(audit)))
	if err := s.SaveThread(user("acme", "ada"), chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	if err := s.DeleteThread(user("acme", "eve"), "thr_1"); err != nil {
		log.Fatal(err)
	}
	// Output:
	// denied: eve delete_thread thread thr_1 hidden code ok
}
