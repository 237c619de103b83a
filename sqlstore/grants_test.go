package sqlstore_test

import (
	"testing"

	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/storetest/grants"
)

func TestGrantsConform(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		grants.Run(t, func(t *testing.T) sharing.Store { return open(t, sqlstore.WithTablePrefix("shared_")) })
	})
}
