package layer

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// Own returns the context for a layer's own calls during a caller's call, such as a lookup of a row's owner. It removes the
// recorders, the [Notes] and the condition of [store.IfVersion], which are for the caller's call only. It keeps the principal,
// the save mode, [store.WithFresh] and [store.WithNoStore].
func Own(ctx context.Context) context.Context {
	if d := callctx.Of(ctx); d.Versions == nil && d.Unsettled == nil && d.Notes == nil && !d.If.Set {
		return ctx
	}
	return callctx.With(ctx, func(d *callctx.Data) {
		d.Versions, d.Unsettled, d.Notes, d.If = nil, nil, nil, callctx.Condition{}
	})
}
