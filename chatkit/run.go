package chatkit

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

var errTooLong = StatusError{504, "timeout", "the answer took too long"}

// turn runs the responder. If the client leaves or the turn is ended, it keeps the part of the answer that was sent.
func (h *Handler) turn(
	ctx context.Context, c *claim, message chat.Item, out *stream, respond func(context.Context, *Turn) error,
) error {
	saving := context.WithoutCancel(ctx)

	watching, still := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	if c.versioned {
		watcher.Go(func() { c.watch(watching) })
	}

	turn := &Turn{Thread: c.thread, Message: message, handler: h, claim: c, saved: c.thread, send: out.send}
	options := streamOptions{}
	options.Options.AllowCancel = true
	err := out.send(options)
	if err == nil {
		_, err = guard(func() (any, error) { return nil, respond(ctx, turn) })
	}
	if err == nil {
		err = turn.saveThread(ctx)
	}
	if err == nil && len(turn.pending) > 0 {
		err = context.Cause(ctx) // the responder has swallowed it
	}
	still()
	watcher.Wait()
	if err == nil {
		h.metrics.turns.WithLabelValues(turnDone).Inc()
		return nil
	}
	if store.CodeOf(err) == store.CodeNotFound && ctx.Err() == nil {
		if _, gone := h.store.LoadThread(ctx, c.thread.ID); store.CodeOf(gone) == store.CodeNotFound {
			h.metrics.turns.WithLabelValues(turnAbandoned).Inc()
			return errDeleted
		}
	}
	if ctx.Err() == nil && !errors.Is(err, errGone) {
		h.metrics.turns.WithLabelValues(turnFailed).Inc()
		if unsaved := turn.saveThread(ctx); unsaved != nil {
			h.log.ErrorContext(ctx, "failed to save the thread of a failed turn", "thread", c.thread.ID, "error", unsaved)
		}
		return err
	}
	outcome := turnAbandoned
	if context.Cause(ctx) == errSuperseded {
		outcome = turnSuperseded
	}
	h.metrics.turns.WithLabelValues(outcome).Inc()
	if kept := turn.abandon(saving); kept != nil {
		h.log.ErrorContext(ctx, "failed to save an abandoned turn", "thread", c.thread.ID, "error", kept)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// errDeleted ends a turn whose thread was deleted in the meantime.
var errDeleted error = StatusError{404, store.CodeNotFound.String(), "the conversation was deleted"}

// saveLimit limits the time for saving an abandoned turn.
const saveLimit = 10 * time.Second

// abandon saves the messages that the client has read in part, and a note for the assistant that it was stopped. After another
// turn has begun, there is no note: it would come behind the newer message.
func (t *Turn) abandon(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, saveLimit)
	defer cancel()
	t.send = func(Event) error { return nil }
	var failed []error
	try := func(err error) {
		// Not found: the thread was deleted. Conflict: the item was just being saved when the client left.
		if code := store.CodeOf(err); code != store.CodeNotFound && code != store.CodeConflict && !errors.Is(err, errSuperseded) {
			failed = append(failed, err)
		}
	}
	try(t.saveThread(ctx))
	for _, d := range t.pending {
		it, keep, err := d.partial()
		if keep && err == nil {
			err = t.claim.keep(ctx, it)
		}
		try(err)
	}
	note, err := t.NewItem(ctx, chat.SDKHiddenContext{
		Content: "The user cancelled the stream. Stop responding to the prior request.",
	})
	if err == nil {
		err = t.claim.add(ctx, note)
	}
	try(err)
	return errors.Join(failed...)
}
