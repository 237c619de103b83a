package stacktest_test

import (
	"testing"

	"github.com/chatstore/chatstore/internal/stacktest"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func TestTwoServersAnswerOneFormAtOnce(t *testing.T) {
	base := memstore.New()
	stacktest.TwoServersAnswerOneForm(t, func(testing.TB) store.Store { return base }, tries(2000, 100))
}
