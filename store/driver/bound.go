package driver

import (
	"time"

	"github.com/chatstore/chatstore/internal/confine"
)

// WriteBounder is the capability of a base that knows how long an abandoned write may still take effect. [store.As] finds it
// also beneath a [store.Barrier]. Layers that hold values hold such a thread back for at least that long. Over a base without
// it they wait for a minute, or as long as their quarantine option says.
type WriteBounder interface {
	// LongestWrite returns the time after which a write whose outcome its caller never learned has taken effect or never
	// will. Zero means that no write outlives its call.
	LongestWrite() time.Duration
}

func init() { confine.Allow(func(w WriteBounder) WriteBounder { return confinedBound{w} }) }

type confinedBound struct{ w WriteBounder }

func (c confinedBound) LongestWrite() time.Duration { return c.w.LongestWrite() }
