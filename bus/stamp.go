package bus

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// Stamp names a write among those of all caches on a [Bus]: the cache instance, and that instance's number of the write.
// The zero Stamp names none.
type Stamp struct {
	Origin string
	Write  uint64
}

// WithStamp returns a context whose writes bear s. A cache stamps its writes. A base that announces changes passes the
// stamp on, so the cache recognises its own. A layer that makes further writes during a stamped write makes them under the
// zero Stamp.
func WithStamp(ctx context.Context, s Stamp) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.Stamp = callctx.Stamp(s) })
}

// StampFrom returns the stamp that ctx's writes bear. A base that announces changes itself puts it into the [Change].
func StampFrom(ctx context.Context) Stamp { return Stamp(callctx.Of(ctx).Stamp) }
