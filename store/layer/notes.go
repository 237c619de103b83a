package layer

import (
	"context"
	"sync"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

// Notes carries what inner layers have to say about a call to the Observer that began it: the cache's result, and the role in a
// shared load. Its methods do nothing on nil, and are safe for concurrent use.
type Notes struct {
	op     store.Op
	origin any

	mu     sync.Mutex
	closed bool
	cache  string
	role   string
	leader any
}

// WithNotes returns a context in which calls of op are noted in the returned Notes. Calls that join this one's load get origin as
// the leader: for tracing, a span.
func WithNotes(ctx context.Context, op store.Op, origin any) (context.Context, *Notes) {
	c := &struct { // one allocation
		callctx.Ctx
		notes Notes
	}{Ctx: callctx.Copy(ctx), notes: Notes{op: op, origin: origin}}
	c.Data.Notes = &c.notes
	return &c.Ctx, &c.notes
}

// Origin returns what WithNotes was given.
func (n *Notes) Origin() any {
	if n == nil {
		return nil
	}
	return n.origin
}

// SetCache notes the result of a cache lookup: hit, miss or bypass. Of several words the last one counts.
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

// SetFlight notes the role in a shared load, leader or follower, and the origin of the leader's notes.
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

// Close ends the noting and returns what was noted; later notes are dropped.
func (n *Notes) Close() (cache, role string, leader any) {
	if n == nil {
		return "", "", nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	return n.cache, n.role, n.leader
}
