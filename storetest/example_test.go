package storetest_test

import (
	"testing"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// In a program, this is func TestConformance in a file of its tests, and New is its own.
func ExampleRun() {
	_ = func(t *testing.T) {
		storetest.Run(t, func(*testing.T) store.Store { return memstore.New() })
	}
}

// A layer that holds or shares what it has read. The floor is there because a cache that was never hit is always right.
func ExampleLinearizable() {
	_ = func(t *testing.T) {
		storetest.Linearizable(t, cache.New(), storetest.AtLeast(storetest.Coverage{Hits: 1000, PatchedHits: 50}))
	}
}

// Two processes over one base, each with a cache, and a bus between them that is made anew for each history.
func ExampleBeside() {
	_ = func(t *testing.T) {
		var shared bus.Bus
		first := func(base store.Store) store.Store {
			shared = bus.Local()
			return cache.New(cache.WithBus(shared))(base)
		}
		second := func(base store.Store) store.Store { return cache.New(cache.WithBus(shared))(base) }
		storetest.Linearizable(t, first, storetest.Beside(second))
	}
}
