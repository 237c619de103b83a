package storetest

import (
	"context"
	"fmt"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// command is a call on one thread, with its arguments.
type command struct {
	op     store.Op
	thread chat.Thread // SaveThread: the row; otherwise its ID
	item   chat.Item   // AddThreadItem, SaveItem: the row; otherwise its ID
	query  store.PageQuery
	mode   store.SaveMode
}

// answer is what a call returned.
type answer struct {
	thread chat.Thread
	item   chat.Item
	page   store.Page[chat.Item]
	code   store.Code
}

func (c command) threadID() string { return c.thread.ID }

// do makes the call and returns its error; the answer of a read is for call.
func (c command) do(ctx context.Context, s store.Store) error {
	_, err := c.call(ctx, s)
	return err
}

func (c command) call(ctx context.Context, s store.Store) (a answer, err error) {
	switch c.op {
	case store.OpLoadThread:
		a.thread, err = s.LoadThread(ctx, c.thread.ID)
	case store.OpLoadThreadItems:
		a.page, err = s.LoadThreadItems(ctx, c.thread.ID, c.query)
	case store.OpLoadItem:
		a.item, err = s.LoadItem(ctx, c.thread.ID, c.item.ID)
	case store.OpSaveThread:
		err = s.SaveThread(store.WithSaveMode(ctx, c.mode), c.thread)
	case store.OpDeleteThread:
		err = s.DeleteThread(ctx, c.thread.ID)
	case store.OpAddThreadItem:
		err = s.AddThreadItem(ctx, c.thread.ID, c.item)
	case store.OpSaveItem:
		err = s.SaveItem(store.WithSaveMode(ctx, c.mode), c.thread.ID, c.item)
	case store.OpDeleteThreadItem:
		err = s.DeleteThreadItem(ctx, c.thread.ID, c.item.ID)
	default:
		panic("storetest: no command for " + c.op.String())
	}
	a.code = store.CodeOf(err)
	return a, err
}

// on is what the contract says of the call on a thread in state s.
func (c command) on(s threadSpec) (after threadSpec, a answer) {
	var err error
	switch c.op {
	case store.OpLoadThread:
		a.thread, err = s.load()
	case store.OpLoadThreadItems:
		a.page, err = s.loadItems(c.query)
	case store.OpLoadItem:
		a.item, err = s.loadItem(c.item.ID)
	case store.OpSaveThread:
		s, err = s.save(c.thread, c.mode)
	case store.OpDeleteThread:
		s = s.delete()
	case store.OpAddThreadItem:
		s, err = s.addItem(c.item)
	case store.OpSaveItem:
		s, err = s.saveItem(c.item, c.mode)
	case store.OpDeleteThreadItem:
		s = s.deleteItem(c.item.ID)
	}
	a.code = store.CodeOf(err)
	return s, a
}

func (a answer) equal(b answer) bool {
	if a.code != b.code || !a.thread.Equal(b.thread) || a.thread.Owner != b.thread.Owner || !a.item.Equal(b.item) ||
		a.page.HasMore != b.page.HasMore || a.page.After != b.page.After || len(a.page.Data) != len(b.page.Data) {
		return false
	}
	for i := range a.page.Data {
		if !a.page.Data[i].Equal(b.page.Data[i]) {
			return false
		}
	}
	return true
}

func (c command) String() string {
	switch c.op {
	case store.OpLoadThreadItems:
		after := ""
		if c.query.After != "" {
			after = " after " + c.query.After
		}
		return fmt.Sprintf("%s(%s first, %d%s)", c.op, c.query.Order, c.query.Limit, after)
	case store.OpLoadThread, store.OpDeleteThread:
		return c.op.String() + "()"
	case store.OpSaveThread:
		return fmt.Sprintf("%s(%s%s)", c.op, c.thread.Title, modeName(c.mode))
	case store.OpLoadItem, store.OpDeleteThreadItem:
		return fmt.Sprintf("%s(%s)", c.op, c.item.ID)
	}
	return fmt.Sprintf("%s(%s%s)", c.op, itemName(c.item), modeName(c.mode))
}

func (a answer) String() string {
	switch {
	case a.code != store.CodeOK:
		return a.code.String()
	case a.thread.ID != "":
		return a.thread.Title
	case a.item.ID != "":
		return itemName(a.item)
	}
	var items []string
	for _, it := range a.page.Data {
		items = append(items, itemName(it))
	}
	if a.page.HasMore {
		items = append(items, "more after "+a.page.After)
	}
	return "[" + strings.Join(items, " ") + "]"
}

// itemName is an item as a history shows it: its id, its time, and what was written.
func itemName(it chat.Item) string {
	text := ""
	if b, ok, _ := chat.DecodeItem[chat.AssistantMessage](it); ok && len(b.Content) > 0 {
		text = "=" + b.Content[0].Text
	}
	return fmt.Sprintf("%s@%d%s", it.ID, it.CreatedAt.Second(), text)
}

func modeName(m store.SaveMode) string {
	switch m {
	case store.InsertOnly:
		return ", insert only"
	case store.UpdateOnly:
		return ", update only"
	}
	return ""
}
