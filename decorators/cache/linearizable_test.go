package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// Without a bus, what another process writes is seen at the TTL, which counts from the begin of a load and is the least of all
// parts of an entry.
func TestTwoCachesWithoutABusAreATTLStaleAtMost(t *testing.T) {
	const ttl = 3 * time.Millisecond
	for name, versions := range map[string][]storetest.LinearizableOption{
		"over versions":                nil,
		"over a base without versions": {storetest.WithoutVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			stack := cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithTTL(ttl), cache.NoJitter())
			storetest.Linearizable(t, stack, append(versions, storetest.Beside(stack), storetest.StaleBy(ttl),
				storetest.AtLeast(storetest.Coverage{Hits: 1000, Late: 20}))...)
		})
	}
}

// Entries that expire all the time, in one process.
func TestACacheWhoseEntriesExpireIsLinearizable(t *testing.T) {
	storetest.Linearizable(t, cache.New(cache.WithMaxEntries(16), cache.WithTTL(time.Millisecond), cache.NoJitter()),
		storetest.AtLeast(storetest.Coverage{Hits: 2000, PatchedHits: 100, Late: 20}))
}

// A bus that is there and away again: what is loaded while it is away, or was held before, is not served.
func TestACacheWhoseBusComesAndGoesIsLinearizable(t *testing.T) {
	storetest.Linearizable(t, func(base store.Store) store.Store {
		b := &fitfulBus{Bus: cache.LocalBus()}
		return cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithBus(b))(base)
	}, storetest.AtLeast(storetest.Coverage{Hits: 1500, PatchedHits: 30, Late: 20}))
}

// fitfulBus says every while that it has lost the connection, and that it is back.
type fitfulBus struct{ store.Bus }

func (b *fitfulBus) Publish(ctx context.Context, c store.Change) error { return b.Bus.Publish(ctx, c) }

func (b *fitfulBus) Subscribe(ctx context.Context, f func(store.Change), connected func(bool)) (stop func()) {
	end := b.Bus.Subscribe(ctx, f, connected)
	done := make(chan struct{})
	go func() {
		for up := false; ; up = !up {
			select {
			case <-done:
				return
			case <-time.After(700 * time.Microsecond):
				connected(up)
			}
		}
	}()
	return func() { close(done); end() }
}
