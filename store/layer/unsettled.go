package layer

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// ReportUnsettled says that a write may take effect after it was answered: an attempt made in its course ended with an unknown
// outcome, or goes on. A layer that tries writes again, or gives up waiting for them, calls it before it answers, also with
// success. Layers above that hold values then treat the outcome as unknown. It does nothing when no layer listens.
func ReportUnsettled(ctx context.Context) {
	if f := callctx.Of(ctx).Unsettled; f != nil {
		f()
	}
}
