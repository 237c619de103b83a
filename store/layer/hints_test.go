package layer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func TestHintsAreWhatTheContextSays(t *testing.T) {
	bare := layer.HintsFor(t.Context(), store.OpLoadThread)
	if bare.Fresh() || bare.NoStore() || bare.Partition() != (layer.Partition{}) {
		t.Errorf("nobody said anything: %+v", bare)
	}
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Tenant: "t", Subject: "s"}})
	ctx = store.WithFresh(store.WithNoStore(ctx))
	h := layer.HintsFor(ctx, store.OpLoadThread)
	if !h.Fresh() || !h.NoStore() || h.Partition() == bare.Partition() || h.Partition() != layer.HintsFor(ctx, 0).Partition() {
		t.Errorf("hints: %+v", h)
	}
	if layer.HintsFor(callctx.WithoutPrincipal(ctx), 0).Partition() != bare.Partition() {
		t.Error("WithoutPrincipal left a partition")
	}
}

// A layer that has the hints reports without another lookup, to the same recorder as a base.
func TestHintsReportVersions(t *testing.T) {
	bare := layer.HintsFor(t.Context(), store.OpLoadThread)
	bare.ReportVersion("thr_1", 1, 2)
	if bare.Recording() {
		t.Error("nobody listens")
	}
	told := ""
	ctx := callctx.WithVersionRecorder(t.Context(), func(id string, before, after uint64) { told = fmt.Sprint(id, before, after) })
	h := layer.HintsFor(ctx, store.OpLoadThread)
	h.ReportVersion("thr_1", 1, 2)
	if want := fmt.Sprint("thr_1", 1, 2); told != want || !h.Recording() {
		t.Errorf("told %q, want %q", told, want)
	}
}

// Principals that a joined text would confuse have partitions of their own.
func TestPartitionsAreThePrincipals(t *testing.T) {
	partition := func(tenant, subject string, roles ...string) layer.Partition {
		return layer.HintsFor(store.WithPrincipal(context.Background(),
			store.Principal{Owner: chat.Owner{Tenant: tenant, Subject: subject}, Roles: roles}), 0).Partition()
	}
	distinct := []layer.Partition{
		{}, partition("", ""), partition("a", "b"), partition("", "ab"), partition("a:b", "c"), partition("a", "b:c"),
		partition("1:a", "b"), partition("", "1:a1:b"), partition("a", "b", "c"), partition("a", "b", "c", "d"),
		partition("a", "b", "cd"), partition("a", "b", ""), partition("A", "b"),
		partition("10aaaaaaaaa", ""), partition("1", "aaaaaaaaa0"),
	}
	for i, a := range distinct {
		for j, b := range distinct {
			if (a == b) != (i == j) || (a.Key() == b.Key()) != (i == j) {
				t.Errorf("partitions %d (%q) and %d (%q)", i, a.Key(), j, b.Key())
			}
		}
	}
	if partition("a", "b", "x", "y") != partition("a", "b", "y", "x", "x") {
		t.Error("the order and the repetition of roles count")
	}
}

func TestHintsOwnerLetsNobodyInWhoCouldNotOwnARow(t *testing.T) {
	if _, ok := layer.HintsFor(t.Context(), 0).Owner(); ok {
		t.Error("nobody was named")
	}
	for _, c := range []struct {
		owner chat.Owner
		want  bool
	}{
		{chat.Owner{Tenant: "acme", Subject: "ada"}, true},
		{chat.Owner{Subject: "ada"}, true},
		{chat.Owner{}, false},
		{chat.Owner{Tenant: "acme"}, false},
		{chat.Owner{Subject: "a\n"}, false},
		{chat.Owner{Tenant: "a\x00", Subject: "ada"}, false},
		{chat.Owner{Subject: string(make([]byte, 300))}, false},
	} {
		ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: c.owner, Roles: []string{"admin"}})
		for _, ctx := range []context.Context{ctx, callctx.Detached(ctx)} {
			if p, ok := layer.HintsFor(ctx, 0).Owner(); ok != c.want || p.Owner != c.owner {
				t.Errorf("%+v: %v", c.owner, ok)
			}
		}
		if _, ok := layer.HintsFor(callctx.WithoutPrincipal(ctx), 0).Owner(); ok {
			t.Error("WithoutPrincipal left an owner")
		}
	}
}

func TestUnsettledIsReportedToWhoListens(t *testing.T) {
	told := 0
	ctx := callctx.WithUnsettledRecorder(t.Context(), func() { told++ })
	layer.ReportUnsettled(ctx)
	layer.ReportUnsettled(callctx.Detached(ctx)) // a call for several callers is no write of theirs
	layer.ReportUnsettled(t.Context())
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// A layer between may make calls of other ops for its own ends: they are not the noted one.
func TestNotes(t *testing.T) {
	ctx, n := layer.WithNotes(t.Context(), store.OpLoadThread, "origin")
	if layer.HintsFor(t.Context(), store.OpLoadThread).Notes != nil || layer.HintsFor(ctx, store.OpLoadItem).Notes != nil {
		t.Error("notes of another call were found")
	}
	inner := layer.HintsFor(ctx, store.OpLoadThread).Notes
	if inner != n || inner.Origin() != "origin" {
		t.Errorf("got %v with the origin %v for the op itself", inner, inner.Origin())
	}
	inner.SetCache("hit")
	inner.SetFlight("follower", "leader")
	if cache, role, leader := n.Close(); cache != "hit" || role != "follower" || leader != "leader" {
		t.Errorf("noted %q %q %v", cache, role, leader)
	}
	inner.SetCache("late")
	inner.SetFlight("late", nil)
	if cache, role, _ := n.Close(); cache != "hit" || role != "follower" {
		t.Error("a late note was kept")
	}
	var nobody *layer.Notes
	nobody.SetCache("x")
	nobody.SetFlight("x", nil)
	if cache, _, _ := nobody.Close(); cache != "" || nobody.Origin() != nil {
		t.Error("nil notes something")
	}
}
