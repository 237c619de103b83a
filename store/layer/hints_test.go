package layer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func TestHintsAreWhatTheContextSays(t *testing.T) {
	bare := layer.HintsFor(t.Context(), store.OpLoadThread)
	if bare.Fresh() || bare.NoStore() || bare.Partition() != (layer.Partition{}) {
		t.Errorf("an empty context has hints: %+v", bare)
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

// Hints report to the same recorder as driver.ReportVersion.
func TestHintsReportVersions(t *testing.T) {
	bare := layer.HintsFor(t.Context(), store.OpLoadThread)
	bare.ReportVersion("thr_1", 1, 2)
	if bare.Recording() {
		t.Error("Recording is true without a recorder")
	}
	reported := ""
	ctx := callctx.WithVersionRecorder(t.Context(), func(id string, before, after uint64) { reported = fmt.Sprint(id, before, after) })
	h := layer.HintsFor(ctx, store.OpLoadThread)
	h.ReportVersion("thr_1", 1, 2)
	if want := fmt.Sprint("thr_1", 1, 2); reported != want || !h.Recording() {
		t.Errorf("got %q, want %q", reported, want)
	}
}

// Different principals have different partitions, even if their joined parts are the same text.
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
		t.Error("the order or repetition of roles changes the partition")
	}
}

func TestHintsOwnerLetsNobodyInWhoCouldNotOwnARow(t *testing.T) {
	if _, ok := layer.HintsFor(t.Context(), 0).Owner(); ok {
		t.Error("a context without a principal has an owner")
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
		for _, ctx := range []context.Context{ctx, callctx.With(context.WithoutCancel(ctx), (*callctx.Data).Detach)} {
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
	reported := 0
	ctx := spy.WithUnsettledRecorder(t.Context(), func(<-chan struct{}) { reported++ })
	layer.ReportUnsettled(ctx)
	layer.ReportUnsettled(callctx.With(context.WithoutCancel(ctx), (*callctx.Data).Detach)) // detached from the caller
	layer.ReportUnsettled(t.Context())
	if reported != 1 {
		t.Errorf("reported %d times, want once", reported)
	}
}

// A layer in between may make its own calls of other ops. They get no notes.
func TestNotes(t *testing.T) {
	ctx, n := layer.WithNotes(t.Context(), store.OpLoadThread, "origin")
	if layer.HintsFor(t.Context(), store.OpLoadThread).Notes != nil || layer.HintsFor(ctx, store.OpLoadItem).Notes != nil {
		t.Error("a call got the notes of another one")
	}
	inner := layer.HintsFor(ctx, store.OpLoadThread).Notes
	if inner != n || inner.Origin() != "origin" {
		t.Errorf("got notes %v with origin %v", inner, inner.Origin())
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
		t.Error("a nil *Notes has notes")
	}
}
