package chatkit

import (
	"context"
	"strings"

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
	v := viewThread(t)
	v.Items, err = viewItems(items)
	return v, err
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
	return viewThreads(threads), nil
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
	return viewItems(items)
}

func (h *Handler) updateThread(ctx context.Context, p params) (any, error) {
	if p.Title == nil || len(*p.Title) > maxTitle {
		return nil, invalid("title: missing or longer than 1,000 bytes")
	}
	unlock, err := h.lock(ctx, p.ThreadID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	t, err := h.store.LoadThread(ctx, p.ThreadID)
	if err != nil {
		return nil, err
	}
	t.Title = *p.Title
	if err := h.store.SaveThread(store.WithSaveMode(ctx, store.UpdateOnly), t); err != nil {
		return nil, err
	}
	return viewThread(t), nil
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
	if strings.HasPrefix(p.MIMEType, "image/") {
		body.Type = "image"
	}
	body, err := h.files.Create(ctx, id, p.Size, body)
	if err != nil {
		return nil, err
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
	if err := h.store.SaveItem(store.WithSaveMode(ctx, store.UpdateOnly), p.ThreadID, it); err != nil {
		return nil, err
	}
	it, err = viewItem(it)
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

func (h *Handler) transcribe(context.Context, params) (any, error) {
	return nil, unsupported("input.transcribe: not supported by this server")
}
