package store

import "context"

// Change says that something was changed by another cache's process: what to forget.
type Change struct {
	All                    bool // drop everything
	ThreadID, AttachmentID string
	Owner                  Owner
	Origin                 string // the cache instance that made the write
	Write                  uint64 // its write number; zero: unstamped, and so everybody's to heed
}

// Bus carries changes between caches. A cache takes one by option; backends and message brokers provide it.
type Bus interface {
	// Publish tells the others of a change. It returns when the change is on its way; an error means that it may be lost.
	Publish(context.Context, Change) error
	// Subscribe calls f for every change of others, one at a time and in order, until stop is called, which waits for a
	// running f. connected(false) means that changes may be missed from now on: bypass. connected(true) means that none
	// will be missed: drop all, then serve. Until its first connected(true) a subscriber bypasses.
	Subscribe(ctx context.Context, f func(Change), connected func(bool)) (stop func())
}
