package chatkit

import (
	"context"
	"encoding/base64"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// answers has the requests that are answered with JSON, by type.
var answers = map[string]func(*Handler, context.Context, params) (any, error){
	"threads.get_by_id":          (*Handler).getThread,
	"threads.list":               (*Handler).listThreads,
	"threads.update":             (*Handler).updateThread,
	"threads.delete":             (*Handler).deleteThread,
	"threads.sync_custom_action": (*Handler).actNow,
	"items.list":                 (*Handler).listItems,
	"items.feedback":             (*Handler).feedback,
	"attachments.create":         (*Handler).createAttachment,
	"attachments.delete":         (*Handler).deleteAttachment,
	"input.transcribe":           (*Handler).transcribe,
}

// nothing is the empty answer of a successful request.
type nothing struct{}

func (h *Handler) getThread(ctx context.Context, p params) (any, error) {
	t, err := h.store.LoadThread(ctx, p.ThreadID)
	if err != nil {
		return nil, err
	}
	items, err := h.store.LoadThreadItems(ctx, p.ThreadID, store.PageQuery{Order: store.OldestFirst})
	if err != nil {
		return nil, err
	}
	v := viewThread(t).in(h.zone)
	v.Items = h.viewItems(ctx, items, store.OldestFirst)
	return v, nil
}

func (h *Handler) listThreads(ctx context.Context, p params) (any, error) {
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	threads, err := h.store.LoadThreads(ctx, store.ThreadQuery{PageQuery: q})
	if err != nil {
		return nil, err
	}
	return viewThreads(threads, h.zone, q.Order), nil
}

func (h *Handler) listItems(ctx context.Context, p params) (any, error) {
	q, err := p.query()
	if err != nil {
		return nil, err
	}
	// For a missing thread the store returns an empty page. The client must get an error instead.
	if _, err := h.store.LoadThread(ctx, p.ThreadID); err != nil {
		return nil, err
	}
	items, err := h.store.LoadThreadItems(ctx, p.ThreadID, q)
	if err != nil {
		return nil, err
	}
	return h.viewItems(ctx, items, q.Order), nil
}

func (h *Handler) updateThread(ctx context.Context, p params) (any, error) {
	if p.Title == nil || len(*p.Title) > maxTitle {
		return nil, invalid("title: missing or longer than 1,000 bytes")
	}
	var t chat.Thread
	_, _, err := h.revise(ctx, p.ThreadID, func(ctx context.Context, unchanged unchanged) (err error) {
		if t, err = h.store.LoadThread(ctx, p.ThreadID); err != nil {
			return err
		}
		t.Title = *p.Title
		write, _ := unchanged()
		return h.store.SaveThread(store.WithSaveMode(write, store.UpdateOnly), t)
	})
	if err != nil {
		return nil, err
	}
	return viewThread(t).in(h.zone), nil
}

func (h *Handler) deleteThread(ctx context.Context, p params) (any, error) {
	return nothing{}, h.store.DeleteThread(ctx, p.ThreadID)
}

func (h *Handler) feedback(ctx context.Context, p params) (any, error) {
	if p.Kind != "positive" && p.Kind != "negative" {
		return nil, invalid("kind: neither positive nor negative")
	}
	if len(p.ItemIDs) == 0 || len(p.ItemIDs) > maxFeedback {
		return nil, invalid("item_ids: none or more than 100")
	}
	for _, id := range p.ItemIDs {
		if _, err := h.store.LoadItem(ctx, p.ThreadID, id); err != nil {
			return nil, err
		}
	}
	if taker, ok := h.responder.(FeedbackTaker); ok {
		return nothing{}, taker.TakeFeedback(ctx, p.ThreadID, p.ItemIDs, p.Kind)
	}
	h.log.InfoContext(ctx, "feedback", "thread", p.ThreadID, "items", p.ItemIDs, "kind", p.Kind)
	return nothing{}, nil
}

func (h *Handler) createAttachment(ctx context.Context, p params) (any, error) {
	if h.files == nil {
		return nil, unsupported("attachments: not supported by this server")
	}
	switch {
	case p.Name == "" || len(p.Name) > maxName:
		return nil, invalid("name: missing or longer than 255 bytes")
	case p.MIMEType == "" || len(p.MIMEType) > maxName:
		return nil, invalid("mime_type: missing or longer than 255 bytes")
	case p.Size < 0:
		return nil, invalid("size: negative")
	}
	id := h.store.GenerateItemID(ctx, chat.KindAttachment, chat.Thread{})
	body := chat.AttachmentBody{Type: "file", Name: p.Name, MIMEType: p.MIMEType}
	if name, ok := InlineImage(p.MIMEType); ok {
		body.Type, body.MIMEType = "image", name
	}
	body, err := h.files.Create(ctx, id, p.Size, body)
	if err != nil {
		return nil, err
	}
	if body.Type != "image" {
		body.PreviewURL = "" // a page may not show it
	}
	a, err := chat.NewAttachment(id, body)
	if err != nil {
		return nil, err
	}
	if err := h.store.SaveAttachment(store.WithSaveMode(ctx, store.InsertOnly), a); err != nil {
		return nil, err
	}
	return viewAttachment(a)
}

func (h *Handler) deleteAttachment(ctx context.Context, p params) (any, error) {
	if h.files == nil {
		return nil, unsupported("attachments: not supported by this server")
	}
	_, err := h.store.LoadAttachment(ctx, p.AttachmentID)
	if store.CodeOf(err) == store.CodeNotFound {
		return nothing{}, nil // as in a store: deleting a missing row succeeds
	}
	if err != nil {
		return nil, err
	}
	// The row is deleted first: a file without a row does no harm, but a row must have its file.
	if err := h.store.DeleteAttachment(ctx, p.AttachmentID); err != nil {
		return nil, err
	}
	return nothing{}, h.files.Delete(ctx, p.AttachmentID)
}

func (h *Handler) actNow(ctx context.Context, p params) (any, error) {
	actor, ok := h.responder.(SyncActor)
	if !ok {
		return nil, unsupported("threads.sync_custom_action: not supported by this assistant")
	}
	t, err := h.activeThread(ctx, p.ThreadID)
	if err != nil {
		return nil, err
	}
	action, err := h.action(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := h.checkWrite(ctx, p.ThreadID); err != nil {
		return nil, err
	}
	t.Metadata = withoutFence(t.Metadata)
	it, err := actor.ActNow(ctx, t, action)
	if err != nil {
		return nil, err
	}
	var answer struct {
		UpdatedItem *chat.Item `json:"updated_item,omitempty"`
	}
	if it.ID == "" {
		return answer, nil
	}
	_, _, err = h.revise(ctx, p.ThreadID, func(ctx context.Context, unchanged unchanged) error {
		now, err := h.store.LoadItem(ctx, p.ThreadID, it.ID)
		if err != nil {
			return err
		}
		if it.ID == action.Sender.ID && !now.Equal(action.Sender) {
			return conflict("item: it has changed in the meantime")
		}
		write, _ := unchanged()
		return h.store.SaveItem(store.WithSaveMode(write, store.UpdateOnly), p.ThreadID, it)
	})
	if err != nil {
		return nil, err
	}
	it, err = viewed(it, h.zone)
	answer.UpdatedItem = &it
	return answer, err
}

// action returns the custom action of a request. If it has a sender, that must be a widget.
func (h *Handler) action(ctx context.Context, p params) (Action, error) {
	in, err := decodeParam[actionInput]("action", p.Action)
	if err != nil {
		return Action{}, err
	}
	a := Action{Type: in.Type, Payload: in.Payload}
	if p.ItemID == "" {
		return a, nil
	}
	if a.Sender, err = h.store.LoadItem(ctx, p.ThreadID, p.ItemID); err != nil {
		return Action{}, err
	}
	if a.Sender.Type() != chat.TypeWidget {
		return Action{}, invalid("item_id: no widget")
	}
	return a, nil
}

func (h *Handler) transcribe(ctx context.Context, p params) (any, error) {
	t, ok := h.responder.(Transcriber)
	if !ok {
		return nil, unsupported("input.transcribe: not supported by this assistant")
	}
	audio, err := base64.StdEncoding.DecodeString(p.Audio)
	switch {
	case err != nil:
		return nil, invalid("audio_base64: not base64")
	case len(audio) == 0:
		return nil, invalid("audio_base64: missing")
	case p.MIMEType == "" || len(p.MIMEType) > maxName:
		return nil, invalid("mime_type: missing or longer than 255 bytes")
	}
	var answer struct {
		Text string `json:"text"`
	}
	answer.Text, err = t.Transcribe(ctx, audio, p.MIMEType)
	return answer, err
}
