package authz_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

// Ada shares a thread with bob. Bob finds it in his list of shared threads and reads it, until ada revokes the grant.
func ExampleShared() {
	base := sharing.New(memstore.New()) // it keeps the grants, too
	s := store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(base)), authz.ShareBelow()), cache.New())
	defer store.Close(s)
	ada, bob := user("acme", "ada"), user("acme", "bob")
	toBob := sharing.Grantee{Tenant: "acme", Subject: "bob"}

	if err := s.SaveThread(ada, chat.Thread{ID: "thr_1", Title: "Plans", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	if err := sharing.Share(ada, s, base, "thr_1", toBob, sharing.Viewer); err != nil {
		log.Fatal(err)
	}

	page, err := sharing.List(bob, s, base, "", 20)
	for _, t := range page.Data {
		fmt.Println("bob lists", t.ID, "of", t.Owner.Subject)
	}
	if err != nil {
		log.Fatal(err)
	}
	thread, err := s.LoadThread(bob, "thr_1")
	fmt.Println("bob reads", thread.Title, err)
	fmt.Println(s.DeleteThread(bob, "thr_1"))

	if err := sharing.Unshare(ada, s, base, "thr_1", toBob); err != nil {
		log.Fatal(err)
	}
	_, err = s.LoadThread(bob, "thr_1")
	fmt.Println(err, errors.Is(err, store.ErrNotFound))
	// Output:
	// bob lists thr_1 of ada
	// bob reads Plans <nil>
	// delete_thread: denied: thread "thr_1"
	// load_thread: not found: thread "thr_1" true
}

// table is a program's own table of shared threads.
type table map[entry]sharing.Role

type entry struct {
	threadID string
	to       chat.Owner
}

func (t table) Access(_ context.Context, p store.Principal, threadID string) (sharing.Access, error) {
	role := t[entry{threadID, p.Owner}]
	return sharing.Access{Role: role, Direct: role}, nil
}

// Grants of your own need one method.
func ExampleShared_lookup() {
	grants := table{{"thr_1", chat.Owner{Tenant: "acme", Subject: "bob"}}: sharing.Viewer}
	s := store.Wrap(memstore.New(), authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(grants))))

	if err := s.SaveThread(user("acme", "ada"), chat.Thread{ID: "thr_1", CreatedAt: time.Now()}); err != nil {
		log.Fatal(err)
	}
	_, err := s.LoadThread(user("acme", "bob"), "thr_1")
	fmt.Println(err)
	_, err = s.LoadThread(user("acme", "eve"), "thr_1")
	fmt.Println(err)
	// Output:
	// <nil>
	// load_thread: not found: thread "thr_1"
}
