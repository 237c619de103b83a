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

// subscriber is called only by the receiving goroutine.
type subscriber struct {
	f         func(bus.Change)
	connected func(bool)

	running chan struct{} // has an element while f or connected runs; a Mutex would block testing/synctest
	gone    atomic.Bool
	up      bool // the last call of connected was true and succeeded; only for the receiving goroutine
}

// Subscribe implements [bus.Bus]. It returns at once and calls connected(true) when the Bus has a lease. One goroutine calls
// f and connected of all subscribers, one after the other. A slow subscriber delays the heartbeats. If it takes longer than
// a lease, all subscribers must stop serving.
//
// A panic or runtime.Goexit in f or connected is logged and does not affect the other subscribers. Subscribe then calls
// connected(false) of that subscriber, and connected(true) at the next heartbeat.
//
// stop and [Bus.Close] wait for a running f. Do not call them within f or connected: end ctx there instead.
func (b *Bus) Subscribe(ctx context.Context, f func(bus.Change), connected func(bool)) (stop func()) {
	if f == nil || connected == nil {
		panic("pubsub: Subscribe needs both functions")
	}
	s := &subscriber{f: f, connected: connected, running: make(chan struct{}, 1)}
	b.mu.Lock()
	b.subscribers = append(slices.Clip(b.subscribers), s) // a copy: the receiving goroutine may be using the old slice
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
		s.running <- struct{}{} // wait for a running call
		<-s.running
	}
}

// call runs f unless the subscriber has gone. It uses a new goroutine, so that a panic or Goexit does not end the receiving.
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
				log.Error("pubsub: a subscriber exited its goroutine")
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

// tell calls connected of every subscriber whose state differs.
func (b *Bus) tell(connected bool) {
	for _, s := range b.snapshot() {
		if s.up != connected {
			b.tellOne(s, connected)
		}
	}
}

func (b *Bus) tellOne(s *subscriber, connected bool) {
	ok := s.call(b.log, func() { s.connected(connected) })
	s.up = connected && ok
	if !ok {
		b.stats.failed.Add(1)
		if connected { // it may have begun to serve before it failed
			s.call(b.log, func() { s.connected(false) })
		}
	}
}

// deliver passes changes to all subscribers, connected or not. The quarantine of a write with an unknown outcome may last
// longer than a reconnect.
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
