package chatkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/chatstore/chatstore/chat"
)

// viewEvent returns the client's view of an event.
func viewEvent(e Event, zone *time.Location) (Event, error) {
	var err error
	switch v := e.(type) {
	case ItemAdded:
		v.Item, err = viewed(v.Item, zone)
		return v, err
	case ItemDone:
		v.Item, err = viewed(v.Item, zone)
		return v, err
	case ItemReplaced:
		v.Item, err = viewed(v.Item, zone)
		return v, err
	case threadUpdated:
		v.Thread = v.Thread.in(zone)
		return v, nil
	case ClientEffect:
		if isNull(v.Data) {
			v.Data = emptyObject
		} else if !isObject(v.Data) {
			return nil, errors.New("chatkit: the data of a client effect is not an object")
		}
		return v, nil
	}
	return e, nil
}

// viewed is viewItem for an item that must be shown.
func viewed(it chat.Item, zone *time.Location) (chat.Item, error) {
	seen, odd := viewItem(it, zone)
	if seen.Type() == "" {
		return seen, odd
	}
	return seen, nil
}

// encodeEvent returns the JSON of the client's view of an event in one line, with its type first.
func encodeEvent(e Event, zone *time.Location) ([]byte, error) {
	e, err := viewEvent(e, zone)
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
