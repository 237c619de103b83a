package store

import "context"

// WithoutVersionRecorder returns ctx without a version recorder. A layer uses it for the reads that it makes for its own
// ends within a caller's call, whose recorder is to hear of that call only.
func WithoutVersionRecorder(ctx context.Context) context.Context {
	if dataOf(ctx).record == nil {
		return ctx
	}
	return with(ctx, func(d *ctxData) { d.record = nil })
}
