package chatkit

import (
	"context"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

func (h *Handler) addToolOutput(ctx context.Context, p params, out *stream) error {
	if p.Result.IsZero() {
		return invalid("result: missing")
	}
	if _, err := h.activeThread(ctx, p.ThreadID); err != nil {
		return err
	}
	it, rest, err := h.completeCall(ctx, p.ThreadID, p.Result)
	if err != nil {
		return err
	}
	return h.answerTo(ctx, p.ThreadID, it, rest, out)
}

// answerTo answers an item that the client has completed, and removes the items that are now obsolete.
func (h *Handler) answerTo(ctx context.Context, threadID string, it chat.Item, obsolete []chat.Item, out *stream) error {
	ctx, c, err := h.begin(ctx, threadID, chat.Item{})
	if err != nil {
		return err
	}
	defer c.release()
	if err := out.send(ItemReplaced{it}); err != nil {
		return err
	}
	if err := c.remove(ctx, obsolete, out); err != nil {
		return err
	}
	return h.turn(ctx, c, chat.Item{}, out, h.responder.Respond)
}

// completeCall stores the output of the newest pending call. It returns that call and the other pending ones. Of two outputs
// sent at once, one is refused.
func (h *Handler) completeCall(
	ctx context.Context, threadID string, output chat.JSON,
) (it chat.Item, rest []chat.Item, err error) {
	_, _, err = h.revise(ctx, threadID, func(ctx context.Context, unchanged unchanged) error {
		page, err := h.store.LoadThreadItems(ctx, threadID, store.PageQuery{Order: store.NewestFirst})
		if err != nil {
			return err
		}
		pending := h.pendingCalls(ctx, page)
		if len(pending) == 0 {
			return conflict("thread: no tool call waits for an output")
		}
		call, _, err := chat.DecodeItem[chat.ClientToolCall](pending[0])
		if err != nil {
			return err
		}
		call.Status, call.Output = "completed", output
		if it, err = pending[0].WithBody(call); err != nil {
			return err
		}
		rest = pending[1:]
		write, _ := unchanged()
		return h.store.SaveItem(store.WithSaveMode(write, store.UpdateOnly), threadID, it)
	})
	return it, rest, err
}

func (h *Handler) addStructuredInput(ctx context.Context, p params, out *stream) error {
	if _, err := h.activeThread(ctx, p.ThreadID); err != nil {
		return err
	}
	in, err := decodeParam[formInput]("input", p.Input)
	if err != nil {
		return err
	}
	if in.Status != "answered" && in.Status != "skipped" {
		return invalid("input.status: neither answered nor skipped")
	}
	it, err := h.answerForm(ctx, p.ThreadID, p.ItemID, in)
	if err != nil {
		return err
	}
	return h.answerTo(ctx, p.ThreadID, it, nil, out)
}

// answerForm saves the answers to a pending form. Of two submissions at once, one is refused.
func (h *Handler) answerForm(ctx context.Context, threadID, itemID string, in formInput) (it chat.Item, err error) {
	_, _, err = h.revise(ctx, threadID, func(ctx context.Context, unchanged unchanged) error {
		if it, err = h.store.LoadItem(ctx, threadID, itemID); err != nil {
			return err
		}
		if it, err = in.fill(it); err != nil {
			return err
		}
		write, _ := unchanged()
		return h.store.SaveItem(store.WithSaveMode(write, store.UpdateOnly), threadID, it)
	})
	return it, err
}

// fill returns a pending form with the answers.
func (in formInput) fill(it chat.Item) (chat.Item, error) {
	form, ok, err := chat.DecodeItem[chat.StructuredInput](it)
	if err != nil {
		return it, err
	}
	if !ok {
		return it, invalid("item_id: not a structured input")
	}
	if form.Status != "pending" {
		return it, conflict("item: was " + form.Status + " before")
	}
	form.Status = in.Status
	for i := range form.Inputs {
		q := &form.Inputs[i]
		q.Answer = &chat.InputAnswer{Values: []string{}, Skipped: true}
		given, ok := in.Answers[q.ID]
		if in.Status == "skipped" || !ok || given.Skipped || len(given.Values) == 0 {
			continue
		}
		if q.Type == "multiple_choice" && !q.Multiple {
			given.Values = given.Values[:1]
		}
		for _, v := range given.Values {
			if q.Type == "multiple_choice" && !slices.Contains(q.Options, chat.InputOption{Value: v}) {
				return it, invalid("input.answers: not an option of the question")
			}
		}
		q.Answer = &chat.InputAnswer{Values: given.Values}
	}
	return it.WithBody(form)
}

// pendingCalls returns the client's tool calls without an output in the newest page of items, newest first. An older one was
// abandoned long ago.
func (h *Handler) pendingCalls(ctx context.Context, page store.Page[chat.Item]) (pending []chat.Item) {
	for _, it := range page.Data {
		call, ok, err := chat.DecodeItem[chat.ClientToolCall](it)
		if err != nil {
			h.odd(ctx, it.ThreadID, it.ID, err)
		}
		if ok && err == nil && call.Status == "pending" {
			pending = append(pending, it)
		}
	}
	return pending
}
