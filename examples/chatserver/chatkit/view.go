package chatkit

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// The types and functions here form the client's view of stored values: no owners, no metadata, no hidden items.

// thread is the client's view of a thread, with a page of its items.
type thread struct {
	ID        string    `json:"id"`
	Title     string    `json:"title,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	Status    status    `json:"status"`
	Domains   chat.JSON `json:"allowed_image_domains,omitzero"`
	Items     page      `json:"items"`
}

type status struct {
	Type   string `json:"type"`
	Reason string `json:"reason,omitempty"`
}

// page is a page of rows. After is the store's cursor, even if the last row is hidden.
type page struct {
	Data    []any  `json:"data"`
	HasMore bool   `json:"has_more"`
	After   string `json:"after,omitempty"`
}

func viewThread(t chat.Thread) thread {
	s := status(t.Status)
	if s.Type == "" {
		s.Type = chat.StatusActive
	}
	return thread{t.ID, t.Title, t.CreatedAt, s, t.AllowedImageDomains, page{Data: []any{}}}
}

func viewThreads(p store.Page[chat.Thread]) page {
	v := page{[]any{}, p.HasMore, p.After}
	for _, t := range p.Data {
		v.Data = append(v.Data, viewThread(t))
	}
	return v
}

// viewItems leaves hidden items out. So a page may be short, but its cursor stays right.
func viewItems(p store.Page[chat.Item]) (page, error) {
	v := page{[]any{}, p.HasMore, p.After}
	for _, it := range p.Data {
		if isHidden(it) {
			continue
		}
		seen, err := viewItem(it)
		if err != nil {
			return page{}, err
		}
		v.Data = append(v.Data, seen)
	}
	return v, nil
}

// isHidden reports whether an item is only for the assistant.
func isHidden(it chat.Item) bool {
	return it.Type() == chat.TypeHiddenContext || it.Type() == chat.TypeSDKHiddenContext
}

// viewItem removes the metadata from the attachments of a user's message.
func viewItem(it chat.Item) (chat.Item, error) {
	m, ok, err := chat.DecodeItem[chat.UserMessage](it)
	if err != nil || !ok || len(m.Attachments) == 0 {
		return it, err
	}
	for i, a := range m.Attachments {
		if m.Attachments[i], err = viewAttachment(a); err != nil {
			return chat.Item{}, err
		}
	}
	return it.WithBody(m)
}

func viewAttachment(a chat.Attachment) (chat.Attachment, error) {
	var members map[string]json.RawMessage
	if err := a.JSON().Decode(&members); err != nil {
		return chat.Attachment{}, err
	}
	delete(members, "metadata")
	text, err := encode(members)
	if err != nil {
		return chat.Attachment{}, err
	}
	return chat.ParseAttachment(text)
}

// viewEvent returns the client's view of an event.
func viewEvent(e Event) (Event, error) {
	var err error
	switch v := e.(type) {
	case ItemAdded:
		v.Item, err = viewItem(v.Item)
		return v, err
	case ItemDone:
		v.Item, err = viewItem(v.Item)
		return v, err
	case ItemReplaced:
		v.Item, err = viewItem(v.Item)
		return v, err
	}
	return e, nil
}

// encodeEvent returns the event's JSON in one line, with its type first.
func encodeEvent(e Event) ([]byte, error) {
	e, err := viewEvent(e)
	if err != nil {
		return nil, err
	}
	if u, ok := e.(ItemUpdated); ok {
		body, err := encodeUpdate(u.Update)
		if err != nil {
			return nil, err
		}
		return withType(u.eventType(), struct {
			ItemID string          `json:"item_id"`
			Update json.RawMessage `json:"update"`
		}{u.ItemID, body})
	}
	return withType(e.eventType(), e)
}

func encodeUpdate(u Update) ([]byte, error) {
	// Parts and tasks are encoded as in items: with default values, and without absent members.
	switch u := u.(type) {
	case PartAdded:
		return encodePart(u, u.Index, u.Content)
	case PartDone:
		return encodePart(u, u.Index, u.Content)
	case AnnotationAdded:
		c, err := wireOf(chat.AssistantMessage{Content: []chat.AssistantContent{{Annotations: []chat.Annotation{u.Annotation}}}},
			"content", "annotations")
		if err != nil {
			return nil, err
		}
		return withType(u.updateType(), struct {
			Index           int             `json:"content_index"`
			AnnotationIndex int             `json:"annotation_index"`
			Annotation      json.RawMessage `json:"annotation"`
		}{u.Index, u.AnnotationIndex, c})
	case TaskAdded:
		return encodeTask(u, u.Index, u.Task)
	case TaskUpdated:
		return encodeTask(u, u.Index, u.Task)
	}
	return withType(u.updateType(), u)
}

func encodePart(u Update, index int, c chat.AssistantContent) ([]byte, error) {
	content, err := wireOf(chat.AssistantMessage{Content: []chat.AssistantContent{c}}, "content")
	if err != nil {
		return nil, err
	}
	return withType(u.updateType(), struct {
		Index   int             `json:"content_index"`
		Content json.RawMessage `json:"content"`
	}{index, content})
}

func encodeTask(u Update, index int, t chat.Task) ([]byte, error) {
	task, err := wireOf(chat.WorkflowItem{Workflow: chat.Workflow{Type: "custom", Tasks: []chat.Task{t}}}, "workflow", "tasks")
	if err != nil {
		return nil, err
	}
	return withType(u.updateType(), struct {
		Index int             `json:"task_index"`
		Task  json.RawMessage `json:"task"`
	}{index, task})
}

// wireOf returns the part of a body's JSON at the given path, and of an array the first element.
func wireOf(b chat.Body, path ...string) (json.RawMessage, error) {
	it, err := chat.NewItem("x", time.Unix(0, 0), b)
	if err != nil {
		return nil, err
	}
	text := json.RawMessage(it.JSON().String())
	for _, name := range path {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			return nil, err
		}
		text = members[name]
		var rows []json.RawMessage
		if json.Unmarshal(text, &rows) == nil {
			text = rows[0]
		}
	}
	return text, nil
}

// withType returns v's JSON with the member type in front.
func withType(typ string, v any) ([]byte, error) {
	text, err := encode(v)
	if err != nil {
		return nil, err
	}
	head := append([]byte(`{"type":"`), typ...)
	head = append(head, '"')
	if len(text) > 2 {
		head = append(head, ',')
	}
	return append(head, text[1:]...), nil
}

// encode is json.Marshal without escaping <, > and &.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}
