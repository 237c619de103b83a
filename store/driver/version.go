package driver

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
)

// ReportVersion reports a thread's version to the layers above. A base with thread versions calls it in every call for one
// thread. A write reports the versions before and after it. A read reports the version of its snapshot as both before and
// after. If no layer listens, ReportVersion does nothing.
//
// A thread's version is a counter. It goes up by one in every transaction that changes the thread or its items. It never
// restarts for an id, even if the thread is deleted and created again. A thread that never existed has version 0.
func ReportVersion(ctx context.Context, threadID string, before, after uint64) {
	if r := callctx.Of(ctx).Versions; r != nil {
		r.RecordVersion(threadID, before, after)
	}
}

// ReportPending reports that a write with an unknown outcome may take effect until ended is closed, however long that is. A
// base calls it before it returns the error, if it keeps watching the write. Caches then treat the thread as being written
// at least until ended is closed. The base must close ended, at the latest when it is closed itself.
func ReportPending(ctx context.Context, ended <-chan struct{}) {
	if r := callctx.Of(ctx).Unsettled; r != nil {
		r.RecordUnsettled(ended)
	}
}
