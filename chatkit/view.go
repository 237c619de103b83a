package chatkit

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/jsondoc"
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
	naive     bool      // the stored time has no zone
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

// viewThread returns a view in which a stored time without a zone is of UTC. See thread.in.
func viewThread(t chat.Thread) thread {
	s := status(t.Status)
	if s.Type == "" {
		s.Type = chat.StatusActive
	}
	text := t.JSON().String()
	members, _ := jsondoc.MembersOf(text, '{')
	return thread{t.ID, t.Title, t.CreatedAt, s, t.AllowedImageDomains, page{Data: []any{}}, isNaive(text, members)}
}

// in returns the view for servers whose stored times without a zone are of this zone.
func (t thread) in(zone *time.Location) thread {
	if t.naive {
		t.CreatedAt, t.naive = inZone(t.CreatedAt, zone), false
	}
	return t
}

func viewThreads(p store.Page[chat.Thread], zone *time.Location, order store.Order) page {
	var all []thread
	for _, t := range p.Data {
		all = append(all, viewThread(t).in(zone))
	}
	return page{sorted(all, order, func(t thread) time.Time { return t.CreatedAt }), p.HasMore, p.After}
}

// viewItems leaves out hidden items and those that cannot be shown. So a page may be short, but its cursor stays right.
func (h *Handler) viewItems(ctx context.Context, p store.Page[chat.Item], order store.Order) page {
	var all []chat.Item
	for _, it := range p.Data {
		if isHidden(it) {
			continue
		}
		seen, odd := viewItem(it, h.zone)
		if odd != nil {
			h.odd(ctx, it.ThreadID, it.ID, odd)
		}
		if seen.Type() != "" {
			all = append(all, seen)
		}
	}
	return page{sorted(all, order, func(it chat.Item) time.Time { return it.CreatedAt }), p.HasMore, p.After}
}

// isHidden reports whether an item is only for the assistant.
func isHidden(it chat.Item) bool {
	return it.Type() == chat.TypeHiddenContext || it.Type() == chat.TypeSDKHiddenContext
}

// viewItem returns the client's view of an item. It leaves out the metadata of attachments, fills in the members that the type
// must have, and gives the time a zone. If the item has an odd form, odd says what is wrong. Then seen is a mended message, or the
// zero Item.
func viewItem(it chat.Item, zone *time.Location) (seen chat.Item, odd error) {
	body, known, odd := chat.DecodeItem[chat.Body](it)
	if odd != nil {
		var err error
		if it, err = mend(it); err == nil {
			body, known, err = chat.DecodeItem[chat.Body](it)
		}
		if err != nil {
			return chat.Item{}, odd
		}
	}
	stored := it.JSON().String()
	text := stored
	members, _ := jsondoc.MembersOf(text, '{')
	if known && !isWhole(it.Type(), text, members) {
		full, err := chat.NewItem(it.ID, it.CreatedAt, body)
		if err != nil {
			return chat.Item{}, err
		}
		text = fill(text, full.JSON().String())
		members, _ = jsondoc.MembersOf(text, '{')
	}
	var edits []jsondoc.Edit
	if list, ok := jsondoc.Find(text, members, "attachments"); ok && list != "[]" {
		if _, isList := jsondoc.MembersOf(list, '['); !isList {
			list = "[]" // of another form: what is metadata there is not known
		}
		edits = append(edits, jsondoc.Edit{Name: "attachments", Value: mapElements(list, withoutMetadata)})
	}
	if isNaive(text, members) {
		at := string(jsondoc.AppendTime(nil, inZone(it.CreatedAt, zone)))
		edits = append(edits, jsondoc.Edit{Name: "created_at", Value: at})
	}
	if len(edits) > 0 {
		text = jsondoc.Splice(text, edits)
	}
	if text == stored {
		return it, odd
	}
	seen, err := chat.ParseItem(text)
	if err != nil {
		return chat.Item{}, err
	}
	return seen, odd
}

// isWhole reports, for the most common messages, that fill has nothing to add. It is quicker.
func isWhole(typ chat.ItemType, text string, members []jsondoc.Member) bool {
	var message, part []string
	switch typ {
	case chat.TypeUserMessage:
		message, part = []string{"content", "attachments", "inference_options"}, []string{"type", "text"}
	case chat.TypeAssistantMessage:
		message, part = []string{"content"}, []string{"type", "text", "annotations"}
	default:
		return false
	}
	if !hasAll(text, members, message) {
		return false
	}
	content, _ := jsondoc.Find(text, members, "content")
	all, _ := jsondoc.MembersOf(content, '[')
	for _, m := range all {
		e := content[m.Start:m.End]
		members, _ := jsondoc.MembersOf(e, '{')
		tag, _ := jsondoc.Find(e, members, "data")
		sources, _ := jsondoc.Find(e, members, "annotations")
		if !hasAll(e, members, part) || tag != "" || sources != "" && sources != "[]" {
			return false
		}
	}
	return true
}

func hasAll(text string, members []jsondoc.Member, names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool {
		value, ok := jsondoc.Find(text, members, name)
		return !ok || value == "null"
	})
}

// fill returns a JSON text with those members of another one that it lacks or that are null in it, at any depth.
func fill(text, full string) string {
	switch {
	case text == full || full == "null":
		return text
	case text == "null":
		return full
	}
	if want, ok := jsondoc.MembersOf(full, '{'); ok && text[0] == '{' {
		have, _ := jsondoc.MembersOf(text, '{')
		var edits []jsondoc.Edit
		for _, m := range want {
			value, ok := jsondoc.Find(text, have, m.Name)
			if !ok {
				value = "null"
			}
			if filled := fill(value, full[m.Start:m.End]); filled != value {
				edits = append(edits, jsondoc.Edit{Name: m.Name, Value: filled})
			}
		}
		if len(edits) == 0 {
			return text
		}
		return jsondoc.Splice(text, edits)
	}
	want, ok := jsondoc.MembersOf(full, '[')
	if have, _ := jsondoc.MembersOf(text, '['); !ok || len(have) != len(want) {
		return text
	}
	return mapElements(text, func(i int, value string) string { return fill(value, full[want[i].Start:want[i].End]) })
}

// mapElements returns an array with other elements. It returns another value as it is.
func mapElements(list string, f func(i int, value string) string) string {
	all, _ := jsondoc.MembersOf(list, '[')
	var b strings.Builder
	done := 0
	for i, m := range all {
		b.WriteString(list[done:m.Start])
		b.WriteString(f(i, list[m.Start:m.End]))
		done = m.End
	}
	return b.String() + list[done:]
}

// withoutMetadata returns an attachment without its metadata.
func withoutMetadata(_ int, attachment string) string {
	var members map[string]json.RawMessage
	if strings.HasPrefix(attachment, "[") {
		return "null" // as above
	}
	if json.Unmarshal([]byte(attachment), &members) != nil || members["metadata"] == nil {
		return attachment
	}
	delete(members, "metadata")
	text, err := encode(members)
	if err != nil {
		return "null"
	}
	return string(text)
}

func viewAttachment(a chat.Attachment) (chat.Attachment, error) {
	return chat.ParseAttachment(withoutMetadata(0, a.JSON().String()))
}
