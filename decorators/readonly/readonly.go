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
// The layer also refuses the writes of two capabilities, found with [store.As]: EraseOwner of [driver.Eraser], and Grant and
// Revoke of [sharing.Grants]. So take the grants from the layers inside of the guard, not from the base. The other capabilities
// of package driver only read. A capability of your own that writes is not refused.
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

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
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

// refuse returns the error of a capability's write, or nil if writes pass.
func (s *Switch) refuse(kind, id string) error {
	err := s.refusal()
	if err == nil {
		return nil
	}
	return &store.Error{Kind: kind, ID: id, Code: store.CodeUnavailable, Cause: errors.Join(store.ErrNotApplied, err)}
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
	return func(next store.Store) store.Store {
		l := &readOnly{admit(next), next, sw}
		e, erases := store.As[driver.Eraser](next)
		g, grants := store.As[sharing.Grants](next)
		switch {
		case erases && grants:
			return &struct {
				*readOnly
				eraser
				granter
			}{l, eraser{e, sw}, granter{g, sw}}
		case erases:
			return &struct {
				*readOnly
				eraser
			}{l, eraser{e, sw}}
		case grants:
			return &struct {
				*readOnly
				granter
			}{l, granter{g, sw}}
		}
		return l
	}
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

type eraser struct {
	next driver.Eraser
	sw   *Switch
}

func (e eraser) EraseOwner(ctx context.Context, owner chat.Owner) (driver.Erased, error) {
	if err := e.sw.refuse("", ""); err != nil {
		return driver.Erased{}, err
	}
	return e.next.EraseOwner(ctx, owner)
}

// granter does not embed the Grants: a new method would pass unseen.
type granter struct {
	next sharing.Grants
	sw   *Switch
}

func (g granter) Grant(ctx context.Context, grant sharing.Grant) error {
	if err := g.sw.refuse(store.RowThread, grant.ThreadID); err != nil {
		return err
	}
	return g.next.Grant(ctx, grant)
}

func (g granter) Revoke(ctx context.Context, threadID string, to sharing.Grantee) error {
	if err := g.sw.refuse(store.RowThread, threadID); err != nil {
		return err
	}
	return g.next.Revoke(ctx, threadID, to)
}

func (g granter) Access(ctx context.Context, p store.Principal, threadID string) (sharing.Access, error) {
	return g.next.Access(ctx, p, threadID)
}

func (g granter) Grantees(ctx context.Context, threadID, after string, limit int) (store.Page[sharing.Grant], error) {
	return g.next.Grantees(ctx, threadID, after, limit)
}

func (g granter) SharedWith(ctx context.Context, p store.Principal, after string, limit int) (store.Page[sharing.Grant], error) {
	return g.next.SharedWith(ctx, p, after, limit)
}
