package documents

import (
	"context"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// find returns the index of an item, which may be deleted, or -1.
func (d *threadDoc) find(itemID string) int {
	return slices.IndexFunc(d.Items, func(r row) bool { return r.ID == itemID })
}

// LoadThreadItems is the method of [store.ItemStore].
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	c := call{store.OpLoadThreadItems, store.RowThread, threadID}
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	d, err := s.thread(ctx, c, threadID)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	c.kind = store.RowItem
	return page(c, d.Items, q, parseItem)
}

func parseItem(c call, r row) (chat.Item, error) {
	if !r.live() {
		return chat.Item{}, c.error(store.CodeNotFound, nil)
	}
	it, err := chat.ParseItem(r.JSON)
	if err != nil {
		return chat.Item{}, c.error(store.CodeInternal, err)
	}
	return it, nil
}

// AddThreadItem is the method of [store.ItemStore].
func (s *Store) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpAddThreadItem, threadID, item)
}

// SaveItem is the method of [store.ItemStore].
func (s *Store) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpSaveItem, threadID, item)
}

func (s *Store) putItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	c := call{op, store.RowItem, item.ID}
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	item = w.Item
	return s.changeThread(ctx, c, threadID, func(d *threadDoc) error {
		if !d.Thread.live() {
			return call{op, store.RowThread, threadID}.error(store.CodeNotFound, nil)
		}
		if err := w.Condition.Check(op, threadID, d.Version); err != nil {
			return err
		}
		var old row
		i := d.find(item.ID)
		if i >= 0 {
			old = d.Items[i]
		}
		r, err := save(c, w.Mode, old, row{ID: item.ID, At: item.CreatedAt, JSON: item.JSON().String()})
		if err != nil {
			return err
		}
		if !old.live() { // A replaced item keeps its place.
			d.Places++
			r.Place = d.Places
		}
		if i >= 0 {
			d.Items[i] = r
		} else {
			d.Items = append(d.Items, r)
		}
		slices.SortFunc(d.Items, inOrder)
		return nil
	})
}

// LoadItem is the method of [store.ItemStore].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	c := call{store.OpLoadItem, store.RowItem, itemID}
	if err := checks.Item(ctx, c.op, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	d, err := s.thread(ctx, c, threadID)
	if err != nil {
		return chat.Item{}, err
	}
	i := d.find(itemID)
	if i < 0 {
		return chat.Item{}, c.error(store.CodeNotFound, nil)
	}
	return parseItem(c, d.Items[i])
}

// DeleteThreadItem is the method of [store.ItemStore].
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := call{store.OpDeleteThreadItem, store.RowItem, itemID}
	cond, err := checks.DeleteItem(ctx, threadID, itemID)
	if err != nil {
		return err
	}
	return s.changeThread(ctx, c, threadID, func(d *threadDoc) error {
		if !d.Thread.live() {
			return errUnchanged
		}
		if err := cond.Check(c.op, threadID, d.Version); err != nil {
			return err
		}
		i := d.find(itemID)
		if i < 0 || !d.Items[i].live() {
			return errUnchanged
		}
		d.Items[i].JSON = ""
		return nil
	})
}
