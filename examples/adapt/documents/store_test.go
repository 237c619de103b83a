package documents_test

import (
	"testing"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/examples/adapt/documents"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

func TestConformance(t *testing.T) {
	open := func(*testing.T) store.Store { return documents.New(newMemory()) }
	storetest.Run(t, open, storetest.WithVersionsRequired())
}

func TestRandomCalls(t *testing.T) {
	storetest.Random(t, func(*testing.T) store.Store { return documents.New(newMemory()) })
}

func TestRandomCallsInTheStack(t *testing.T) {
	storetest.Random(t, func(t *testing.T) store.Store {
		s := store.Wrap(documents.New(newMemory()), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
		t.Cleanup(func() { _ = store.Close(s) })
		return s
	})
}
