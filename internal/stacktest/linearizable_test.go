package stacktest_test

import (
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/linear"
)

// histories is how many are run of each scenario.
func histories() linear.Option {
	if testenv.Race || testing.Short() {
		return linear.WithHistories(10)
	}
	return linear.WithHistories(100)
}

// seen is a floor under what the histories must have tried, of which a short run, or one under the race detector, makes a part.
func seen(c linear.Coverage) linear.Option {
	if testenv.Race || testing.Short() {
		part := func(n int) int { return n / 20 }
		c = linear.Coverage{Hits: part(c.Hits), PatchedHits: part(c.PatchedHits), Joined: part(c.Joined),
			Evictions: part(c.Evictions), Late: part(c.Late), Cancelled: part(c.Cancelled)}
	}
	return linear.WithFloor(c)
}

// small has room for four threads of three items, so that what is held ends in every way there is.
func small(opts ...cache.Option) store.Middleware {
	return cache.New(append([]cache.Option{cache.WithWindow(3), cache.WithMaxEntries(4)}, opts...)...)
}

func TestTheCacheIsLinearizable(t *testing.T) {
	t.Parallel()
	t.Run("over versions", func(t *testing.T) {
		t.Parallel()
		linear.Run(t, small(), histories(),
			seen(linear.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
	})
	t.Run("as the sole writer", func(t *testing.T) {
		t.Parallel()
		linear.Run(t, small(cache.WithSoleWriter()), histories(), linear.WithoutVersions(),
			seen(linear.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
	})
	t.Run("over a base without versions", func(t *testing.T) {
		t.Parallel()
		linear.Run(t, small(), histories(), linear.WithoutVersions(),
			seen(linear.Coverage{Hits: 4000, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
	})
	t.Run("with room for everything", func(t *testing.T) {
		t.Parallel()
		linear.Run(t, cache.New(), histories(),
			seen(linear.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Late: 30, Cancelled: 300}))
	})
}

func TestSingleflightIsLinearizable(t *testing.T) {
	t.Parallel()
	linear.Run(t, singleflight.New(), histories(),
		seen(linear.Coverage{Joined: 800, Late: 30, Cancelled: 300}))
}

func TestCacheAndSingleflightAreLinearizableInEitherOrder(t *testing.T) {
	t.Parallel()
	for name, mw := range map[string][]store.Middleware{
		"cache outside":        {small(), singleflight.New()},
		"singleflight outside": {singleflight.New(), small()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			linear.Run(t, func(base store.Store) store.Store { return store.Wrap(base, mw...) }, histories(),
				seen(linear.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
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
	linear.Run(t, func(base store.Store) store.Store { return whole(t, base) }, histories(), seen(linear.Coverage{Hits: 3000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
}

// Two stacks over one base, with a bus that delivers before a write returns.
func TestTwoCachesOnALocalBusSeeEachOthersReturnedWrites(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]linear.Option{
		"over versions":                {seen(linear.Coverage{Hits: 3000, PatchedHits: 40, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300})},
		"over a base without versions": {seen(linear.Coverage{Hits: 3000, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300}), linear.WithoutVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wire bus.Bus
			first := func(base store.Store) store.Store {
				wire = bus.Local() // one for each history
				return small(cache.WithBus(wire))(base)
			}
			second := func(base store.Store) store.Store { return small(cache.WithBus(wire))(base) }
			linear.Run(t, first, append(opts, linear.WithBeside(second), histories())...)
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
	linear.Run(t, first, linear.WithBeside(second), histories(),
		seen(linear.Coverage{Hits: 3000, PatchedHits: 40, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300}))
}
