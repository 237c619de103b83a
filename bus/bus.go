// Package bus defines how caches over one base tell each other of changes. A cache without a [Bus] sees the writes of
// other caches only when its entries expire.
//
// Where the Bus comes from depends on who shares the base:
//
//   - Several caches in one process: [Local].
//   - Several processes over one PostgreSQL: the Bus method of the store in package sqlstore.
//   - Several processes over any base, with a Redis: package redisbus.
//   - Any other message channel: package bus/pubsub makes a Bus of it.
//   - A channel that never loses and never reorders a message, such as a log with offsets: implement Bus directly.
//
// A cache takes a Bus by option:
//
//	b := bus.Local()
//	s1 := store.Wrap(base, cache.New(cache.WithBus(b)))
//	s2 := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// One who writes a base that announces its changes itself reads the [Stamp] of each write.
package bus

import (
	"context"
	"time"
)

// Change tells the subscribers of a [Bus] what to forget.
type Change struct {
	All                    bool // drop everything
	ThreadID, AttachmentID string
	// Origin and Write are the [Stamp] of the write. An Origin without a Write means that the outcome of the write is
	// unknown: it may still take effect. Every cache then holds the thread, or attachment, back for as long as after such a
	// write of its own. With All set nothing is held back: everything is dropped.
	Origin string
	Write  uint64
}

// Bus carries changes between caches.
type Bus interface {
	// Publish tells the others of a change. It returns when the change is on its way. An error means that the change may be
	// lost. Publish does nothing where the base announces every change itself, with its stamp ([StampFrom]).
	Publish(context.Context, Change) error
	// Subscribe calls f for every change of others, one at a time and in order, until stop is called. stop waits for a
	// running f. The end of ctx ends the subscription as stop does, but waits for nothing.
	//
	// connected(false) means that changes may be missed from now on: bypass the cache. connected(true) means that no change
	// will be missed: drop everything, then serve. A subscriber bypasses until its first connected(true).
	Subscribe(ctx context.Context, f func(Change), connected func(bool)) (stop func())
}

// Leaser is implemented by a [Bus] that can be cut off without noticing it at once. A subscriber serves what it holds only
// while the time is before LeasedUntil, whatever connected said last.
type Leaser interface {
	// LeasedUntil returns the end of the lease, by the monotonic clock. Before it, no change goes unnoticed for longer than
	// the Bus promises. Zero means that there is no lease. A lease that has run out comes back only after connected(true),
	// by which subscribers drop what they had: they do not check it themselves. LeasedUntil is called on every read,
	// concurrently, and must cost no more than an atomic load.
	LeasedUntil() time.Time
}
