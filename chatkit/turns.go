package chatkit

import (
	"context"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// streams has the requests that are answered with events, by type. An error before the first event is answered as JSON, with
// a status.
var streams = map[string]func(*Handler, context.Context, params, *stream) error{
	"threads.create":                 (*Handler).createThread,
	"threads.add_user_message":       (*Handler).addUserMessage,
	"threads.add_client_tool_output": (*Handler).addToolOutput,
	"threads.add_structured_input":   (*Handler).addStructuredInput,
	"threads.retry_after_item":       (*Handler).retryAfter,
	"threads.custom_action":          (*Handler).customAction,
}

func (h *Handler) createThread(ctx context.Context, p params, out *stream) error {
	message, attachments, err := h.userMessage(ctx, p)
	if err != nil {
		return err
	}
	id, err := h.newThread(ctx)
	if err != nil {
		return err
	}
	ctx, c, err := h.beginNew(ctx, id)
	if err != nil {
		return err
	}
	defer c.release()
	if err := out.send(threadCreated{viewThread(c.thread)}); err != nil {
		return err
	}
	return h.answer(ctx, c, message, attachments, out)
}

// now returns the time with the precision of a store.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// newThread saves a new thread. If the id is taken, it tries another one.
func (h *Handler) newThread(ctx context.Context) (id string, err error) {
	const draws = 3
	t := chat.Thread{CreatedAt: now(), Status: chat.Status{Type: chat.StatusActive}}
	for range draws {
		t.ID = h.store.GenerateThreadID(ctx)
		err = h.store.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), t)
		if store.CodeOf(err) != store.CodeConflict {
			break
		}
	}
	return t.ID, err
}

func (h *Handler) addUserMessage(ctx context.Context, p params, out *stream) error {
	if _, err := h.activeThread(ctx, p.ThreadID); err != nil {
		return err
	}
	message, attachments, err := h.userMessage(ctx, p)
	if err != nil {
		return err
	}
	ctx, c, err := h.begin(ctx, p.ThreadID, chat.Item{})
	if err != nil {
		return err
	}
	defer c.release()
	return h.answer(ctx, c, message, attachments, out)
}

// activeThread loads a thread. It fails if the thread is locked or closed.
func (h *Handler) activeThread(ctx context.Context, threadID string) (chat.Thread, error) {
	t, err := h.store.LoadThread(ctx, threadID)
	if err != nil {
		return t, err
	}
	if t.Status.Type == chat.StatusLocked || t.Status.Type == chat.StatusClosed {
		return t, conflict("thread: " + t.Status.Type)
	}
	return t, nil
}

// answer stores a user's message and answers it.
func (h *Handler) answer(
	ctx context.Context, c *claim, message chat.Item, attachments []chat.Attachment, out *stream,
) error {
	t := c.thread
	message.CreatedAt = c.mine.At
	message.ID = h.store.GenerateItemID(ctx, chat.KindMessage, t)
	message, attachments, err := sentIn(t.ID, message, attachments)
	if err != nil {
		return err
	}
	for _, a := range attachments {
		if err := h.store.SaveAttachment(store.WithSaveMode(ctx, store.UpdateOnly), a); err != nil {
			return err
		}
	}
	if err := c.add(ctx, message); err != nil {
		return err
	}
	if err := out.send(ItemDone{message}); err != nil {
		return err
	}
	// Remove calls that are still pending, because models refuse a call without an output.
	if err := c.remove(ctx, h.pendingCalls(ctx, c.page), out); err != nil {
		return err
	}
	return h.turn(ctx, c, message, out, h.responder.Respond)
}

// remove deletes items and tells the client about those that it can see.
func (c *claim) remove(ctx context.Context, items []chat.Item, out *stream) error {
	for _, it := range items {
		if err := c.delete(ctx, it.ID); err != nil {
			return err
		}
		if isHidden(it) {
			continue
		}
		if err := out.send(ItemRemoved{it.ID}); err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) retryAfter(ctx context.Context, p params, out *stream) error {
	if _, err := h.activeThread(ctx, p.ThreadID); err != nil {
		return err
	}
	message, err := h.store.LoadItem(ctx, p.ThreadID, p.ItemID)
	if err != nil {
		return err
	}
	if message.Type() != chat.TypeUserMessage {
		return invalid("item_id: not a user message")
	}
	ctx, c, err := h.begin(ctx, p.ThreadID, message)
	if err != nil {
		return err
	}
	defer c.release()
	// Delete the newest first. Then a failure leaves a conversation without gaps.
	for {
		page, err := c.items(ctx, store.PageQuery{Limit: maxPage, Order: store.NewestFirst})
		if err != nil {
			return err
		}
		found := slices.IndexFunc(page.Data, func(it chat.Item) bool { return it.ID == message.ID })
		behind := page.Data
		if found >= 0 {
			behind = page.Data[:found]
		} else if !page.HasMore {
			return conflict("item: it was deleted in the meantime")
		}
		if err := c.remove(ctx, behind, out); err != nil {
			return err
		}
		if found >= 0 {
			return h.turn(ctx, c, message, out, h.responder.Respond)
		}
	}
}

func (h *Handler) customAction(ctx context.Context, p params, out *stream) error {
	if _, err := h.activeThread(ctx, p.ThreadID); err != nil {
		return err
	}
	action, err := h.action(ctx, p)
	if err != nil {
		return err
	}
	ctx, c, err := h.begin(ctx, p.ThreadID, chat.Item{})
	if err != nil {
		return err
	}
	defer c.release()
	return h.turn(ctx, c, chat.Item{}, out, func(ctx context.Context, turn *Turn) error {
		return h.responder.Act(ctx, turn, action)
	})
}
