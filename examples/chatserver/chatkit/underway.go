package chatkit

import (
	"context"
	"net/http"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// underway is the running turn of a thread. A thread has at most one on this server.
type underway struct {
	cancel context.CancelCauseFunc
	over   chan struct{}
}

// errSuperseded ends a turn when another request takes over its thread.
var errSuperseded = StatusError{http.StatusConflict, store.CodeConflict.String(), "another request has taken over the conversation"}

// takeOver ends the thread's running turn and waits until its answer is saved. Then it reserves the thread for ctx until
// giveBack is called. So the rest of a stopped answer cannot come after the next message.
func (h *Handler) takeOver(ctx context.Context, threadID string) (_ context.Context, giveBack func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	mine := &underway{cancel, make(chan struct{})}
	for {
		h.mu.Lock()
		before := h.turns[threadID]
		if before == nil {
			h.turns[threadID] = mine
		}
		h.mu.Unlock()
		if before == nil {
			return ctx, func() {
				h.mu.Lock()
				delete(h.turns, threadID)
				h.mu.Unlock()
				close(mine.over)
				cancel(nil)
			}, nil
		}
		before.cancel(errSuperseded)
		select {
		case <-before.over:
		case <-ctx.Done():
			err := context.Cause(ctx)
			cancel(nil)
			return nil, nil, err
		}
	}
}

// begin takes over a thread and reloads it. The caller must have loaded the thread before: no caller may end a turn in a thread
// of others.
func (h *Handler) begin(ctx context.Context, threadID string) (_ context.Context, t chat.Thread, giveBack func(), err error) {
	if ctx, giveBack, err = h.takeOver(ctx, threadID); err != nil {
		return nil, t, nil, err
	}
	if t, err = h.activeThread(ctx, threadID); err != nil {
		giveBack()
		return nil, t, nil, err
	}
	return ctx, t, giveBack, nil
}
