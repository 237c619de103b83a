package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"github.com/chatstore/chatstore/bus"
)

// subscriber is called by the goroutine that receives, and by no other.
type subscriber struct {
	f         func(bus.Change)
	connected func(bool)

	running chan struct{} // has an element while f or connected runs; not a Mutex, for the sake of testing/synctest
	gone    atomic.Bool
	told    bool // that it is connected; the receiving goroutine's own
}

// Subscribe implements [bus.Bus]. It returns at once; connected(true) comes when the Bus has its lease. One goroutine calls f
// and connected of all subscribers, one after the other. A subscriber that takes long delays the heartbeats; one that takes
// longer than the lease ends the serving of all. A panic or runtime.Goexit in f or connected is logged, and the others go on.
// That subscriber is told connected(false), and connected(true) with the next heartbeat.
//
// stop and [Bus.Close] wait for a running f. They must not be called from within f or connected: end ctx there instead.
func (b *Bus) Subscribe(ctx context.Context, f func(bus.Change), connected func(bool)) (stop func()) {
	if f == nil || connected == nil {
		panic("pubsub: Subscribe needs both functions")
	}
	s := &subscriber{f: f, connected: connected, running: make(chan struct{}, 1)}
	b.mu.Lock()
	b.subscribers = append(slices.Clip(b.subscribers), s) // the receiving goroutine may be walking the old slice
	b.greet = true
	if b.wake != nil {
		b.wake()
	}
	b.mu.Unlock()
	remove := func() {
		s.gone.Store(true)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.subscribers = slices.DeleteFunc(slices.Clone(b.subscribers), func(o *subscriber) bool { return o == s })
	}
	forget := context.AfterFunc(ctx, remove)
	return func() {
		forget()
		remove()
		s.running <- struct{}{} // what runs now ends first
		<-s.running
	}
}

// call runs f, unless the subscriber has gone, in a goroutine of its own: neither a panic nor Goexit ends the receiving.
func (s *subscriber) call(log *slog.Logger, f func()) (ok bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.running <- struct{}{}
		defer func() { <-s.running }()
		if s.gone.Load() {
			ok = true
			return
		}
		defer func() {
			if p := recover(); p != nil {
				log.Error("pubsub: a subscriber panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			} else if !ok {
				log.Error("pubsub: a subscriber ended its goroutine")
			}
		}()
		f()
		ok = true
	}()
	<-done
	return ok
}

func (b *Bus) snapshot() []*subscriber {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.subscribers
}

// tell tells those subscribers that have not been told it yet whether they are connected.
func (b *Bus) tell(connected bool) {
	for _, s := range b.snapshot() {
		if s.told != connected {
			b.tellOne(s, connected)
		}
	}
}

func (b *Bus) tellOne(s *subscriber, connected bool) {
	ok := s.call(b.log, func() { s.connected(connected) })
	s.told = connected && ok
	if !ok {
		b.stats.failed.Add(1)
		if connected { // it may have begun to serve
			s.call(b.log, func() { s.connected(false) })
		}
	}
}

// deliver hands changes to the subscribers, connected or not: one with an unknown outcome holds entries back for longer
// than a reconnect takes.
func (b *Bus) deliver(changes []bus.Change) {
	for _, s := range b.snapshot() {
		ok := s.call(b.log, func() {
			for _, c := range changes {
				s.f(c)
			}
		})
		if !ok {
			b.stats.failed.Add(1)
			b.tellOne(s, false)
		}
	}
}
