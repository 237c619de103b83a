package sqlstore_test

import (
	"testing"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

func TestRandomCalls(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		s := open(t) // opened once, because that takes longer than a sequence of calls
		storetest.Random(t, func(*testing.T) store.Store { return s }, storetest.WithOneIn(4))
	})
}

// With such a small window and so few entries, every edge case occurs.
func TestRandomCallsThroughTheRecommendedStackWithATinyCache(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		spareTheDetector(t, "sqlite_in_memory")
		base := open(t)
		for window := 2; window <= 3; window++ {
			s := recommended(t, base, cache.WithWindow(window), cache.WithMaxEntries(2))
			storetest.Random(t, func(*testing.T) store.Store { return s }, storetest.WithOneIn(8))
		}
	})
}
