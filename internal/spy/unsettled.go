package spy

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// WithUnsettledRecorder returns a context in which layer.ReportUnsettled calls f with nil, and driver.ReportPending with its
// channel. It replaces an earlier recorder. f may be called from other goroutines, but not after the end of the call.
func WithUnsettledRecorder(ctx context.Context, f func(ended <-chan struct{})) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.Unsettled = callctx.UnsettledFunc(f) })
}
