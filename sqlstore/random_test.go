package sqlstore_test

import (
	"testing"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

func TestRandomCalls(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		s := open(t) // once: opening a database takes longer than a sequence of calls
		storetest.Random(t, func(*testing.T) store.Store { return s })
	})
}

func TestRandomCallsThroughTheRecommendedStack(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		s := recommended(t, open(t))
		storetest.Random(t, func(*testing.T) store.Store { return s })
	})
}
