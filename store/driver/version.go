package driver

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// ReportVersion is called by a base that keeps thread versions: by a read with the version of the snapshot it answers from
// (before == after), by a write with the versions before and after it. It does nothing when nobody listens.
//
// A thread's version is a counter that goes up by one in every transaction that changes the thread or its items. It never
// restarts for an id, not even when the thread is deleted and made anew. A thread that never was has version 0.
func ReportVersion(ctx context.Context, threadID string, before, after uint64) {
	if f := callctx.Of(ctx).Record; f != nil {
		f(threadID, before, after)
	}
}
