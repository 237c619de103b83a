package store

import (
	"context"
	"sync"

	"github.com/chatstore/chatstore/internal/callctx"
)

// Versions has the thread versions that the calls of one context reported. It is safe for concurrent use.
type Versions struct {
	mu   sync.Mutex
	read map[string]uint64
}

// WithVersions returns a context whose calls report thread versions to the returned Versions. Read a thread and its items
// in this context, decide, and write under [IfVersion] with the version that Of returns. Use a new context for each try:
//
//	for {
//		ctx, read := store.WithVersions(parent)
//		item, err := s.LoadItem(ctx, threadID, itemID)
//		… // return an error, or change the item
//		n, ok := read.Of(threadID)
//		… // if not ok, the Store keeps no versions
//		err = s.SaveItem(store.IfVersion(ctx, threadID, n), threadID, item)
//		if e, ok := errors.AsType[*store.Error](err); ok && e.Code == store.CodeConflict && e.Field == "if_version" {
//			continue // something has changed since the read
//		}
//		return err
//	}
//
// A thread's version is a counter. It goes up by one in every transaction that changes the thread or its items.
func WithVersions(ctx context.Context) (context.Context, *Versions) {
	v := new(Versions)
	outer := callctx.Of(ctx).Versions
	return callctx.WithVersionRecorder(ctx, func(threadID string, before, after uint64) {
		v.note(threadID, before, after)
		if outer != nil {
			outer.RecordVersion(threadID, before, after)
		}
	}), v
}

// Of returns the lowest version of the thread that a read reported. So a write under it fails if anything that was read has
// changed since. A write of the same context moves it from the version before the write to the one after. A write that
// changes nothing counts as a read. ok is false without a report, as over a Store that keeps no versions.
func (v *Versions) Of(threadID string) (n uint64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n, ok = v.read[threadID]
	return n, ok
}

// note records a report. A read reports the same version before and after.
func (v *Versions) note(threadID string, before, after uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	known, ok := v.read[threadID]
	switch {
	case before != after && (!ok || known != before):
		return
	case before == after && ok && known <= before:
		return
	case v.read == nil:
		v.read = map[string]uint64{}
	}
	v.read[threadID] = after
}

// IfVersion returns a context for writes of one thread and its items that apply only if the thread has version n. Otherwise
// they are [ErrConflict], with the Field "if_version". The write itself decides, so of several writes under one version at
// most one applies. A thread that never existed has version 0, and a deleted one keeps its version.
// A missing thread answers as without the condition, except to SaveThread.
//
// In such a context, a write of another thread or of an attachment is [ErrInvalid], and so is every write if the Store keeps
// no versions. Reads are not affected.
func IfVersion(ctx context.Context, threadID string, n uint64) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) {
		d.If = callctx.Condition{ThreadID: threadID, Version: n, Set: true}
	})
}
