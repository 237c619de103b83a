package pubsub_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/linear"
)

// onBus is a stack that closes its bus.
type onBus struct {
	store.Store
	bus *pubsub.Bus
}

func (s onBus) Unwrap() store.Store { return s.Store }
func (s onBus) Close() error        { return s.bus.Close() }

// troubled is a hub that loses and delays payloads and cuts connections during a history.
type troubled struct {
	*hub
	r *rand.Rand
}

func newTroubled(seed uint64) *troubled {
	h := &troubled{newHub(), rand.New(rand.NewPCG(seed, 0))}
	h.fate = func(_ *conn, payload string) ([]string, time.Duration) {
		if h.r.IntN(5) == 0 {
			return nil, 0
		}
		return []string{payload}, time.Duration(h.r.IntN(int(delivery)))
	}
	return h
}

const (
	leaseTime = 10 * time.Millisecond
	delivery  = time.Millisecond
)

func (h *troubled) port(name string) *port {
	p := h.hub.port(name)
	h.mu.Lock()
	defer h.mu.Unlock()
	for range 2 {
		begin, length := time.Duration(h.r.IntN(int(10*leaseTime))), time.Duration(h.r.IntN(int(4*leaseTime)))
		time.AfterFunc(begin, func() {
			p.set(func(context.Context) error { return errFake }, nil)
			p.cut()
		})
		time.AfterFunc(begin+length, func() { p.set(nil, nil) })
	}
	return p
}

// The bus loses messages and connections. Reads through a cache are then stale by at most a lease and a delivery time.
func TestTwoCachesOnATroubledBusAreALeaseStaleAtMost(t *testing.T) {
	t.Parallel()
	for name, versions := range map[string][]linear.Option{
		"over versions":                nil,
		"over a base without versions": {linear.WithoutVersions()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h *troubled
			stack := func(base store.Store) store.Store {
				quiet := slog.New(slog.DiscardHandler)
				b := pubsub.New(h.port("p"), pubsub.WithLease(leaseTime), pubsub.WithBackoff(time.Millisecond, 2*time.Millisecond),
					pubsub.WithLogger(quiet))
				c := cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithBus(b), cache.WithLogger(quiet))
				return onBus{c(base), b}
			}
			first := func(base store.Store) store.Store {
				h = newTroubled(base.(interface{ Seed() uint64 }).Seed())
				return stack(base)
			}
			opts := append(versions, linear.WithBeside(stack), linear.WithStaleBy(leaseTime+2*delivery))
			if testenv.Race { // slow; a few histories are enough
				opts = append(opts, linear.WithHistories(4))
			} else {
				opts = append(opts, linear.WithHistories(25), linear.WithFloor(linear.Coverage{Hits: 800, Late: 3}))
			}
			linear.Run(t, first, opts...)
		})
	}
}
