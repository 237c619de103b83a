package layer

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// ReportUnsettled reports that a write may take effect after its answer, because one of its attempts has an unknown outcome
// or is still running. A layer that repeats writes, or stops waiting for them, calls it before it answers, even with
// success. Layers above that hold values then treat the outcome as unknown. If no layer listens, it does nothing.
func ReportUnsettled(ctx context.Context) {
	if r := callctx.Of(ctx).Unsettled; r != nil {
		r.RecordUnsettled(nil)
	}
}
