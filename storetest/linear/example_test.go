package linear_test

import (
	"testing"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/linear"
)

// A layer that holds or shares what it has read. The floor is there because a cache that was never hit is always right.
func ExampleRun() {
	_ = func(t *testing.T) {
		linear.Run(t, cache.New(), linear.WithFloor(linear.Coverage{Hits: 1000, PatchedHits: 50}))
	}
}

// Two processes over one base, each with a cache, and a bus between them that is made anew for each history.
func ExampleWithBeside() {
	_ = func(t *testing.T) {
		var shared bus.Bus
		first := func(base store.Store) store.Store {
			shared = bus.Local()
			return cache.New(cache.WithBus(shared))(base)
		}
		second := func(base store.Store) store.Store { return cache.New(cache.WithBus(shared))(base) }
		linear.Run(t, first, linear.WithBeside(second))
	}
}
