package driver

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// ReportVersion tells the layers above a thread's version. A base that keeps thread versions calls it in every call about one
// thread. A read reports the version of the snapshot that it answers from, as before and after; a write reports the versions
// before and after it. ReportVersion does nothing when no layer listens.
//
// A thread's version is a counter that goes up by one in every transaction that changes the thread or its items. It never
// restarts for an id, not even when the thread is deleted and made anew. A thread that never was has version 0.
func ReportVersion(ctx context.Context, threadID string, before, after uint64) {
	if f := callctx.Of(ctx).Record; f != nil {
		f(threadID, before, after)
	}
}
