package chatkit

import (
	"context"
	"errors"
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
	t, err := h.newThread(ctx)
	if err != nil {
		return err
	}
	ctx, giveBack, err := h.takeOver(ctx, t.ID)
	if err != nil {
		return err
	}
	defer giveBack()
	if err := out.send(ThreadCreated{viewThread(t)}); err != nil {
		return err
	}
	return h.answer(ctx, t, message, attachments, out)
}

// now returns the time with the precision of a store.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// newThread saves a new thread. If the id is taken, it tries another one.
func (h *Handler) newThread(ctx context.Context) (chat.Thread, error) {
	const draws = 3
	t := chat.Thread{CreatedAt: now(), Status: chat.Status{Type: chat.StatusActive}}
	var err error
	for range draws {
		t.ID = h.store.GenerateThreadID(ctx)
		err = h.store.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), t)
		if store.CodeOf(err) != store.CodeConflict {
			break
		}
	}
	return t, err
}

func (h *Handler) addUserMessage(ctx context.Context, p params, out *stream) error {
	if _, err := h.activeThread(ctx, p.ThreadID); err != nil {
		return err
	}
	message, attachments, err := h.userMessage(ctx, p)
	if err != nil {
		return err
	}
	ctx, t, giveBack, err := h.begin(ctx, p.ThreadID)
	if err != nil {
		return err
	}
	defer giveBack()
	return h.answer(ctx, t, message, attachments, out)
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

// userMessage returns the item of a user's input, with its stored attachments. It writes nothing.
func (h *Handler) userMessage(ctx context.Context, p params) (chat.Item, []chat.Attachment, error) {
	in, err := decodeParam[userInput]("input", p.Input)
	if err != nil {
		return chat.Item{}, nil, err
	}
	if len(in.Attachments) > maxAttachments {
		return chat.Item{}, nil, invalid("input.attachments: more than 10")
	}
	attachments := []chat.Attachment{}
	for i, id := range in.Attachments {
		if slices.Contains(in.Attachments[:i], id) {
			continue
		}
		a, err := h.store.LoadAttachment(ctx, id)
		if err != nil {
			return chat.Item{}, nil, err
		}
		if b, err := a.Decode(); err != nil {
			return chat.Item{}, nil, err
		} else if h.files != nil && b.Upload != nil {
			return chat.Item{}, nil, conflict("input.attachments: an upload is not complete")
		}
		attachments = append(attachments, a)
	}
	if text := in.Content.String(); text == "" || text == "null" {
		return chat.Item{}, nil, invalid("input.content: missing")
	}
	text, err := encode(struct {
		CreatedAt        time.Time         `json:"created_at"`
		Type             chat.ItemType     `json:"type"`
		Content          chat.JSON         `json:"content"`
		Attachments      []chat.Attachment `json:"attachments"`
		QuotedText       string            `json:"quoted_text,omitempty"`
		InferenceOptions chat.JSON         `json:"inference_options,omitzero"`
	}{now(), chat.TypeUserMessage, in.Content, attachments, in.QuotedText, in.InferenceOptions})
	if err != nil {
		return chat.Item{}, nil, err
	}
	it, err := chat.ParseItem(text)
	if err == nil {
		_, _, err = chat.DecodeItem[chat.UserMessage](it)
	}
	return it, attachments, err
}

// answer stores a user's message and answers it.
func (h *Handler) answer(
	ctx context.Context, t chat.Thread, message chat.Item, attachments []chat.Attachment, out *stream,
) error {
	message.ID = h.store.GenerateItemID(ctx, chat.KindMessage, t)
	message.ThreadID = t.ID
	for _, a := range attachments {
		a.ThreadID = t.ID
		if err := h.store.SaveAttachment(store.WithSaveMode(ctx, store.UpdateOnly), a); err != nil {
			return err
		}
	}
	if err := h.store.AddThreadItem(ctx, t.ID, message); err != nil {
		return err
	}
	if err := out.send(ItemDone{message}); err != nil {
		return err
	}
	// Remove calls that are still pending, because models refuse a call without an output.
	pending, err := h.pendingCalls(ctx, t.ID)
	if err != nil {
		return err
	}
	if err := h.remove(ctx, t.ID, pending, out); err != nil {
		return err
	}
	return h.turn(ctx, t, message, out, h.responder.Respond)
}

// pendingCalls returns the client's tool calls without an output, newest first.
func (h *Handler) pendingCalls(ctx context.Context, threadID string) ([]chat.Item, error) {
	// It reads one page: an older pending call was abandoned long ago.
	page, err := h.store.LoadThreadItems(ctx, threadID, store.PageQuery{Order: store.NewestFirst})
	if err != nil {
		return nil, err
	}
	var pending []chat.Item
	for _, it := range page.Data {
		call, ok, err := chat.DecodeItem[chat.ClientToolCall](it)
		if err != nil {
			return nil, err
		}
		if ok && call.Status == "pending" {
			pending = append(pending, it)
		}
	}
	return pending, nil
}

// remove deletes items and tells the client about those that it can see.
func (h *Handler) remove(ctx context.Context, threadID string, items []chat.Item, out *stream) error {
	for _, it := range items {
		if err := h.store.DeleteThreadItem(ctx, threadID, it.ID); err != nil {
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
	ctx, t, giveBack, err := h.begin(ctx, threadID)
	if err != nil {
		return err
	}
	defer giveBack()
	if err := out.send(ItemReplaced{it}); err != nil {
		return err
	}
	if err := h.remove(ctx, t.ID, obsolete, out); err != nil {
		return err
	}
	return h.turn(ctx, t, chat.Item{}, out, h.responder.Respond)
}

// completeCall stores the output of the newest pending call. It returns that call and the other pending ones. Of two outputs
// sent at once to one server, one is refused; sent to two servers, both may be stored.
func (h *Handler) completeCall(
	ctx context.Context, threadID string, output chat.JSON,
) (it chat.Item, rest []chat.Item, err error) {
	unlock, err := h.lock(ctx, threadID)
	if err != nil {
		return it, nil, err
	}
	defer unlock()
	pending, err := h.pendingCalls(ctx, threadID)
	if err != nil {
		return it, nil, err
	}
	if len(pending) == 0 {
		return it, nil, conflict("thread: no tool call waits for an output")
	}
	call, _, err := chat.DecodeItem[chat.ClientToolCall](pending[0])
	if err != nil {
		return it, nil, err
	}
	call.Status, call.Output = "completed", output
	if it, err = pending[0].WithBody(call); err != nil {
		return it, nil, err
	}
	return it, pending[1:], h.store.SaveItem(store.WithSaveMode(ctx, store.UpdateOnly), threadID, it)
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

// answerForm saves the answers to a pending form. Of two submissions at once, one is refused, as with completeCall.
func (h *Handler) answerForm(ctx context.Context, threadID, itemID string, in formInput) (chat.Item, error) {
	unlock, err := h.lock(ctx, threadID)
	if err != nil {
		return chat.Item{}, err
	}
	defer unlock()
	it, err := h.store.LoadItem(ctx, threadID, itemID)
	if err != nil {
		return it, err
	}
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
	if it, err = it.WithBody(form); err != nil {
		return it, err
	}
	return it, h.store.SaveItem(store.WithSaveMode(ctx, store.UpdateOnly), threadID, it)
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
	ctx, t, giveBack, err := h.begin(ctx, p.ThreadID)
	if err != nil {
		return err
	}
	defer giveBack()
	// Delete the newest first. Then a failure leaves a conversation without gaps.
	for {
		page, err := h.store.LoadThreadItems(ctx, t.ID, store.PageQuery{Limit: maxPage, Order: store.NewestFirst})
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
		if err := h.remove(ctx, t.ID, behind, out); err != nil {
			return err
		}
		if found >= 0 {
			return h.turn(ctx, t, message, out, h.responder.Respond)
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
	ctx, t, giveBack, err := h.begin(ctx, p.ThreadID)
	if err != nil {
		return err
	}
	defer giveBack()
	return h.turn(ctx, t, chat.Item{}, out, func(ctx context.Context, turn *Turn) error {
		return h.responder.Act(ctx, turn, action)
	})
}

var errTooLong = StatusError{504, "timeout", "the answer took too long"}

// turn runs the responder. If the client leaves or the turn is ended, it keeps the part of the answer that was sent.
func (h *Handler) turn(
	ctx context.Context, t chat.Thread, message chat.Item, out *stream, respond func(context.Context, *Turn) error,
) error {
	saving := context.WithoutCancel(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.over, func() { cancel(context.Cause(h.over)) })()

	beating, still := context.WithCancel(ctx)
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		out.beat(beating, h.heartbeat)
	}()
	defer func() { still(); <-beats }()

	turn := &Turn{Thread: t, Message: message, handler: h, saved: t, send: out.send}
	options := StreamOptions{}
	options.Options.AllowCancel = true
	err := out.send(options)
	if err == nil {
		_, err = guard(func() (any, error) { return nil, respond(ctx, turn) })
	}
	if err == nil {
		err = turn.saveThread(ctx)
	}
	if err == nil {
		h.metrics.turns.WithLabelValues(turnDone).Inc()
		return nil
	}
	if store.CodeOf(err) == store.CodeNotFound && ctx.Err() == nil {
		if _, gone := h.store.LoadThread(ctx, t.ID); store.CodeOf(gone) == store.CodeNotFound {
			h.metrics.turns.WithLabelValues(turnAbandoned).Inc()
			return errDeleted
		}
	}
	if ctx.Err() == nil && !errors.Is(err, errGone) {
		h.metrics.turns.WithLabelValues(turnFailed).Inc()
		return err
	}
	h.metrics.turns.WithLabelValues(turnAbandoned).Inc()
	if kept := h.abandon(saving, turn); kept != nil {
		h.log.ErrorContext(ctx, "failed to save an abandoned turn", "thread", t.ID, "error", kept)
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// errDeleted ends a turn whose thread was deleted in the meantime.
var errDeleted = StatusError{404, store.CodeNotFound.String(), "the conversation was deleted"}

// saveLimit limits the time for saving an abandoned turn.
const saveLimit = 10 * time.Second

// abandon saves the messages that the client has read in part, and a note for the assistant that it was stopped.
func (h *Handler) abandon(ctx context.Context, t *Turn) error {
	ctx, cancel := context.WithTimeout(ctx, saveLimit)
	defer cancel()
	t.send = func(Event) error { return nil }
	var failed []error
	try := func(err error) {
		// Not found: the thread was deleted. Conflict: the item was just being saved when the client left.
		if code := store.CodeOf(err); code != store.CodeNotFound && code != store.CodeConflict {
			failed = append(failed, err)
		}
	}
	try(t.saveThread(ctx))
	for _, d := range t.pending {
		it, keep, err := d.partial()
		if keep && err == nil {
			err = h.store.AddThreadItem(ctx, t.Thread.ID, it)
		}
		try(err)
	}
	note, err := t.NewItem(ctx, chat.SDKHiddenContext{
		Content: "The user cancelled the stream. Stop responding to the prior request.",
	})
	if err == nil {
		err = h.store.AddThreadItem(ctx, t.Thread.ID, note)
	}
	try(err)
	return errors.Join(failed...)
}
