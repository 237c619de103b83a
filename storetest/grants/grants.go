// Package grants checks a Store that keeps grants: [sharing.Grants].
//
//	func TestGrants(t *testing.T) {
//		grants.Run(t, func(t *testing.T) sharing.Store { return mystore.New() })
//	}
//
// Run storetest.Run too: it checks the Store itself. The Store need not be empty, because ids and owners are new in each check.
// The checks of erasing are skipped if the Store is no driver.Eraser.
package grants

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// Run checks the Store that open returns, in subtests named after the promises. It calls open once, and closes the Store at
// the end.
func Run(t *testing.T, open func(t *testing.T) sharing.Store) {
	t.Helper()
	s := open(t)
	t.Cleanup(func() {
		if err := store.Close(s); err != nil {
			t.Errorf("store.Close: got error %s, want none", report.Error(err))
		}
	})
	mint := rows.NewMint()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(newHarness(t, s, mint)) })
	}
}

// tb is the part of *testing.T that the checks use, so that the suite's own tests can watch them fail.
type tb interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// harness is the environment of one check.
type harness struct {
	tb
	s    sharing.Store
	mint *rows.Mint

	acme string // a tenant
	ada  chat.Owner
	bob  store.Principal // of the same tenant, with two groups
	eng  string
	ops  string
}

func newHarness(t tb, s sharing.Store, m *rows.Mint) *harness {
	h := &harness{tb: t, s: s, mint: m, acme: m.ID("acme"), eng: m.ID("eng"), ops: m.ID("ops")}
	h.ada = chat.Owner{Tenant: h.acme, Subject: m.ID("ada")}
	h.bob = h.person(h.acme, h.eng, h.ops)
	return h
}

// person returns a new principal.
func (h *harness) person(tenant string, roles ...string) store.Principal {
	return store.Principal{Owner: chat.Owner{Tenant: tenant, Subject: h.mint.ID("person")}, Roles: roles}
}

// The three kinds of grantees.
func subject(p store.Principal) sharing.Grantee {
	return sharing.Grantee{Tenant: p.Owner.Tenant, Subject: p.Owner.Subject}
}

func group(tenant, name string) sharing.Grantee {
	return sharing.Grantee{Tenant: tenant, Group: name}
}

func tenant(name string) sharing.Grantee { return sharing.Grantee{Tenant: name} }

// must ends the check on an error.
func (h *harness) must(what string, err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("%s: got error %s, want none", what, report.Error(err))
	}
}

// wantErr wants an error with the code.
func (h *harness) wantErr(what string, err error, want store.Code) {
	h.Helper()
	if store.CodeOf(err) != want {
		h.Errorf("%s: got %s, want the code %s", what, report.Error(err), want)
	}
}

// thread saves a new thread of the owner and returns its id.
func (h *harness) thread(owner chat.Owner) string {
	h.Helper()
	id := h.mint.ID("thr")
	h.save(id, owner)
	return id
}

func (h *harness) save(id string, owner chat.Owner) {
	h.Helper()
	h.must("SaveThread", h.s.SaveThread(h.Context(), chat.Thread{ID: id, CreatedAt: rows.At(0), Owner: owner}))
}

// grant adds a grant by ada.
func (h *harness) grant(id string, to sharing.Grantee, role sharing.Role) {
	h.Helper()
	h.must(fmt.Sprintf("Grant of %q to %+v", id, to), h.s.Grant(h.Context(), sharing.Grant{ThreadID: id, To: to, Role: role, By: h.ada}))
}

func (h *harness) access(p store.Principal, id string) sharing.Access {
	h.Helper()
	a, err := h.s.Access(h.Context(), p, id)
	h.must("Access", err)
	return a
}

// wantRole compares the roles of p.
func (h *harness) wantRole(why string, p store.Principal, id string, role, direct sharing.Role) {
	h.Helper()
	if a := h.access(p, id); a.Role != role || a.Direct != direct {
		h.Errorf("%s: Access of %+v is role %d and direct %d, want %d and %d", why, p, a.Role, a.Direct, role, direct)
	}
}

// version returns the thread's version, or 0 if the Store keeps none.
func (h *harness) version(id string) uint64 {
	h.Helper()
	ctx, v := store.WithVersions(h.Context())
	_, err := h.s.LoadThread(ctx, id)
	h.must("LoadThread", err)
	n, _ := v.Of(id)
	return n
}

// A listing is one of the two that Grants has.
type listing func(after string, limit int) (store.Page[sharing.Grant], error)

func (h *harness) grantees(id string) listing {
	return func(after string, limit int) (store.Page[sharing.Grant], error) {
		return h.s.Grantees(h.Context(), id, after, limit)
	}
}

func (h *harness) sharedWith(p store.Principal) listing {
	return func(after string, limit int) (store.Page[sharing.Grant], error) {
		return h.s.SharedWith(h.Context(), p, after, limit)
	}
}

// all reads a listing in pages of limit, and checks each page's form.
func (h *harness) all(list listing, limit int) (all []sharing.Grant) {
	h.Helper()
	for after := ""; ; {
		p, err := list(after, limit)
		h.must("a listing", err)
		if n := len(p.Data); n > limit || p.HasMore && n < limit {
			h.Errorf("a page of limit %d has %d grants, and HasMore %v", limit, n, p.HasMore)
		}
		if p.HasMore != (p.After != "") {
			h.Errorf("a page has HasMore %v and the After %q", p.HasMore, p.After)
		}
		all = append(all, p.Data...)
		if !p.HasMore {
			return all
		}
		if len(p.Data) == 0 || len(all) > 10_000 {
			h.Fatalf("the listing has no end")
		}
		after = p.After
	}
}

// wantAll wants a listing to have these grants, the newest first, in pages of every size.
func (h *harness) wantAll(why string, list listing, want []sharing.Grant) {
	h.Helper()
	slices.SortFunc(want, func(a, b sharing.Grant) int { return b.Place().Compare(a.Place()) })
	for limit := 1; limit <= len(want)+1; limit++ {
		if got := h.all(list, limit); !slices.EqualFunc(got, want, same) {
			h.Fatalf("%s: in pages of %d\n\tgot  %v\n\twant %v", why, limit, got, want)
		}
	}
}

func same(a, b sharing.Grant) bool {
	at := a.At.Equal(b.At)
	a.At, b.At = time.Time{}, time.Time{}
	return at && a == b
}

// granted returns the one grant of the thread to the grantee.
func (h *harness) granted(id string, to sharing.Grantee) sharing.Grant {
	h.Helper()
	for _, g := range h.all(h.grantees(id), store.MaxLimit) {
		if g.To == to {
			return g
		}
	}
	h.Fatalf("Grantees of %q lacks the grant to %+v", id, to)
	return sharing.Grant{}
}
