package cache_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/linear"
)

// tried is how many histories are run of each scenario, and a floor under what they try. The race detector, which sees enough of a
// few, is spared the rest.
func tried(n int, floor linear.Coverage) []linear.Option {
	if testenv.Race {
		return []linear.Option{linear.WithHistories(n / 6)}
	}
	return []linear.Option{linear.WithHistories(n), linear.WithFloor(floor)}
}

// Without a bus, what another process writes is seen at the TTL, which counts from the begin of a load and is the least of all
// parts of an entry.
func TestTwoCachesWithoutABusAreATTLStaleAtMost(t *testing.T) {
	t.Parallel()
	const ttl = 3 * time.Millisecond
	for name, versions := range map[string][]linear.Option{
		"over versions":                nil,
		"over a base without versions": {linear.WithoutVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stack := cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithTTL(ttl), cache.NoJitter(), quiet)
			linear.Run(t, stack, append(append(versions, linear.WithBeside(stack), linear.WithStaleBy(ttl)),
				tried(60, linear.Coverage{Hits: 1000, Late: 10})...)...)
		})
	}
}

// Entries that expire all the time, in one process.
func TestACacheWhoseEntriesExpireIsLinearizable(t *testing.T) {
	t.Parallel()
	linear.Run(t, cache.New(cache.WithMaxEntries(16), cache.WithTTL(time.Millisecond), cache.NoJitter()),
		tried(60, linear.Coverage{Hits: 2000, PatchedHits: 50, Late: 20})...)
}

// A bus that is there and away again: what others write meanwhile, nobody tells.
func TestTwoCachesWhoseBusComesAndGoesSeeEachOthersReturnedWrites(t *testing.T) {
	t.Parallel()
	var wire bus.Bus
	stack := func(base store.Store) store.Store {
		return cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithBus(&fitfulBus{Bus: wire}))(base)
	}
	first := func(base store.Store) store.Store {
		wire = bus.Local() // one for each history
		return stack(base)
	}
	linear.Run(t, first, append(tried(100, linear.Coverage{Hits: 1000, PatchedHits: 5, Late: 20}), linear.WithBeside(stack))...)
}

// fitfulBus loses its connection every while, and says so. What ended unknown meanwhile it tells when it is back: a cache
// would, within a second, which here is an age.
type fitfulBus struct {
	bus.Bus
	steady    bool // it goes only when told to
	away      atomic.Bool
	connected func(bool)

	mu     sync.Mutex
	missed []bus.Change
}

func (b *fitfulBus) Subscribe(ctx context.Context, f func(bus.Change), connected func(bool)) (stop func()) {
	b.connected = connected
	end := b.Bus.Subscribe(ctx, func(c bus.Change) {
		switch {
		case !b.away.Load():
			f(c)
		case c.Origin != "" && c.Write == 0:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.missed = append(b.missed, c)
		}
	}, connected)
	if b.steady {
		return end
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(400 * time.Microsecond):
			}
			if !b.away.Load() {
				b.leave()
				continue
			}
			b.comeBack()
			b.mu.Lock()
			missed := b.missed
			b.missed = nil
			b.mu.Unlock()
			for _, c := range missed {
				f(c)
			}
		}
	}()
	return func() { close(done); end() }
}

func (b *fitfulBus) leave() {
	b.connected(false)
	b.away.Store(true)
}

func (b *fitfulBus) comeBack() {
	b.away.Store(false)
	b.connected(true)
}
