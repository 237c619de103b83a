package decorators_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// policy is owners, administrators, and whoever has a part in a thread.
func policy(g *storetest.Grants) authz.Policy {
	return authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"), authz.Grants(
		func(_ context.Context, p store.Principal, threadID string, _ store.Owner) (authz.Role, error) {
			switch g.Role(p, threadID) {
			case "viewer":
				return authz.Viewer, nil
			case "editor":
				return authz.Editor, nil
			}
			return authz.NoRole, nil
		}))
}

type guardedStack = func(store.Store, *storetest.Grants) store.Store

// guardedBy makes a stack of layers around, and beneath, the guard.
func guardedBy(outside, inside []func() store.Middleware, opts ...authz.Option) guardedStack {
	return func(base store.Store, g *storetest.Grants) store.Store {
		var mw []store.Middleware
		for _, m := range outside {
			mw = append(mw, m())
		}
		mw = append(mw, authz.New(policy(g), opts...))
		for _, m := range inside {
			mw = append(mw, m())
		}
		return store.Wrap(base, mw...)
	}
}

func TestNobodyLearnsOfOthers(t *testing.T) {
	cached := func() store.Middleware { return cache.New(cache.WithMaxEntries(8), cache.AllowAroundAuthz()) }
	flights := func() store.Middleware { return singleflight.New() }
	counted := func() store.Middleware {
		m, err := metrics.New(prometheus.NewRegistry())
		must(t, err)
		return m
	}
	traced := func() store.Middleware { return tracing.New() }
	type mws = []func() store.Middleware
	traces := storetest.Traces(150)
	if raceDetector || testing.Short() {
		traces = storetest.Traces(40)
	}
	share := authz.ShareBelow()
	for _, c := range []struct {
		name  string
		stack guardedStack
		opts  []storetest.IsolatedOption
	}{
		{"the guard alone", guardedBy(nil, nil), []storetest.IsolatedOption{storetest.CountingCalls()}},
		{"a shared cache inside", guardedBy(nil, mws{cached}, share), nil},
		{"a partitioned cache inside", guardedBy(nil, mws{cached}), nil},
		{"a shared flight inside", guardedBy(nil, mws{flights}, share), []storetest.IsolatedOption{storetest.CountingCalls()}},
		{"a partitioned flight inside", guardedBy(nil, mws{flights}), []storetest.IsolatedOption{storetest.CountingCalls()}},
		{"both inside", guardedBy(nil, mws{cached, flights}, share), nil},
		{"a cache outside", guardedBy(mws{cached}, nil), []storetest.IsolatedOption{storetest.RevokedLate()}},
		{"a flight outside", guardedBy(mws{flights}, nil), []storetest.IsolatedOption{storetest.CountingCalls()}},
		{"both outside", guardedBy(mws{flights, cached}, nil), []storetest.IsolatedOption{storetest.RevokedLate()}},
		{"the recommended stack", guardedBy(mws{traced, counted}, mws{cached, counted}, share), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			storetest.Isolated(t, c.stack, append(c.opts, traces)...)
		})
		t.Run(c.name+", over a hostile base", func(t *testing.T) {
			t.Parallel()
			// What such a base answers depends on everybody's rows, and so does what it costs.
			opts := []storetest.IsolatedOption{storetest.OverHostile(hostile), traces}
			if c.name == "a cache outside" || c.name == "both outside" {
				opts = append(opts, storetest.RevokedLate())
			}
			storetest.Isolated(t, c.stack, opts...)
		})
	}
}

// Around the guard, a cache answers with what was given until the entry expires, and not a moment longer: not even if it is asked
// all the time.
func TestARevocationIsSeenAtTheTTLWhereACacheIsOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = time.Minute
		role := authz.Viewer
		guard := authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Grants(
			func(context.Context, store.Principal, string, store.Owner) (authz.Role, error) { return role, nil })))
		s := store.Wrap(memstore.New(), cache.New(cache.AllowAroundAuthz(), cache.WithTTL(ttl)), guard)
		defer store.Close(s)
		as := func(subject string) context.Context {
			return store.WithPrincipal(t.Context(), store.Principal{Owner: store.Owner{Subject: subject}})
		}
		must(t, s.SaveThread(as("ada"), titled("thr_1", "hers")))
		if got := title(as("bob"), s); got != "hers" {
			t.Fatalf("a viewer reads %q", got)
		}
		role = authz.NoRole
		for waited := time.Duration(0); waited < ttl*9/10; waited += time.Second { // the jitter is a tenth
			if got := title(as("bob"), s); got != "hers" {
				t.Fatalf("after %v, within the TTL, bob reads %q: was it cached at all?", waited, got)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(ttl / 10)
		if got := title(as("bob"), s); got != "not_found" {
			t.Errorf("after the TTL, bob reads %q", got)
		}
	})
}

// hostileBase lists everybody's threads whatever is asked for, and finds items in whichever thread has them.
type hostileBase struct{ store.Store }

func hostile() store.Store { return hostileBase{memstore.New()} }

func (h hostileBase) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[store.Thread], error) {
	q.Owner, q.After = store.AnyOwner(), ""
	return h.Store.LoadThreads(ctx, q)
}

func (h hostileBase) LoadItem(ctx context.Context, threadID, itemID string) (store.Item, error) {
	it, err := h.Store.LoadItem(ctx, threadID, itemID)
	for _, id := range []string{"thr_a1", "thr_a2", "thr_b1", "thr_b2", "thr_o1", "thr_o2"} {
		if err == nil {
			break
		}
		it, err = h.Store.LoadItem(ctx, id, itemID)
	}
	return it, err
}

func (h hostileBase) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
	p, err := h.Store.LoadThreadItems(ctx, threadID, q)
	for _, id := range []string{"thr_b1", "thr_a1", "thr_o1"} {
		if err == nil && len(p.Data) > 0 {
			break
		}
		p, err = h.Store.LoadThreadItems(ctx, id, q)
	}
	return p, err
}

func FuzzIsolated(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x01\x01\x00\x00" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x01\x00\x00\x00\x03\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, trace []byte) {
		storetest.IsolatedTrace(t, trace, guardedBy(nil, []func() store.Middleware{
			func() store.Middleware { return cache.New(cache.WithMaxEntries(8)) },
		}, authz.ShareBelow()))
	})
}
