package chatkit

import (
	"context"
	"net/http"
	"time"

	"github.com/chatstore/chatstore/store"
)

// underway is the running turn of a thread. A thread has at most one on this server.
type underway struct {
	version uint64 // of the thread when the turn began; 0 if the store keeps none
	cancel  context.CancelCauseFunc
	over    chan struct{}
}

// errSuperseded ends a turn when another request takes over its thread.
var errSuperseded = StatusError{http.StatusConflict, store.CodeConflict.String(), "another request has taken over the conversation"}

// waitLimit is how long a turn waits for an older one whose responder or client hangs.
const waitLimit = 5 * time.Second

// takeOver ends the thread's older turn on this server, and waits until its answer is saved. Then the thread is the claim's until
// it is released. If a newer turn is running, it is errSuperseded. The fence does the same for the turns of other servers.
func (c *claim) takeOver(ctx context.Context) (context.Context, error) {
	h, id := c.h, c.thread.ID
	ctx, cancel := context.WithCancelCause(ctx)
	mine := &underway{c.version, cancel, make(chan struct{})}
	var late <-chan time.Time // then the fence must do
	if c.versioned {
		late = time.After(waitLimit)
	}
	for waited := false; ; {
		h.mu.Lock()
		before := h.turns[id]
		if waited && before != nil && before.version < mine.version {
			before = nil
		}
		if before == nil {
			h.turns[id] = mine
		}
		h.mu.Unlock()
		if before == nil {
			c.end = cancel
			c.release = func() {
				h.mu.Lock()
				if h.turns[id] == mine {
					delete(h.turns, id)
				}
				h.mu.Unlock()
				close(mine.over)
				cancel(nil)
			}
			return ctx, nil
		}
		if before.version > mine.version {
			cancel(nil)
			return nil, errSuperseded
		}
		before.cancel(errSuperseded)
		select {
		case <-before.over:
		case <-late:
			waited = true
		case <-ctx.Done():
			err := context.Cause(ctx)
			cancel(nil)
			return nil, err
		}
	}
}

// lock is the lock of a thread's revisions on this server.
type lock struct {
	free  chan struct{} // has one element unless the lock is held
	users int           // that hold it or wait for it
}

// lock locks a thread and returns the function that unlocks it. It fails if ctx ends first.
func (h *Handler) lock(ctx context.Context, threadID string) (unlock func(), err error) {
	h.mu.Lock()
	l := h.locks[threadID]
	if l == nil {
		l = &lock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		h.locks[threadID] = l
	}
	l.users++
	h.mu.Unlock()
	leave := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(h.locks, threadID)
		}
	}
	select {
	case <-l.free:
		return func() { l.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
