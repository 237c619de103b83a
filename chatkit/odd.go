package chatkit

import (
	"context"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/jsondoc"
)

// oddItems remembers which odd items were logged.
type oddItems struct {
	mu     sync.Mutex
	logged map[[2]string]struct{} // by the ids of thread and item
}

// maxOdd limits the memory of oddItems. If there are more odd items, it forgets all, and they are logged again.
const maxOdd = 10_000

// first reports whether an item is new here, and remembers it.
func (o *oddItems) first(threadID, itemID string) bool {
	key := [2]string{threadID, itemID}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.logged[key]; ok {
		return false
	}
	if len(o.logged) >= maxOdd {
		clear(o.logged)
	}
	if o.logged == nil {
		o.logged = map[[2]string]struct{}{}
	}
	// The ids may be parts of the item's text, which must not stay in memory.
	o.logged[[2]string{strings.Clone(threadID), strings.Clone(itemID)}] = struct{}{}
	return true
}

// odd notes a stored item that cannot be read. It logs the item's ids and the reason, once per item.
func (h *Handler) odd(ctx context.Context, threadID, itemID string, reason error) {
	if h.odds.first(threadID, itemID) {
		h.log.WarnContext(ctx, "an item cannot be read", "thread", threadID, "item", itemID, "reason", reason)
	}
}

// mend returns a message of an odd form in the usual form, as far as it can be understood. It returns an item of another type
// as it is.
func mend(it chat.Item) (chat.Item, error) {
	text := it.JSON().String()
	members, _ := jsondoc.MembersOf(text, '{')
	content, _ := jsondoc.Find(text, members, "content")
	switch it.Type() {
	case chat.TypeUserMessage:
		m := chat.UserMessage{Content: []chat.UserContent{}, Attachments: []chat.Attachment{}}
		for _, e := range elements(content) {
			if b, ok := fits[chat.UserMessage](it.Type(), "content", "["+e+"]"); ok {
				m.Content = append(m.Content, b.Content...)
			} else if s := textOf(e); s != "" {
				m.Content = append(m.Content, chat.UserContent{Text: s})
			}
		}
		attachments, _ := jsondoc.Find(text, members, "attachments")
		for _, e := range elements(attachments) {
			if a, ok := attachmentOf(e); ok {
				m.Attachments = append(m.Attachments, a)
			}
		}
		if quoted, ok := jsondoc.Find(text, members, "quoted_text"); ok {
			m.QuotedText, _, _ = jsondoc.Unquote(quoted)
		}
		if options, ok := jsondoc.Find(text, members, "inference_options"); ok {
			b, _ := fits[chat.UserMessage](it.Type(), "inference_options", options)
			m.InferenceOptions = b.InferenceOptions
		}
		return it.WithBody(m)
	case chat.TypeAssistantMessage:
		m := chat.AssistantMessage{Content: []chat.AssistantContent{}}
		for _, e := range elements(content) {
			if b, ok := fits[chat.AssistantMessage](it.Type(), "content", "["+e+"]"); ok {
				m.Content = append(m.Content, b.Content...)
			} else if s := textOf(e); s != "" {
				m.Content = append(m.Content, chat.AssistantContent{Text: s})
			}
		}
		return it.WithBody(m)
	}
	return it, nil
}

// elements returns the elements of an array that are not null. Another value counts as the only element.
func elements(value string) []string {
	if value == "" || value == "null" {
		return nil
	}
	all, ok := jsondoc.MembersOf(value, '[')
	if !ok {
		return []string{value}
	}
	var texts []string
	for _, e := range all {
		if text := value[e.Start:e.End]; text != "null" {
			texts = append(texts, text)
		}
	}
	return texts
}

// fits decodes one member of an item. ok is false if it does not fit.
func fits[T chat.Body](typ chat.ItemType, name, value string) (body T, ok bool) {
	it, err := chat.ParseItem(jsondoc.Splice("{}", []jsondoc.Edit{{Name: "type", Value: jsondoc.Quoted(string(typ))}, {Name: name, Value: value}}))
	if err != nil {
		return body, false
	}
	body, ok, err = chat.DecodeItem[T](it)
	return body, ok && err == nil
}

// textOf returns the text of a part that is a string, or an object with one.
func textOf(part string) string {
	if members, ok := jsondoc.MembersOf(part, '{'); ok {
		if part, ok = jsondoc.Find(part, members, "text"); !ok {
			return ""
		}
	}
	s, _, _ := jsondoc.Unquote(part)
	return s
}

// attachmentOf returns an attachment that was stored in a message. Of a bare id, it makes a file of that name.
func attachmentOf(value string) (chat.Attachment, bool) {
	a, err := chat.ParseAttachment(value)
	if id, isString, exact := jsondoc.Unquote(value); isString && exact {
		a, err = chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: id, MIMEType: "application/octet-stream"})
	}
	if err == nil {
		_, err = a.Decode()
	}
	return a, err == nil
}
