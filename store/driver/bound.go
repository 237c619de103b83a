package driver

import (
	"time"

	"github.com/chatstore/chatstore/internal/confine"
)

// WriteBounder is the capability of a base that knows how long an abandoned write may still take effect. [store.As] also
// finds it behind a [store.Barrier]. After a write with an unknown outcome, caches and singleflight layers treat its thread
// as being written for at least this time. Over a base without WriteBounder they do so for a minute, or for the time of
// their quarantine option.
type WriteBounder interface {
	// LongestWrite returns a time limit for abandoned writes, whose callers never learned the outcome. It counts from the
	// return of the call. When it has passed, such a write has taken effect or never will, except a write reported by
	// [ReportPending]. Zero means that no other write outlives its call.
	LongestWrite() time.Duration
}

func init() { confine.Allow(func(w WriteBounder) WriteBounder { return confinedBound{w} }) }

type confinedBound struct{ w WriteBounder }

func (c confinedBound) LongestWrite() time.Duration { return c.w.LongestWrite() }
