package customstore_test

import (
	"testing"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/resilience"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/examples/customstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// This is all you need to check a Store of your own. Run it with -race.
func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return customstore.New() }, storetest.WithVersionsRequired())
}

func TestRandomCalls(t *testing.T) {
	storetest.Random(t, func(*testing.T) store.Store { return customstore.New() })
}

func TestConformanceInTheStack(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return stack() })
}

func TestRandomCallsInTheStack(t *testing.T) {
	storetest.Random(t, func(*testing.T) store.Store { return stack() })
}

func stack() store.Store {
	return store.Wrap(customstore.New(),
		tracing.New(),
		authz.New(authz.OwnerOnly(), authz.ShareBelow()),
		cache.New(),
		resilience.New(),
	)
}
