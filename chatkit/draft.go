package chatkit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
)

// draft is an announced item that is not finished, with its updates so far. If the client goes away, it is the part to save.
type draft struct {
	item  chat.Item
	body  chat.Body // nil for a type whose updates are not kept
	parts []part    // of an assistant's message; they replace its Content
}

// part is a part of an assistant's message. It can grow without copying.
type part struct {
	content chat.AssistantContent // without the text
	text    *strings.Builder
}

func newPart(c chat.AssistantContent) part {
	p := part{c, new(strings.Builder)}
	p.text.WriteString(c.Text)
	return p
}

func newDraft(it chat.Item) (*draft, error) {
	d := &draft{item: it}
	body, known, err := chat.DecodeItem[chat.Body](it)
	if err != nil || !known {
		return d, err
	}
	switch b := body.(type) {
	case chat.AssistantMessage:
		for _, c := range b.Content {
			d.parts = append(d.parts, newPart(c))
		}
		d.body = b
	case chat.WorkflowItem, chat.GeneratedImage:
		d.body = b
	}
	return d, nil
}

// maxParts limits the memory that a wrong index of a responder can allocate.
const maxParts = 1000

// apply applies an update to the draft.
func (d *draft) apply(u Update) error {
	switch u := u.(type) {
	case WidgetTextDelta, WidgetComponentUpdated, WidgetRootUpdated:
		return nil // only for the client; ItemDone has the final widget
	case PartAdded:
		return d.setPart(u.Index, u.Content)
	case PartDone:
		return d.setPart(u.Index, u.Content)
	case TextDelta:
		if u.Index < 0 || u.Index >= len(d.parts) {
			return d.unfit(u)
		}
		d.parts[u.Index].text.WriteString(u.Delta)
		return nil
	case AnnotationAdded:
		if u.Index < 0 || u.Index >= len(d.parts) {
			return d.unfit(u)
		}
		c := &d.parts[u.Index].content
		at := min(max(u.AnnotationIndex, 0), len(c.Annotations))
		c.Annotations = slices.Insert(slices.Clone(c.Annotations), at, u.Annotation)
		return nil
	case TaskAdded:
		b, ok := d.body.(chat.WorkflowItem)
		if !ok || u.Index < 0 || u.Index > len(b.Workflow.Tasks) {
			return d.unfit(u)
		}
		b.Workflow.Tasks = slices.Insert(b.Workflow.Tasks, u.Index, u.Task)
		d.body = b
		return nil
	case TaskUpdated:
		b, ok := d.body.(chat.WorkflowItem)
		if !ok || u.Index < 0 || u.Index >= len(b.Workflow.Tasks) {
			return d.unfit(u)
		}
		b.Workflow.Tasks[u.Index] = u.Task
		return nil
	case ImageUpdated:
		if _, ok := d.body.(chat.GeneratedImage); !ok {
			return d.unfit(u)
		}
		d.body = chat.GeneratedImage{Image: &u.Image}
		return nil
	}
	return d.unfit(u)
}

func (d *draft) setPart(i int, c chat.AssistantContent) error {
	if _, ok := d.body.(chat.AssistantMessage); !ok || i < 0 || i > len(d.parts) || i >= maxParts {
		return fmt.Errorf("chatkit: item %q cannot have a part %d", d.item.ID, i)
	}
	if i == len(d.parts) {
		d.parts = append(d.parts, part{})
	}
	d.parts[i] = newPart(c)
	return nil
}

func (d *draft) unfit(u Update) error {
	return fmt.Errorf("chatkit: %T does not fit the current state of item %q", u, d.item.ID)
}

// content returns a part in its current state.
func (d *draft) content(i int) chat.AssistantContent {
	c := d.parts[i].content
	c.Text = d.parts[i].text.String()
	return c
}

// current returns the item in its current state.
func (d *draft) current() (chat.Item, error) {
	body := d.body
	switch body.(type) {
	case nil:
		return d.item, nil
	case chat.AssistantMessage:
		m := chat.AssistantMessage{Content: []chat.AssistantContent{}}
		for i := range d.parts {
			m.Content = append(m.Content, d.content(i))
		}
		body = m
	}
	return d.item.WithBody(body)
}

// partial returns the item to keep if the client goes away: an assistant's message that has text.
func (d *draft) partial() (it chat.Item, keep bool, err error) {
	if _, ok := d.body.(chat.AssistantMessage); !ok {
		return chat.Item{}, false, nil
	}
	if !slices.ContainsFunc(d.parts, func(p part) bool { return strings.TrimSpace(p.text.String()) != "" }) {
		return chat.Item{}, false, nil
	}
	it, err = d.current()
	return it, true, err
}

// finish sets the draft to the finished item. If saving that is interrupted, the whole item is kept.
func (d *draft) finish(it chat.Item) {
	if n, err := newDraft(it); err == nil {
		*d = *n
	}
}
