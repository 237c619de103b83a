package cache_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// Without a bus, what another process writes is seen at the TTL, which counts from the begin of a load and is the least of all
// parts of an entry.
func TestTwoCachesWithoutABusAreATTLStaleAtMost(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Millisecond
	for name, versions := range map[string][]storetest.LinearizableOption{
		"over versions":                nil,
		"over a base without versions": {storetest.WithoutVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stack := cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithTTL(ttl), cache.NoJitter())
			storetest.Linearizable(t, stack, append(versions, storetest.Beside(stack), storetest.StaleBy(ttl),
				storetest.Histories(60), storetest.AtLeast(storetest.Coverage{Hits: 1000, Late: 10}))...)
		})
	}
}

// Entries that expire all the time, in one process.
func TestACacheWhoseEntriesExpireIsLinearizable(t *testing.T) {
	t.Parallel()
	storetest.Linearizable(t, cache.New(cache.WithMaxEntries(16), cache.WithTTL(time.Millisecond), cache.NoJitter()),
		storetest.Histories(60), storetest.AtLeast(storetest.Coverage{Hits: 2000, PatchedHits: 50, Late: 20}))
}

// A bus that is there and away again: what others write meanwhile, nobody tells.
func TestTwoCachesWhoseBusComesAndGoesSeeEachOthersReturnedWrites(t *testing.T) {
	t.Parallel()
	var bus store.Bus
	stack := func(base store.Store) store.Store {
		return cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithBus(&fitfulBus{Bus: bus}))(base)
	}
	first := func(base store.Store) store.Store {
		bus = cache.LocalBus() // one for each history
		return stack(base)
	}
	storetest.Linearizable(t, first, storetest.Beside(stack),
		storetest.AtLeast(storetest.Coverage{Hits: 1000, PatchedHits: 5, Late: 20}))
}

// fitfulBus loses its connection every while, and says so.
type fitfulBus struct {
	store.Bus
	away atomic.Bool
}

func (b *fitfulBus) Subscribe(ctx context.Context, f func(store.Change), connected func(bool)) (stop func()) {
	end := b.Bus.Subscribe(ctx, func(c store.Change) {
		if !b.away.Load() {
			f(c)
		}
	}, connected)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(400 * time.Microsecond):
			}
			if away := b.away.Load(); away {
				b.away.Store(false)
				connected(true)
			} else {
				connected(false)
				b.away.Store(true)
			}
		}
	}()
	return func() { close(done); end() }
}
