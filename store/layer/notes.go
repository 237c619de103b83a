package layer

import (
	"context"
	"sync"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

// Notes collects facts about a call from inner layers, for the Observer that began it: the result of the cache and the role
// in a shared load. Its methods do nothing on nil. They are safe for concurrent use.
type Notes struct {
	op     store.Op
	origin any

	mu     sync.Mutex
	closed bool
	cache  string
	role   string
	leader any
}

// WithNotes returns a context in which layers add to the returned Notes during calls of op. The origin identifies the call,
// for example by its trace span. Callers that join its load see the origin as their leader.
func WithNotes(ctx context.Context, op store.Op, origin any) (context.Context, *Notes) {
	c := &struct { // one allocation
		callctx.Ctx
		notes Notes
	}{Ctx: callctx.Copy(ctx), notes: Notes{op: op, origin: origin}}
	c.Data.Notes = &c.notes
	return &c.Ctx, &c.notes
}

// Origin returns the origin given to WithNotes.
func (n *Notes) Origin() any {
	if n == nil {
		return nil
	}
	return n.origin
}

// SetCache notes the result of a cache lookup: hit, miss or bypass. The last result counts.
func (n *Notes) SetCache(result string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.cache = result
	}
}

// SetFlight notes the role in a shared load, leader or follower, and the origin of the leader.
func (n *Notes) SetFlight(role string, leader any) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.role, n.leader = role, leader
	}
}

// Close returns the notes. It ignores all later ones.
func (n *Notes) Close() (cache, role string, leader any) {
	if n == nil {
		return "", "", nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	return n.cache, n.role, n.leader
}
