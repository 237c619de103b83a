// Package readonly refuses writes with a reason while a [Switch] says so, for maintenance and for moves to another database.
//
//	var sw readonly.Switch
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), readonly.New(&sw))
//	sw.Refuse("We are moving to a new database.") // at run time
//
// Reads always pass. A refused write is [store.ErrUnavailable] and [store.ErrNotApplied], and the base is not called. Its
// error wraps an [*Error] with the reason.
//
// Do not use it to keep some principals from writing: that is a policy of package authz. It does not stop other programs that
// use the database.
//
// # Place
//
// Put it beneath authz and the cache, so that operators' programs, which work inside of the guard, meet it too. Put it around
// layers that retry calls or break circuits. Otherwise they would take each refused write for a failure of the base.
//
// The layer also refuses the writes of the capabilities that [store.As] finds beneath it: [driver.Eraser],
// [driver.AttachmentSwapper] and [sharing.Grants]. So take the grants from the layers inside of the guard, not from the base. A
// capability of your own that writes is not refused.
//
// # Moves
//
// After these steps the rows of the base change no more:
//
//  1. Call Refuse in every process. A process that starts later must call it before it serves.
//  2. Wait until all writes that began earlier have returned. The gauge chatstore_operations_in_flight of package metrics
//     counts them.
//  3. Wait for the base's LongestWrite ([driver.WriteBounder]). Until then an abandoned write may still commit.
//
// The layer is a [layer.StatsReporter]. The gauge chatstore_readonly_active is 1 while writes are refused, and otherwise 0.
package readonly

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/chatstore/chatstore/internal/confine"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Switch says whether writes pass. The zero Switch lets them pass. Several stacks may share one. It is safe for concurrent use.
type Switch struct{ reason atomic.Pointer[string] }

// Refuse refuses every write that begins after Refuse has returned. Earlier writes go on. A second call replaces the reason,
// which callers may read.
func (s *Switch) Refuse(reason string) { s.reason.Store(&reason) }

// Allow lets writes pass again.
func (s *Switch) Allow() { s.reason.Store(nil) }

// Error is the cause of a refused write's error. Find it with errors.As.
type Error struct {
	Reason string // as passed to [Switch.Refuse]
}

// Error returns the reason.
func (e *Error) Error() string { return "readonly: " + e.Reason }

// Unwrap returns [store.ErrUnavailable].
func (e *Error) Unwrap() error { return store.ErrUnavailable }

// refusal returns the error of a write, or nil if writes pass.
func (s *Switch) refusal() error {
	if reason := s.reason.Load(); reason != nil {
		return &Error{*reason}
	}
	return nil
}

// New returns the layer as a Middleware. It allocates nothing, except for a refused write. New panics if sw is nil.
func New(sw *Switch) store.Middleware {
	if sw == nil {
		panic("readonly.New: the Switch is nil: pass new(readonly.Switch), and keep it")
	}
	admit := layer.Admit("readonly", func(_ context.Context, c layer.Call) error {
		if !c.Op.IsWrite() {
			return nil
		}
		return sw.refusal()
	})
	return func(next store.Store) store.Store { return &readOnly{admit(next), next, sw} }
}

// readOnly is the layer. Its Store is that of layer.Admit, which has all methods.
type readOnly struct {
	store.Store
	next store.Store
	sw   *Switch
}

var (
	_ store.Unwrapper     = (*readOnly)(nil)
	_ store.Named         = (*readOnly)(nil)
	_ layer.StatsReporter = (*readOnly)(nil)
	_ confine.WriteGate   = (*readOnly)(nil)
)

func (l *readOnly) Unwrap() store.Store { return l.next }
func (l *readOnly) LayerName() string   { return "readonly" }

func (l *readOnly) AppendStats(dst []layer.Stat) []layer.Stat {
	s := layer.Stat{Name: "chatstore_readonly_active", Help: "1 while writes are refused."}
	if l.sw.refusal() != nil {
		s.Value = 1
	}
	return append(dst, s)
}

// WriteRefusal is asked by the capabilities that write and that [store.As] finds beneath the layer.
func (l *readOnly) WriteRefusal() error {
	err := l.sw.refusal()
	if err == nil {
		return nil
	}
	return &store.Error{Code: store.CodeUnavailable, Cause: errors.Join(store.ErrNotApplied, err)}
}
