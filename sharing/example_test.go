package sharing_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

// Ada grants a thread to her colleagues in support, and takes it back. Package authz enforces the grants.
func Example() {
	ctx := context.Background()
	s := sharing.New(memstore.New())
	ada := chat.Owner{Tenant: "acme", Subject: "ada"}
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now(), Owner: ada}); err != nil {
		log.Fatal(err)
	}
	support := sharing.Grantee{Tenant: "acme", Group: "support"}
	if err := s.Grant(ctx, sharing.Grant{ThreadID: "thr_1", To: support, Role: sharing.Viewer, By: ada}); err != nil {
		log.Fatal(err)
	}

	bob := store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "bob"}, Roles: []string{"support"}}
	page, err := s.SharedWith(ctx, bob, "", 20)
	if err != nil {
		log.Fatal(err)
	}
	for _, g := range page.Data {
		fmt.Println(g.ThreadID, "by", g.By.Subject, "to", g.To.Group)
	}
	if err := s.Revoke(ctx, "thr_1", support); err != nil {
		log.Fatal(err)
	}
	access, err := s.Access(ctx, bob, "thr_1")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("still a viewer:", access.Role >= sharing.Viewer)
	// Output:
	// thr_1 by ada to support
	// still a viewer: false
}
