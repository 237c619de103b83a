package store_test

import (
	"slices"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

var (
	nobody = chat.Owner{}
	ada    = chat.Owner{Tenant: "acme", Subject: "ada"}
	bob    = chat.Owner{Tenant: "acme", Subject: "bob"}
	solo   = chat.Owner{Subject: "ada"}
	owners = []chat.Owner{nobody, ada, bob, solo, {Tenant: "other", Subject: "ada"}}
)

func TestOwnerFilters(t *testing.T) {
	for _, c := range []struct {
		name string
		f    store.OwnerFilter
		want []chat.Owner
	}{
		{"the zero filter matches only rows without an owner", store.OwnerFilter{}, []chat.Owner{nobody}},
		{"OwnedBy nobody is the zero filter", store.OwnedBy(nobody), []chat.Owner{nobody}},
		{"OwnedBy", store.OwnedBy(ada), []chat.Owner{ada}},
		{"InTenant", store.InTenant("acme"), []chat.Owner{ada, bob}},
		{"InTenant of no tenant has no unowned rows", store.InTenant(""), []chat.Owner{solo}},
		{"AnyOwner", store.AnyOwner(), owners},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []chat.Owner
			for _, o := range owners {
				if c.f.Match(o) {
					got = append(got, o)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("matches %v, want %v", got, c.want)
			}
		})
	}
}

// An intersection selects exactly the rows that both filters select. ok is false only if there are none.
func TestIntersect(t *testing.T) {
	filters := []store.OwnerFilter{{}, store.OwnedBy(ada), store.OwnedBy(bob), store.OwnedBy(solo), store.InTenant("acme"),
		store.InTenant("other"), store.InTenant(""), store.AnyOwner()}
	for _, f := range filters {
		for _, g := range filters {
			both, ok := f.Intersect(g)
			for _, o := range owners {
				want := f.Match(o) && g.Match(o)
				if got := ok && both.Match(o); got != want {
					t.Errorf("%+v and %+v on %+v: %v, want %v", f, g, o, got, want)
				}
			}
		}
	}
}
