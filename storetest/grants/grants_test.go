package grants

import (
	"testing"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
)

func TestGrantsInMemory(t *testing.T) {
	Run(t, func(*testing.T) sharing.Store { return sharing.New(memstore.New()) })
}
