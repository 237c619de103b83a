package documents_test

import (
	"testing"

	"github.com/chatstore/chatstore/examples/adapt/documents"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

func TestConformance(t *testing.T) {
	open := func(*testing.T) store.Store { return documents.New(documents.NewDB()) }
	storetest.Run(t, open, storetest.WithVersionsRequired())
}

func TestRandomCalls(t *testing.T) {
	storetest.Random(t, func(*testing.T) store.Store { return documents.New(documents.NewDB()) })
}
