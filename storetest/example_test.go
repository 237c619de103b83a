package storetest_test

import (
	"testing"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// In a program, this is func TestConformance in a test file, with your own New.
func ExampleRun() {
	_ = func(t *testing.T) {
		storetest.Run(t, func(*testing.T) store.Store { return memstore.New() })
	}
}
