package stacktest_test

import (
	"log/slog"
	"testing"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/linear"
)

// histories sets the number of histories of each scenario: 100, or part if the tests do not try all.
func histories(part int) linear.Option { return linear.WithHistories(tries(100, part)) }

// seen sets the coverage that the histories must reach: c for 100 of them, and half of its share for part of them.
func seen(part int, c linear.Coverage) linear.Option {
	if !tryAll() {
		share := func(n int) int { return n * part / 200 }
		c = linear.Coverage{Hits: share(c.Hits), PatchedHits: share(c.PatchedHits), Joined: share(c.Joined),
			Evictions: share(c.Evictions), Late: share(c.Late), Cancelled: share(c.Cancelled)}
	}
	return linear.WithFloor(c)
}

// mutating is the part for tests that must notice mutants (see internal/mutants). With fewer histories they miss some.
const mutating = 40

// quiet keeps the warning of caches over bases without versions out of a test's output.
var quiet = cache.WithLogger(slog.New(slog.DiscardHandler))

// small returns a cache with room for four threads of three items, so that entries end in every possible way.
func small(opts ...cache.Option) store.Middleware {
	return cache.New(append([]cache.Option{cache.WithWindow(3), cache.WithMaxEntries(4), quiet}, opts...)...)
}

func TestTheCacheIsLinearizable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		cache store.Middleware
		floor linear.Coverage
		opts  []linear.Option
	}{
		{"over versions", small(), linear.Coverage{PatchedHits: 150, Evictions: 200}, nil},
		{"as the sole writer", small(cache.WithSoleWriter()), linear.Coverage{PatchedHits: 150, Evictions: 200},
			[]linear.Option{linear.WithoutVersions()}},
		{"over a base without versions", small(), linear.Coverage{Evictions: 200}, []linear.Option{linear.WithoutVersions()}},
		{"with room for everything", cache.New(), linear.Coverage{PatchedHits: 150}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.floor.Hits, c.floor.Joined, c.floor.Late, c.floor.Cancelled = 4000, 500, 30, 300
			linear.Run(t, c.cache, append(c.opts, histories(mutating), seen(mutating, c.floor))...)
		})
	}
}

func TestSingleflightIsLinearizable(t *testing.T) {
	t.Parallel()
	linear.Run(t, singleflight.New(), histories(mutating),
		seen(mutating, linear.Coverage{Joined: 800, Late: 30, Cancelled: 300}))
}

func TestCacheAndSingleflightAreLinearizableInEitherOrder(t *testing.T) {
	t.Parallel()
	for name, mw := range map[string][]store.Middleware{
		"cache outside":        {small(), singleflight.New()},
		"singleflight outside": {singleflight.New(), small()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			linear.Run(t, func(base store.Store) store.Store { return store.Wrap(base, mw...) }, histories(10),
				seen(10, linear.Coverage{Hits: 4000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
		})
	}
}

func TestTheRecommendedStackIsLinearizable(t *testing.T) {
	t.Parallel()
	linear.Run(t, func(base store.Store) store.Store { return inRecommended(t, base, small()) }, histories(10),
		seen(10, linear.Coverage{Hits: 3000, PatchedHits: 150, Joined: 500, Evictions: 200, Late: 30, Cancelled: 300}))
}

// TestTwoCachesOnALocalBusSeeEachOthersReturnedWrites has two stacks over one base. The bus delivers before a write returns.
func TestTwoCachesOnALocalBusSeeEachOthersReturnedWrites(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]linear.Option{
		"over versions":                {seen(10, linear.Coverage{Hits: 3000, PatchedHits: 40, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300})},
		"over a base without versions": {seen(10, linear.Coverage{Hits: 3000, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300}), linear.WithoutVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var wire bus.Bus
			first := func(base store.Store) store.Store {
				wire = bus.Local() // a new bus for each history
				return small(cache.WithBus(wire))(base)
			}
			second := func(base store.Store) store.Store { return small(cache.WithBus(wire))(base) }
			linear.Run(t, first, append(opts, linear.WithBeside(second), histories(10))...)
		})
	}
}

func TestTwoRecommendedStacksOnALocalBusSeeEachOthersReturnedWrites(t *testing.T) {
	t.Parallel()
	var wire bus.Bus
	first := func(base store.Store) store.Store {
		wire = bus.Local() // a new bus for each history
		return inRecommended(t, base, small(cache.WithBus(wire)))
	}
	second := func(base store.Store) store.Store { return inRecommended(t, base, small(cache.WithBus(wire))) }
	linear.Run(t, first, linear.WithBeside(second), histories(10),
		seen(10, linear.Coverage{Hits: 3000, PatchedHits: 40, Joined: 100, Evictions: 100, Late: 30, Cancelled: 300}))
}
