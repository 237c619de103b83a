package linear_test

import (
	"testing"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/linear"
)

// This is for a layer that caches or shares reads. The floor is necessary, because a cache that is never hit passes every
// check.
func ExampleRun() {
	_ = func(t *testing.T) {
		linear.Run(t, cache.New(), linear.WithFloor(linear.Coverage{Hits: 1000, PatchedHits: 50}))
	}
}

// Two processes share one base. Each has a cache, and a bus connects them. Each history has a new bus.
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
