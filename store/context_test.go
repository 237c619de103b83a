package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

func TestThePrincipalTravels(t *testing.T) {
	if _, ok := store.PrincipalFrom(t.Context()); ok {
		t.Error("nobody was named")
	}
	roles := []string{"admin"}
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Tenant: "t", Subject: "s"}, Roles: roles})
	roles[0] = "changed"
	ctx = store.WithFresh(store.WithNoStore(store.WithSaveMode(ctx, store.InsertOnly)))
	p, ok := store.PrincipalFrom(ctx)
	if !ok || p.Owner.Subject != "s" || p.Roles[0] != "admin" {
		t.Errorf("got %+v %v; the roles are copied and other data leaves it alone", p, ok)
	}
	if store.SaveModeFrom(ctx) != store.InsertOnly {
		t.Error("the save mode was lost")
	}
	if h := layer.HintsFor(ctx, store.OpLoadThread); !h.Fresh() || !h.NoStore() || h.Partition() != layer.HintsFor(ctx, 0).Partition() {
		t.Errorf("hints: %+v", h)
	}
	bare := callctx.WithoutPrincipal(ctx)
	if _, ok := store.PrincipalFrom(bare); ok || layer.HintsFor(bare, 0).Partition() != (layer.Partition{}) {
		t.Error("WithoutPrincipal left one")
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

func TestVersionsAreReportedToTheInnermostRecorder(t *testing.T) {
	driver.ReportVersion(t.Context(), "thr_1", 1, 2) // nobody listens
	var outer, inner int
	ctx := callctx.WithVersionRecorder(t.Context(), func(string, uint64, uint64) { outer++ })
	ctx2 := callctx.WithVersionRecorder(ctx, func(id string, before, after uint64) {
		if id != "thr_1" || before != 1 || after != 2 {
			t.Errorf("told %s %d %d", id, before, after)
		}
		inner++
	})
	driver.ReportVersion(ctx2, "thr_1", 1, 2)
	if outer != 0 || inner != 1 {
		t.Errorf("outer %d, inner %d", outer, inner)
	}
	layer.HintsFor(ctx2, store.OpLoadThread).ReportVersion("thr_1", 1, 2)
	if inner != 2 {
		t.Error("Hints.ReportVersion did not report")
	}
}

func TestADetachedContextHasOnlyWhatIsEverybodys(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "span"), time.Hour)
	ctx = store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Subject: "s"}})
	ctx = store.WithFresh(store.WithNoStore(store.WithSaveMode(ctx, store.UpdateOnly)))
	ctx = callctx.WithVersionRecorder(ctx, func(string, uint64, uint64) { t.Error("one caller's recorder was told") })
	ctx, _ = layer.WithNotes(ctx, store.OpLoadThread, nil)
	d := callctx.Detached(ctx)
	cancel()
	if d.Err() != nil || d.Done() != nil {
		t.Error("one caller's cancellation reaches it")
	}
	if _, ok := d.Deadline(); ok {
		t.Error("one caller's deadline reaches it")
	}
	driver.ReportVersion(d, "thr_1", 1, 1)
	h := layer.HintsFor(d, store.OpLoadThread)
	if h.Fresh() || h.NoStore() || h.Notes != nil || store.SaveModeFrom(d) != store.Upsert {
		t.Errorf("one caller's hints reach it: %+v", h)
	}
	if p, ok := store.PrincipalFrom(d); !ok || p.Owner.Subject != "s" || d.Value(key{}) != "span" {
		t.Error("values were lost")
	}
}

func TestNotes(t *testing.T) {
	ctx, n := layer.WithNotes(t.Context(), store.OpLoadThread, "origin")
	if layer.HintsFor(t.Context(), store.OpLoadThread).Notes != nil || layer.HintsFor(ctx, store.OpLoadItem).Notes != nil {
		t.Error("notes of another call were found")
	}
	inner := layer.HintsFor(ctx, store.OpLoadThread).Notes
	if inner.Origin() != "origin" {
		t.Errorf("origin %v", inner.Origin())
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

func TestOwnerFromLetsNobodyInWhoCouldNotOwnARow(t *testing.T) {
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

// A layer between may make calls of other ops for its own ends: they are not the noted one.
func TestHintsHaveTheNotesOfTheirOpOnly(t *testing.T) {
	ctx, notes := layer.WithNotes(t.Context(), store.OpSaveItem, nil)
	if got := layer.HintsFor(ctx, store.OpSaveItem).Notes; got != notes {
		t.Errorf("got %v for the op itself", got)
	}
	if got := layer.HintsFor(ctx, store.OpLoadThread).Notes; got != nil {
		t.Errorf("got %v for another op", got)
	}
}

func TestStampAndUnsettledTravelWithTheContext(t *testing.T) {
	told := 0
	stamp := bus.Stamp{Origin: "a", Write: 7}
	ctx := callctx.WithUnsettledRecorder(bus.WithStamp(t.Context(), stamp), func() { told++ })
	if got := bus.StampFrom(ctx); got != stamp {
		t.Errorf("got %v", got)
	}
	layer.ReportUnsettled(ctx)
	layer.ReportUnsettled(callctx.Detached(ctx)) // a call for several callers is no write of theirs
	layer.ReportUnsettled(t.Context())
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	if got := bus.StampFrom(callctx.Detached(ctx)); got != (bus.Stamp{}) {
		t.Errorf("a detached call bears %v", got)
	}
}

// What a context is given is one allocation, however much it had before: layers do it in every call.
func TestAContextsDataIsOneAllocation(t *testing.T) {
	type foreign struct{}
	other := context.WithValue(store.WithFresh(t.Context()), foreign{}, 1)
	for name, c := range map[string]struct {
		f    func()
		want float64
	}{
		"the first":         {func() { kept = store.WithNoStore(t.Context()) }, 1},
		"one upon one":      {func() { kept = store.WithNoStore(store.WithFresh(t.Context())) }, 2},
		"upon another's":    {func() { kept = store.WithNoStore(other) }, 1},
		"notes":             {func() { kept, _ = layer.WithNotes(other, store.OpLoadThread, nil) }, 1},
		"nothing to change": {func() { kept = store.WithSaveMode(other, store.Upsert) }, 0},
	} {
		if n := testing.AllocsPerRun(100, c.f); n != c.want {
			t.Errorf("%s: %v allocations, want %v", name, n, c.want)
		}
	}
}

var kept context.Context // so that nothing is optimized away

// Data that is given upon data takes its place; a context of another's in between changes neither.
func TestAContextsDataIsOneStep(t *testing.T) {
	type foreign struct{}
	ctx := store.WithFresh(t.Context())
	ctx = context.WithValue(ctx, foreign{}, "theirs")
	ctx = store.WithNoStore(ctx)
	ctx = store.WithSaveMode(ctx, store.InsertOnly)
	ctx, notes := layer.WithNotes(ctx, store.OpLoadThread, nil)
	h := layer.HintsFor(ctx, store.OpLoadThread)
	if !h.Fresh() || !h.NoStore() || h.Notes != notes || store.SaveModeFrom(ctx) != store.InsertOnly || ctx.Value(foreign{}) != "theirs" {
		t.Errorf("something was lost: %+v", h)
	}
	if steps := strings.Count(fmt.Sprint(ctx), "WithValue(store)"); steps != 2 {
		t.Errorf("a lookup passes %d contexts with data, want one on each side of the other's: %v", steps, ctx)
	}
}
