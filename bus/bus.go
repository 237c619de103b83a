package bus

import (
	"context"
	"time"

	"github.com/chatstore/chatstore/chat"
)

// Change says that something was changed by another cache's process: what to forget.
type Change struct {
	All                    bool // drop everything
	ThreadID, AttachmentID string
	Owner                  chat.Owner
	// Origin and Write are the [Stamp] of the write. With an Origin and no Write, the write ended with an unknown outcome and
	// may still take effect: every cache holds the thread, or attachment, back for as long as after a write of its own of that
	// kind. (Of All nothing is held back: it is dropped.)
	Origin string
	Write  uint64
}

// Bus carries changes between caches. A cache takes one by option; backends and message brokers provide it.
type Bus interface {
	// Publish tells the others of a change. It returns when the change is on its way; an error means that it may be lost.
	// Where the base itself announces every change, stamped ([StampFrom]), it has nothing to do.
	Publish(context.Context, Change) error
	// Subscribe calls f for every change of others, one at a time and in order, until stop is called, which waits for a
	// running f. connected(false) means that changes may be missed from now on: bypass. connected(true) means that none
	// will be missed: drop all, then serve. Until its first connected(true) a subscriber bypasses. The end of ctx ends the
	// subscription as stop does, but waits for nothing.
	Subscribe(ctx context.Context, f func(Change), connected func(bool)) (stop func())
}

// Leaser is implemented by a [Bus] that could be cut off without noticing at once. A subscriber serves what it holds only
// while the time is before LeasedUntil, whatever connected said last. It is asked on every read, concurrently, and must
// cost no more than an atomic load.
type Leaser interface {
	// LeasedUntil returns until when no change made before now can have gone unnoticed for longer than the Bus promises, by
	// the monotonic clock. Zero: there is no lease now. One that has run out is there again only after connected(true),
	// which makes subscribers drop what they had: they do not look for themselves.
	LeasedUntil() time.Time
}
