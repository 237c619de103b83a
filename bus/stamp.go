package bus

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// Stamp names a write among those of all caches on a [Bus]: the cache instance, and its own number of the write. The zero
// Stamp is none.
type Stamp struct {
	Origin string
	Write  uint64
}

// WithStamp returns a context whose writes bear s. A cache stamps what it writes, so that a base whose transactions tell
// others of their changes can say which write it was, and the cache knows its own. A layer that writes anything else in the
// course of such a write does that under the zero Stamp.
func WithStamp(ctx context.Context, s Stamp) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.Stamp = callctx.Stamp(s) })
}

// StampFrom returns the stamp that ctx's writes bear. A base that announces changes itself puts it into the [Change].
func StampFrom(ctx context.Context) Stamp { return Stamp(callctx.Of(ctx).Stamp) }
