// Package bus defines how caches over one base inform each other about changes. A cache without a [Bus] sees the writes of
// other caches only when its entries expire.
//
// Which Bus to use depends on the processes that share the base:
//
//   - Several caches in one process: [Local].
//   - Several processes over one PostgreSQL: the Bus method of the store in package sqlstore.
//   - Several processes over any base, with a Redis: package redisbus.
//   - Another message channel: package bus/pubsub turns it into a Bus.
//   - A channel that never loses or reorders a message, such as a log with offsets: implement Bus directly.
//
// Pass the Bus to each cache as an option:
//
//	b := bus.Local()
//	s1 := store.Wrap(base, cache.New(cache.WithBus(b)))
//	s2 := store.Wrap(base, cache.New(cache.WithBus(b)))
//
// A base that announces its own changes needs the [Stamp] of each write.
package bus

import (
	"context"
	"time"
)

// Change names the entries that subscribers of a [Bus] must drop.
type Change struct {
	All                    bool // drop everything
	ThreadID, AttachmentID string
	// Origin and Write are the [Stamp] of the write. An Origin without a Write means an unknown outcome: the write may still
	// take effect. Every cache then bypasses the thread or attachment for as long as after its own write with an unknown
	// outcome. With All, nothing is bypassed, because everything is dropped.
	Origin string
	Write  uint64
}

// Bus carries changes between caches. Its methods must be safe for concurrent use.
type Bus interface {
	// Publish sends a change to the other caches. It returns when the change has been handed over. An error means that the
	// change may be lost. Publish does nothing if the base announces every change itself, with the stamp of [StampFrom].
	Publish(context.Context, Change) error
	// Subscribe calls f for every change, one at a time and in order, until stop is called. Changes of the subscriber's own
	// cache may be among them; their Stamp identifies them. stop waits for a running f. The end of ctx also ends the
	// subscription, but waits for nothing.
	//
	// After connected(false), changes may be missed, so the subscriber must bypass its cache. After connected(true), no
	// change will be missed: the subscriber must drop everything and may then serve. Before the first connected(true) it
	// must bypass its cache.
	Subscribe(ctx context.Context, f func(Change), connected func(bool)) (stop func())
}

// Leaser is implemented by a [Bus] that may not notice a lost connection at once. A subscriber may serve cached values only
// before LeasedUntil, whatever the last call of connected was.
type Leaser interface {
	// LeasedUntil returns the end of the lease on the monotonic clock. Before that time, no change goes unnoticed for longer
	// than the Bus promises. The zero time means that there is no lease. After a lease has ended, a new one begins only
	// after connected(true), so that subscribers drop their entries first. LeasedUntil is called on every read,
	// concurrently. It must cost no more than an atomic load.
	LeasedUntil() time.Time
}
