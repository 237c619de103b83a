package driver

import (
	"time"
)

// WriteBounder is the capability of a base that knows how long a write whose outcome its caller never learned can still
// take effect. Caches hold such a thread back for at least that long. A base without it is believed to need what the
// decorator's quarantine option says.
type WriteBounder interface {
	// LongestWrite is the time after which an abandoned write either has taken effect or never will. Zero: it never
	// outlives its call.
	LongestWrite() time.Duration
}
