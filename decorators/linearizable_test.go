package decorators_test

import (
	"testing"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/storetest"
)

func TestCacheIsLinearizable(t *testing.T) {
	storetest.Linearizable(t, cache.New(cache.WithWindow(3), cache.WithMaxEntries(4)))
}

func TestSingleflightIsLinearizable(t *testing.T) {
	storetest.Linearizable(t, singleflight.New())
}
