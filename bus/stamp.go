package bus

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// Stamp identifies a write among those of all caches on a [Bus]. Origin names the cache instance; Write is that instance's
// number of the write. The zero Stamp identifies no write.
type Stamp struct {
	Origin string
	Write  uint64
}

// WithStamp returns a context for writes with stamp s. A cache stamps its writes. A base that announces changes passes the
// stamp on, so that the cache recognises its own writes. A layer that makes additional writes during a stamped write must
// use the zero Stamp for them.
func WithStamp(ctx context.Context, s Stamp) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.Stamp = callctx.Stamp(s) })
}

// StampFrom returns the stamp for writes of ctx. A base that announces its own changes puts it into the [Change].
func StampFrom(ctx context.Context) Stamp { return Stamp(callctx.Of(ctx).Stamp) }
