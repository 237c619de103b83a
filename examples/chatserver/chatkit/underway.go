package chatkit

import (
	"context"
	"net/http"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// underway is a turn that a thread has on this server: one at a time.
type underway struct {
	cancel context.CancelCauseFunc
	over   chan struct{}
}

// errSuperseded ends a turn whose thread another request goes on with.
var errSuperseded = StatusError{http.StatusConflict, store.CodeConflict.String(), "another request goes on with the conversation"}

// takeOver ends the turn that the thread has, waits until what it said is kept, and has the thread be ctx's until it is given
// back. So who stops an answer, and asks for another, does not find the rest of the first behind it.
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

// begin takes over a thread that takes messages, and returns it as it is then. The caller has looked whether it is its user's:
// nobody ends what is not theirs.
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
