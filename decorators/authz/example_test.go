package authz_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func user(tenant, subject string, roles ...string) context.Context {
	return store.WithPrincipal(context.Background(),
		store.Principal{Owner: chat.Owner{Tenant: tenant, Subject: subject}, Roles: roles})
}

func aThread(id string) chat.Thread {
	return chat.Thread{ID: id, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Status: chat.Status{Type: "active"}}
}

func Example() {
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))

	fmt.Println(s.SaveThread(user("acme", "ada"), aThread("thr_1")))
	t, err := s.LoadThread(user("acme", "ada"), "thr_1")
	fmt.Println(t.ID, err)

	_, err = s.LoadThread(user("acme", "eve"), "thr_1")
	fmt.Println(err)
	_, err = s.LoadThread(context.Background(), "thr_1")
	fmt.Println(err)
	// Output:
	// <nil>
	// thr_1 <nil>
	// load_thread: not found: thread "thr_1"
	// load_thread: unauthenticated: thread "thr_1"
}

func ExampleGrants() {
	shared := map[string]authz.Role{"bob": authz.Viewer} // of thr_1
	grants := authz.Grants(func(_ context.Context, p store.Principal, threadID string, _ chat.Owner) (authz.Role, error) {
		if threadID != "thr_1" {
			return authz.NoRole, nil
		}
		return shared[p.Owner.Subject], nil
	})
	s := store.Wrap(memstore.New(), authz.New(authz.AnyOf(authz.OwnerOnly(), grants)))

	_ = s.SaveThread(user("acme", "ada"), aThread("thr_1"))
	_, err := s.LoadThread(user("acme", "bob"), "thr_1")
	fmt.Println(err)
	fmt.Println(s.DeleteThread(user("acme", "bob"), "thr_1"))
	delete(shared, "bob")
	_, err = s.LoadThread(user("acme", "bob"), "thr_1")
	fmt.Println(err)
	// Output:
	// <nil>
	// delete_thread: denied: thread "thr_1"
	// load_thread: not found: thread "thr_1"
}

func ExampleTenantAdmin() {
	s := store.Wrap(memstore.New(), authz.New(authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin"))))
	_ = s.SaveThread(user("acme", "ada"), aThread("thr_1"))
	_ = s.SaveThread(user("evil", "eve"), aThread("thr_2"))

	page, err := s.LoadThreads(user("acme", "bob", "admin"), store.ThreadQuery{Owner: store.AnyOwner()})
	for _, t := range page.Data {
		fmt.Println(t.ID, t.Owner.Subject)
	}
	fmt.Println(err)
	// Output:
	// thr_1 ada
	// <nil>
}

func ExampleWithAudit() {
	audit := func(_ context.Context, d authz.Denial) {
		fmt.Println("denied:", d.Request.Principal.Owner.Subject, d.Request.Op, d.Kind, d.ID, d.Reason, "told", d.Code)
	}
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), authz.WithAudit(audit)))
	_ = s.SaveThread(user("acme", "ada"), aThread("thr_1"))
	_ = s.DeleteThread(user("acme", "eve"), "thr_1")
	// Output:
	// denied: eve delete_thread thread thr_1 hidden told ok
}

// retention lets nobody delete.
type retention struct{ authz.Policy }

func (p retention) Decide(ctx context.Context, r authz.Request) (authz.Decision, error) {
	if r.Action == authz.Delete {
		return authz.Deny, nil
	}
	return p.Policy.Decide(ctx, r)
}

// A rule of one's own wraps another policy.
func ExamplePolicy() {
	s := store.Wrap(memstore.New(), authz.New(retention{authz.OwnerOnly()}))
	_ = s.SaveThread(user("acme", "ada"), aThread("thr_1"))
	err := s.DeleteThread(user("acme", "ada"), "thr_1")
	fmt.Println(err, errors.Is(err, store.ErrDenied))
	// Output:
	// delete_thread: denied: thread "thr_1" true
}
