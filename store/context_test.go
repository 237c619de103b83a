package store_test

import (
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

func TestThePrincipalTravels(t *testing.T) {
	if _, ok := store.PrincipalFrom(t.Context()); ok {
		t.Error("a context without a principal has one")
	}
	roles := []string{"admin"}
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Tenant: "t", Subject: "s"}, Roles: roles})
	roles[0] = "changed"
	ctx = store.WithFresh(store.WithNoStore(store.WithSaveMode(ctx, store.InsertOnly)))
	p, ok := store.PrincipalFrom(ctx)
	if !ok || p.Owner.Subject != "s" || p.Roles[0] != "admin" {
		t.Errorf("got %+v %v, want the original principal", p, ok)
	}
	if store.SaveModeFrom(ctx) != store.InsertOnly {
		t.Error("the save mode was lost")
	}
	if _, ok := store.PrincipalFrom(callctx.WithoutPrincipal(ctx)); ok {
		t.Error("WithoutPrincipal left a principal")
	}
}
