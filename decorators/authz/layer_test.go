package authz_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

func TestConformance(t *testing.T) {
	for name, opts := range map[string][]authz.Option{"alone": nil, "sharing": {authz.ShareBelow()}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) store.Store {
				return store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), opts...))
			})
		})
	}
	t.Run("twice", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			return store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()), authz.New(authz.AnyOf(authz.HasRole("op"), authz.OwnerOnly())))
		})
	})
}

// TestWhoCannotOwnRowsIsNobody checks that a principal that cannot own rows is unauthenticated in every call, also if it has a
// role. The base is not called.
func TestWhoCannotOwnRowsIsNobody(t *testing.T) {
	contexts := map[string]context.Context{"no principal": t.Context()}
	for name, o := range map[string]chat.Owner{
		"zero":            {},
		"empty subject":   {Tenant: "acme"},
		"control in it":   {Tenant: "acme", Subject: "a\x00da"},
		"not UTF-8":       {Tenant: "acme", Subject: "a\xffda"},
		"too long":        {Tenant: "acme", Subject: strings.Repeat("a", chat.MaxIDBytes+1)},
		"tenant, control": {Tenant: "ac\nme", Subject: "ada"},
		"tenant too long": {Tenant: strings.Repeat("a", chat.MaxIDBytes+1), Subject: "ada"},
	} {
		contexts[name] = as(t, o, "op")
	}
	for name, ctx := range contexts {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, authz.HasRole("op"))
			for _, p := range probes() {
				wants(t, errOf(p.call(caller{w, ctx, there})), store.ErrUnauthenticated)
			}
			w.calls(t)
			if w.GenerateThreadID(ctx) == "" || w.GenerateItemID(ctx, chat.KindTask, chat.Thread{}) == "" {
				t.Error("a call without a valid principal got no id, but ids need none")
			}
		})
	}
}

// TestOrderOfChecks checks the order: arguments, then the context, then the principal.
func TestOrderOfChecks(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		id   string
		want error
	}{
		{"invalid, cancelled, no principal", gone, "", store.ErrInvalid},
		{"invalid, no principal", t.Context(), "", store.ErrInvalid},
		{"cancelled, no principal", gone, thr, context.Canceled},
		{"no principal", t.Context(), thr, store.ErrUnauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := store.PageQuery{}
			if c.id == "" {
				q.Limit = -1
			}
			wants(t, errOf(w.LoadThread(c.ctx, c.id)), c.want)
			wants(t, w.SaveThread(c.ctx, thread(c.id, ada)), c.want)
			wants(t, w.DeleteThread(c.ctx, c.id), c.want)
			wants(t, errOf(w.LoadThreads(c.ctx, store.ThreadQuery{PageQuery: q})), c.want)
			wants(t, errOf(w.LoadThreadItems(c.ctx, thr, q)), c.want)
			wants(t, errOf(w.LoadThreadItems(c.ctx, c.id, store.PageQuery{})), c.want)
			item := message(msg)
			item.ID = c.id
			wants(t, w.AddThreadItem(c.ctx, thr, item), c.want)
			wants(t, w.AddThreadItem(c.ctx, c.id, message(msg)), c.want)
			wants(t, w.SaveItem(c.ctx, thr, item), c.want)
			wants(t, w.SaveItem(c.ctx, c.id, message(msg)), c.want)
			for _, ids := range [][2]string{{thr, c.id}, {c.id, msg}} {
				wants(t, errOf(w.LoadItem(c.ctx, ids[0], ids[1])), c.want)
				wants(t, w.DeleteThreadItem(c.ctx, ids[0], ids[1]), c.want)
			}
			a := attachment(atc, ada)
			a.ID = c.id
			wants(t, w.SaveAttachment(c.ctx, a), c.want)
			wants(t, errOf(w.LoadAttachment(c.ctx, c.id)), c.want)
			wants(t, w.DeleteAttachment(c.ctx, c.id), c.want)
			w.calls(t)
		})
	}
}

// TestListings checks that the base gets the narrowed filter, so that pages are full.
func TestListings(t *testing.T) {
	w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin"), authz.HasRole("op")))
	for i := range 30 {
		must(t, w.base.SaveThread(t.Context(), thread(fmt.Sprintf("thr_bob_%02d", i), bob)))
	}
	must(t, w.base.SaveThread(t.Context(), thread("thr_nobodys", chat.Owner{})))
	for _, c := range []struct {
		name  string
		role  string
		query store.ThreadQuery
		want  int
		more  bool
		err   error
	}{
		{"own, by the zero filter", "", store.ThreadQuery{}, 1, false, nil},
		{"own, by name", "", store.ThreadQuery{Owner: store.OwnedBy(ada)}, 1, false, nil},
		{"every owner's, narrowed to own", "", store.ThreadQuery{Owner: store.AnyOwner()}, 1, false, nil},
		{"the tenant's, narrowed to own", "", store.ThreadQuery{Owner: store.InTenant("acme")}, 1, false, nil},
		{"another owner's", "", store.ThreadQuery{Owner: store.OwnedBy(bob)}, 0, false, nil},
		{"another owner's, after", "", store.ThreadQuery{Owner: store.OwnedBy(bob), PageQuery: store.PageQuery{After: "thr_bob_00"}}, 0, false, store.ErrNotFound},
		{"own, after another owner's", "", store.ThreadQuery{PageQuery: store.PageQuery{After: "thr_bob_00"}}, 0, false, store.ErrNotFound},
		{"own, after own", "", store.ThreadQuery{PageQuery: store.PageQuery{After: thr}}, 0, false, nil},
		{"own, by the zero filter, of an admin", "admin", store.ThreadQuery{}, 1, false, nil},
		{"the tenant's, of an admin", "admin", store.ThreadQuery{Owner: store.AnyOwner()}, 20, true, nil},
		{"one of the tenant's, of an admin", "admin", store.ThreadQuery{Owner: store.OwnedBy(bob), PageQuery: store.PageQuery{Limit: 50}}, 30, false, nil},
		{"another tenant's, of an admin", "admin", store.ThreadQuery{Owner: store.InTenant("evil")}, 0, false, nil},
		{"every owner's, of an operator", "op", store.ThreadQuery{Owner: store.AnyOwner(), PageQuery: store.PageQuery{Limit: 50}}, 33, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			page, err := w.LoadThreads(as(t, ada, c.role), c.query)
			wants(t, err, c.err)
			if err != nil && !strings.HasSuffix(err.Error(), fmt.Sprintf("thread %q", c.query.After)) {
				t.Errorf("the error %q does not name the cursor", err)
			}
			if len(page.Data) != c.want || page.HasMore != c.more {
				t.Errorf("got %d threads, more %v; want %d, more %v", len(page.Data), page.HasMore, c.want, c.more)
			}
		})
	}
}

// TestCursorErrorsNameTheCursor checks errors of this layer and of the base.
func TestCursorErrorsNameTheCursor(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	for _, id := range []string{thr, eveThr, noThr} {
		_, err := w.LoadThreadItems(as(t, ada), id, store.PageQuery{After: "msg_cursor"})
		if wants(t, err, store.ErrNotFound); !strings.HasSuffix(err.Error(), `item "msg_cursor"`) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestUnknownSaveModeIsInvalid checks that the save mode is checked before the principal.
func TestUnknownSaveModeIsInvalid(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	ctx := store.WithSaveMode(t.Context(), 7)
	wants(t, w.SaveThread(ctx, thread(thr, ada)), store.ErrInvalid)
	wants(t, w.SaveItem(ctx, thr, message(msg)), store.ErrInvalid)
	wants(t, w.SaveAttachment(ctx, attachment(atc, ada)), store.ErrInvalid)
}

// TestZeroScopeListsNothing checks that a policy that returns the zero filter does not list the rows without an owner.
func TestZeroScopeListsNothing(t *testing.T) {
	w := newWorld(t, scoping{store.OwnerFilter{}, true})
	must(t, w.base.SaveThread(t.Context(), thread("thr_nobodys", chat.Owner{})))
	w.spy.take()
	page, err := w.LoadThreads(as(t, ada), store.ThreadQuery{Owner: store.AnyOwner()})
	if err != nil || len(page.Data) > 0 || len(w.spy.take()) > 0 {
		t.Errorf("got %v, %v", page.Data, err)
	}
}

// TestScopeCannotWidenTheQuery checks a policy that ignores the filter of the query.
func TestScopeCannotWidenTheQuery(t *testing.T) {
	w := newWorld(t, scoping{store.AnyOwner(), true})
	page, err := w.LoadThreads(as(t, ada), store.ThreadQuery{})
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != thr {
		t.Errorf("got %v, %v", page.Data, err)
	}
}

// askedToShare records whether it was asked to share.
type askedToShare struct {
	store.Store
	asked bool
}

func (s *askedToShare) Unwrap() store.Store     { return s.Store }
func (s *askedToShare) ShareBetweenPrincipals() { s.asked = true }

// TestShareBelow checks that layers share only with the option, and only down to the next guard.
func TestShareBelow(t *testing.T) {
	for name, c := range map[string]struct {
		opts []authz.Option
		want bool
	}{"without": {nil, false}, "with": {[]authz.Option{authz.ShareBelow()}, true}} {
		t.Run(name, func(t *testing.T) {
			near, far := &askedToShare{}, &askedToShare{}
			into := func(s *askedToShare) store.Middleware {
				return func(next store.Store) store.Store { s.Store = next; return s }
			}
			store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), c.opts...), into(near), authz.New(authz.OwnerOnly()), into(far))
			if near.asked != c.want || far.asked {
				t.Errorf("shares: the near layer %v, the layer behind another guard %v; want %v, false", near.asked, far.asked, c.want)
			}
		})
	}
}

// TestNobodyLooksThrough checks that the stack gives access to the names, health and statistics of the layers beneath, and to no
// Store.
func TestNobodyLooksThrough(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	for s := range store.All[store.Store](w.Store) {
		if s != w.Store {
			t.Errorf("As finds %T", s)
		}
	}
	if _, ok := w.Store.(store.Unwrapper); ok {
		t.Error("the layer can be unwrapped")
	}
	if b, ok := store.As[driver.WriteBounder](w.Store); !ok {
		t.Error("no driver.WriteBounder, which a cache outside needs")
	} else if _, ok := b.(store.Store); ok {
		t.Error("the driver.WriteBounder is the base itself")
	}
	if h, ok := store.As[store.HealthChecker](w.Store); !ok || h.CheckHealth(t.Context()) != nil {
		t.Error("no health check")
	}
	if d := cmp.Diff([]string{"authz", "spy", "memstore"}, store.Layers(w.Store)); d != "" {
		t.Errorf("layers (-want +got):\n%s", d)
	}
	if !layer.Guarded(w.Store) {
		t.Error("not guarded")
	}
}

// TestClosedLayerStillGuards checks that this decorator, unlike others, still works when it is closed.
func TestClosedLayerStillGuards(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	must(t, store.Close(w.Store))
	wants(t, errOf(w.LoadThread(as(t, eve), thr)), store.ErrNotFound)
}

// TestVersionRecorderHearsOfTheCallOnly checks that the caller's recorder gets one report for the call, and none for the loads
// of this layer.
func TestVersionRecorderHearsOfTheCallOnly(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	for name, call := range map[string]func(ctx context.Context) error{
		"LoadThread":       func(ctx context.Context) error { _, err := w.LoadThread(ctx, thr); return err },
		"SaveThread":       func(ctx context.Context) error { return w.SaveThread(ctx, thread(thr, ada)) },
		"LoadItem":         func(ctx context.Context) error { _, err := w.LoadItem(ctx, thr, msg); return err },
		"LoadThreadItems":  func(ctx context.Context) error { _, err := w.LoadThreadItems(ctx, thr, store.PageQuery{}); return err },
		"SaveItem":         func(ctx context.Context) error { return w.SaveItem(ctx, thr, message(msg, atc)) },
		"DeleteThreadItem": func(ctx context.Context) error { return w.DeleteThreadItem(ctx, thr, "msg_none") },
	} {
		reports := 0
		ctx := callctx.WithVersionRecorder(as(t, ada), func(id string, before, after uint64) {
			if reports++; id != thr {
				t.Errorf("%s: a report about the thread %s", name, id)
			}
		})
		must(t, call(ctx))
		if reports != 1 {
			t.Errorf("%s: %d reports, want 1", name, reports)
		}
	}
	reports := 0
	ctx := callctx.WithVersionRecorder(as(t, eve), func(string, uint64, uint64) { reports++ })
	_ = w.DeleteThread(ctx, thr)
	_, _ = w.LoadThread(ctx, thr)
	_, _ = w.LoadItem(ctx, thr, msg)
	if reports > 0 {
		t.Errorf("%d reports about a hidden thread", reports)
	}
}

// TestNotesAreOfTheCallOnly checks that a cache beneath makes notes about the caller's call only, not about this layer's loads.
func TestNotesAreOfTheCallOnly(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	s := store.Wrap(w.base, authz.New(authz.OwnerOnly()), layer.Intercept("noting", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			layer.HintsFor(ctx, c.Op).Notes.SetCache(c.Op.String())
			return next(ctx)
		})))
	ctx, notes := layer.WithNotes(as(t, ada), store.OpDeleteThreadItem, nil)
	must(t, s.DeleteThreadItem(ctx, thr, "msg_none"))
	if cache, _, _ := notes.Close(); cache != "delete_thread_item" {
		t.Errorf("noted %q", cache)
	}
}

// still is a base that returns one thread and costs nothing.
type still struct {
	store.Store
	thread chat.Thread
}

func (s *still) LoadThread(context.Context, string) (chat.Thread, error) { return s.thread, nil }

// TestLoadThreadAllocatesNothing guards the hot path of a cached read.
func TestLoadThreadAllocatesNothing(t *testing.T) {
	for name, p := range map[string]authz.Policy{
		"owner only": authz.OwnerOnly(),
		"any of":     authz.AnyOf(authz.HasRole("op"), authz.TenantAdmin("admin"), authz.OwnerOnly()),
	} {
		s := store.Wrap(&still{thread: thread(thr, ada)}, authz.New(p, authz.WithAudit(func(context.Context, authz.Denial) {})))
		ctx := as(t, ada)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := s.LoadThread(ctx, thr); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
