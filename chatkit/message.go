package chatkit

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
)

// userMessage returns the item of a user's input, with its stored attachments. It writes nothing. See sentIn.
func (h *Handler) userMessage(ctx context.Context, p params) (chat.Item, []chat.Attachment, error) {
	fail := func(err error) (chat.Item, []chat.Attachment, error) { return chat.Item{}, nil, err }
	in, err := decodeParam[userInput]("input", p.Input)
	if err != nil {
		return fail(err)
	}
	if len(in.Attachments) > maxAttachments {
		return fail(invalid("input.attachments: more than 10"))
	}
	if err := wholeIDs(in.Attachments...); err != nil {
		return fail(err)
	}
	attachments := []chat.Attachment{}
	for i, id := range in.Attachments {
		if slices.Contains(in.Attachments[:i], id) {
			continue
		}
		a, err := h.store.LoadAttachment(ctx, id)
		if err != nil {
			return fail(err)
		}
		if b, err := a.Decode(); err != nil {
			return fail(err)
		} else if h.files != nil && b.Upload != nil {
			return fail(conflict("input.attachments: an upload is not complete"))
		}
		attachments = append(attachments, a)
	}
	if isNull(in.Content) {
		return fail(invalid("input.content: missing"))
	}
	if isNull(in.QuotedText) || in.QuotedText.String() == `""` {
		in.QuotedText = chat.JSON{}
	}
	if isNull(in.InferenceOptions) {
		in.InferenceOptions = emptyObject
	}
	text, err := encode(struct {
		CreatedAt        time.Time         `json:"created_at"`
		Type             chat.ItemType     `json:"type"`
		Content          chat.JSON         `json:"content"`
		Attachments      []chat.Attachment `json:"attachments"`
		QuotedText       chat.JSON         `json:"quoted_text,omitzero"`
		InferenceOptions chat.JSON         `json:"inference_options"`
	}{now(), chat.TypeUserMessage, in.Content, attachments, in.QuotedText, in.InferenceOptions})
	if err != nil {
		return fail(err)
	}
	it, err := chat.ParseItem(text)
	if err != nil {
		return fail(err)
	}
	m, _, err := chat.DecodeItem[chat.UserMessage](it)
	if err != nil {
		return fail(err)
	}
	if isBlank(m) && len(attachments) == 0 {
		return fail(invalid("input.content: neither text nor attachments"))
	}
	return it, attachments, nil
}

// isBlank reports whether a message says nothing. A tag, which is an entity that the user has named, says something.
func isBlank(m chat.UserMessage) bool {
	return !slices.ContainsFunc(m.Content, func(c chat.UserContent) bool {
		return c.Type == "input_tag" || strings.TrimSpace(c.Text) != ""
	})
}

// sentIn returns a message and its attachments as parts of a thread. Both carry the thread's id.
func sentIn(threadID string, message chat.Item, attachments []chat.Attachment) (chat.Item, []chat.Attachment, error) {
	message.ThreadID = threadID
	m, _, err := chat.DecodeItem[chat.UserMessage](message)
	if err != nil || len(attachments) == 0 {
		return message, nil, err
	}
	attachments = slices.Clone(attachments)
	for i := range attachments {
		attachments[i].ThreadID = threadID
	}
	m.Attachments = attachments
	message, err = message.WithBody(m)
	return message, attachments, err
}
