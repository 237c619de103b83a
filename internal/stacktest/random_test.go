package stacktest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// tiny returns a cache with a small window, so that random calls reach both ends of it. With few entries the cache evicts some, with
// enough it evicts none.
func tiny(window, entries int) store.Middleware {
	return cache.New(cache.WithWindow(window), cache.WithMaxEntries(entries), quiet)
}

const few, enough = 2, 256

func TestRandomCallsThroughEveryPermutationOfTheFive(t *testing.T) {
	orders := slices.DeleteFunc(permutations(names), refused)
	for i := range 2 * len(orders) {
		if testenv.Race && i%11 != 0 {
			continue
		}
		order, shared := orders[i/2], i%2 == 1
		t.Run(fmt.Sprintf("%s, shared %t", strings.Join(order, "-"), shared), func(t *testing.T) {
			t.Parallel()
			storetest.Random(t, func(t *testing.T) store.Store {
				sizes := []cache.Option{cache.WithWindow(2 + i/2%2), cache.WithMaxEntries([]int{few, enough}[i/4%2])}
				return parts{share: shared, cache: sizes}.wrap(memstore.New(), order...)
			}, storetest.WithOneIn(10))
		})
	}
}

// TestRandomCallsThroughTheCache uses the cache alone. No authz layer makes extra reads or denies calls, so the cache gets every
// call exactly as it is.
func TestRandomCallsThroughTheCache(t *testing.T) {
	for name, base := range map[string]func() store.Store{
		"over versions":                func() store.Store { return memstore.New() },
		"over a base without versions": func() store.Store { return spy.Unversioned(memstore.New()) },
	} {
		for window := 1; window <= 3; window++ {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				storetest.Random(t, func(*testing.T) store.Store { return store.Wrap(base(), tiny(window, few)) })
				storetest.Random(t, func(*testing.T) store.Store { return store.Wrap(base(), tiny(window, enough)) })
			})
		}
		t.Run(name+", as the sole writer", func(t *testing.T) {
			t.Parallel()
			storetest.Random(t, func(*testing.T) store.Store {
				return store.Wrap(base(), cache.New(cache.WithWindow(2), cache.WithMaxEntries(enough), cache.WithSoleWriter()))
			})
		})
	}
}

func TestRandomCallsThroughTheRecommendedStack(t *testing.T) {
	storetest.Random(t, func(t *testing.T) store.Store {
		return inRecommended(t, memstore.New(), tiny(2, few))
	})
}
