package storetest_test

import (
	"testing"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

func TestMemstore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New() }, storetest.WithVersionsRequired())
}

// A Store with rows of other programs passes as well.
func TestOneStoreForAll(t *testing.T) {
	s := memstore.New()
	for range 2 {
		storetest.Run(t, func(*testing.T) store.Store { return s })
	}
}
