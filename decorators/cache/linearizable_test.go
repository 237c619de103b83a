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

// tried runs n histories of each scenario, which must cover floor. Under the race detector a sixth of them is enough.
func tried(n int, floor linear.Coverage) []linear.Option {
	if testenv.Race {
		return []linear.Option{linear.WithHistories(n / 6)}
	}
	return []linear.Option{linear.WithHistories(n), linear.WithFloor(floor)}
}

// Without a bus, another process's write is seen after the TTL at the latest. The TTL counts from the start of the load. An
// entry expires with its oldest part.
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

// One process, whose entries expire all the time.
func TestACacheWhoseEntriesExpireIsLinearizable(t *testing.T) {
	t.Parallel()
	linear.Run(t, cache.New(cache.WithMaxEntries(16), cache.WithTTL(time.Millisecond), cache.NoJitter()),
		tried(60, linear.Coverage{Hits: 2000, PatchedHits: 50, Late: 20})...)
}

// The bus connects and disconnects. While it is disconnected, a cache does not hear of other caches' writes.
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

// fitfulBus disconnects from time to time, and reports it. When it is connected again, it delivers the unknown outcomes that
// it has missed. A cache would repeat them after a second, which is too long for this test.
type fitfulBus struct {
	bus.Bus
	steady    bool // only leave disconnects it
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
