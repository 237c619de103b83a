package memstore

import (
	"context"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// LoadThreadItems returns a page of the thread's items.
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	const op = store.OpLoadThreadItems
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	var page store.Page[chat.Item]
	version := s.read(threadID, func(c *conversation) {
		var after *itemKey
		if q.After != "" {
			place, ok := c.place(q.After)
			if !ok {
				err = failed(op, store.CodeNotFound, store.RowItem, q.After)
				return
			}
			after = &place
		}
		if c != nil {
			page = c.index.page(after, q, func(it *chat.Item) string { return it.ID })
		}
	})
	driver.ReportVersion(ctx, threadID, version, version)
	return page, err
}

// item returns the item's row, or nil if the item or the conversation is missing.
func (c *conversation) item(id string) *row[itemKey, chat.Item] {
	if c == nil {
		return nil
	}
	return c.items[id]
}

// place returns the place of an item that is, or was, in the conversation.
func (c *conversation) place(id string) (_ itemKey, ok bool) {
	if c == nil {
		return itemKey{}, false
	}
	if r := c.items[id]; r != nil {
		return r.key, true
	}
	k, ok := c.gone[id]
	return k, ok
}

// AddThreadItem inserts the item. An existing id is [store.ErrConflict], a missing thread [store.ErrNotFound].
func (s *Store) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpAddThreadItem, threadID, item)
}

// SaveItem inserts or replaces the item. A missing thread is [store.ErrNotFound].
func (s *Store) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpSaveItem, threadID, item)
}

func (s *Store) putItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	item, mode := w.Item, w.Mode
	before, after := s.change(threadID, func(c *conversation, version uint64) (changed bool) {
		if c == nil {
			err = failed(op, store.CodeNotFound, store.RowThread, threadID)
			return false
		}
		if err = w.Condition.Check(op, threadID, version); err != nil {
			return false
		}
		r := c.item(item.ID)
		if code := new(claim).refusal(mode, r != nil, chat.Owner{}); code != store.CodeOK {
			err = failed(op, code, store.RowItem, item.ID)
			return false
		}
		c.put(r, item)
		return true
	})
	driver.ReportVersion(ctx, threadID, before, after)
	return err
}

// put inserts the item, or replaces that of r if r is not nil.
func (c *conversation) put(r *row[itemKey, chat.Item], item chat.Item) {
	at := item.CreatedAt.UnixMicro()
	switch {
	case r == nil:
		c.seq++
		r = &row[itemKey, chat.Item]{itemKey{at, c.seq}, item}
		if c.items == nil {
			c.items = map[string]*row[itemKey, chat.Item]{}
		}
		c.items[strings.Clone(item.ID)] = r // the id may be a part of the item's text, which a save replaces
		delete(c.gone, item.ID)
		c.index.insert(r)
	case r.key.at == at:
		r.val = item
	default:
		c.index.remove(r)
		r.key.at, r.val = at, item
		c.index.insert(r)
	}
}

// change calls f under the thread's lock, with its conversation, or nil if there is none, and its version. If f has changed
// the conversation, the version goes up by one. change returns the versions before and after.
func (s *Store) change(id string, f func(_ *conversation, version uint64) (changed bool)) (before, after uint64) {
	t := s.thread(id)
	if t == nil {
		f(nil, 0)
		return 0, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before = t.version
	if f(t.live, before) {
		t.version++
	}
	return before, t.version
}

// LoadItem returns the item of that thread. A missing one is [store.ErrNotFound].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	const op = store.OpLoadItem
	if err := checks.Item(ctx, op, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	var item chat.Item
	found := false
	version := s.read(threadID, func(c *conversation) {
		if r := c.item(itemID); r != nil {
			item, found = r.val, true
		}
	})
	driver.ReportVersion(ctx, threadID, version, version)
	if !found {
		return chat.Item{}, failed(op, store.CodeNotFound, store.RowItem, itemID)
	}
	return item, nil
}

// DeleteThreadItem deletes the item, if there is one.
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	const op = store.OpDeleteThreadItem
	cond, err := checks.DeleteItem(ctx, threadID, itemID)
	if err != nil {
		return err
	}
	before, after := s.change(threadID, func(c *conversation, version uint64) (changed bool) {
		if c == nil {
			return false
		}
		if err = cond.Check(op, threadID, version); err != nil {
			return false
		}
		r := c.item(itemID)
		if r == nil {
			return false
		}
		c.index.remove(r)
		delete(c.items, itemID)
		if c.gone == nil {
			c.gone = map[string]itemKey{}
		}
		c.gone[strings.Clone(itemID)] = r.key
		return true
	})
	driver.ReportVersion(ctx, threadID, before, after)
	return err
}
