package stacktest_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// histories is how many are run of each scenario.
func histories() storetest.LinearizableOption { return storetest.Histories(tries(100, 10)) }

// seen is a floor under what 100 histories of each scenario must have tried. Ten must have tried a twentieth.
func seen(c storetest.Coverage) storetest.LinearizableOption {
	if !tryAll() {
		part := func(n int) int { return n / 20 }
		c = storetest.Coverage{Hits: part(c.Hits), PatchedHits: part(c.PatchedHits), Joined: part(c.Joined),
			Evictions: part(c.Evictions), Late: part(c.Late), Cancelled: part(c.Cancelled)}
	}
	return storetest.AtLeast(c)
}

// small has room for four threads of three items, so that what is held ends in every way there is.
func small(opts ...cache.Option) store.Middleware {
	return cache.New(append([]cache.Option{cache.WithWindow(3), cache.WithMaxEntries(4)}, opts...)...)
}

func TestTheCacheIsLinearizable(t *testing.T) {
	t.Parallel()
	t.Run("over versions", func(t *testing.T) {
		t.Parallel()
		storetest.Linearizable(t, small(), histories(),
			seen(storetest.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
	})
	t.Run("as the sole writer", func(t *testing.T) {
		t.Parallel()
		storetest.Linearizable(t, small(cache.WithSoleWriter()), histories(), storetest.WithoutVersions(),
			seen(storetest.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
	})
	t.Run("over a base without versions", func(t *testing.T) {
		t.Parallel()
		storetest.Linearizable(t, small(), histories(), storetest.WithoutVersions(),
			seen(storetest.Coverage{Hits: 4000, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
	})
	t.Run("with room for everything", func(t *testing.T) {
		t.Parallel()
		storetest.Linearizable(t, cache.New(), histories(),
			seen(storetest.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Late: 30, Cancelled: 300}))
	})
}

func TestSingleflightIsLinearizable(t *testing.T) {
	t.Parallel()
	storetest.Linearizable(t, singleflight.New(), histories(),
		seen(storetest.Coverage{Joined: 800, Late: 30, Cancelled: 300}))
}

func TestCacheAndSingleflightAreLinearizableInEitherOrder(t *testing.T) {
	t.Parallel()
	for name, mw := range map[string][]store.Middleware{
		"cache outside":        {small(), singleflight.New()},
		"singleflight outside": {singleflight.New(), small()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Linearizable(t, func(base store.Store) store.Store { return store.Wrap(base, mw...) }, histories(),
				seen(storetest.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
		})
	}
}

// whole is the recommended stack around a small cache.
func whole(t *testing.T, base store.Store, opts ...cache.Option) store.Store {
	reg := prometheus.NewRegistry()
	outer, err := metrics.New(reg, metrics.WithLayer("outer"))
	must(t, err)
	inner, err := metrics.New(reg, metrics.WithLayer("inner"))
	must(t, err)
	return store.Wrap(base, tracing.New(), outer, authz.New(authz.OwnerOnly(), authz.ShareBelow()), small(opts...), inner)
}

func TestTheRecommendedStackIsLinearizable(t *testing.T) {
	t.Parallel()
	storetest.Linearizable(t, func(base store.Store) store.Store { return whole(t, base) }, histories(), seen(storetest.Coverage{Hits: 3000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
}

// Two stacks over one base, with a bus that delivers before a write returns.
func TestTwoCachesOnALocalBusSeeEachOthersReturnedWrites(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]storetest.LinearizableOption{
		"over versions":                {seen(storetest.Coverage{Hits: 3000, PatchedHits: 40, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300})},
		"over a base without versions": {seen(storetest.Coverage{Hits: 3000, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300}), storetest.WithoutVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wire bus.Bus
			first := func(base store.Store) store.Store {
				wire = bus.Local() // one for each history
				return small(cache.WithBus(wire))(base)
			}
			second := func(base store.Store) store.Store { return small(cache.WithBus(wire))(base) }
			storetest.Linearizable(t, first, append(opts, storetest.Beside(second), histories())...)
		})
	}
}

func TestTwoRecommendedStacksOnALocalBusSeeEachOthersReturnedWrites(t *testing.T) {
	t.Parallel()
	var wire bus.Bus
	first := func(base store.Store) store.Store {
		wire = bus.Local() // one for each history
		return whole(t, base, cache.WithBus(wire))
	}
	second := func(base store.Store) store.Store { return whole(t, base, cache.WithBus(wire)) }
	storetest.Linearizable(t, first, storetest.Beside(second), histories(),
		seen(storetest.Coverage{Hits: 3000, PatchedHits: 40, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300}))
}
