package sqlstore

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// LoadThreadItems lists the thread's items.
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	c := call{store.OpLoadThreadItems, store.RowThread, threadID}
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	var version uint64
	page, err := list(ctx, s, c, s.sql.itemPages, q, []any{threadID}, func(r *row) []any {
		version = 0
		return []any{&version, &r.doc, &r.id, &r.at, &r.place}
	}, func(r *row) (chat.Item, error) {
		it, err := chat.ParseItem(r.doc)
		if err != nil {
			return it, call{c.op, store.RowItem, r.id}.error(store.CodeInternal, err)
		}
		return it, nil
	})
	if code := store.CodeOf(err); code == store.CodeOK || code == store.CodeNotFound {
		driver.ReportVersion(ctx, threadID, version, version)
	}
	return page, err
}

// AddThreadItem inserts the item.
func (s *Store) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpAddThreadItem, threadID, item)
}

// SaveItem inserts the item or replaces it.
func (s *Store) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpSaveItem, threadID, item)
}

func (s *Store) putItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	c := call{op, store.RowItem, item.ID}
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	text, refusal := s.sql.upsertItem, store.CodeOK
	switch w.Mode {
	case store.InsertOnly:
		text, refusal = s.sql.insertItem, store.CodeConflict
	case store.UpdateOnly:
		text, refusal = s.sql.updateItem, store.CodeNotFound
	}
	args := []any{threadID, w.Item.ID, w.Item.CreatedAt.UnixMicro(), w.Item.JSON().String()}
	return s.changeItem(ctx, c, threadID, w.Condition, func() error { return c.error(refusal, nil) },
		func() error { return call{op, store.RowThread, threadID}.error(store.CodeNotFound, nil) }, step{text: text, args: args})
}

// LoadItem returns the item of the named thread, or [store.ErrNotFound].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	c := call{store.OpLoadItem, store.RowItem, itemID}
	if err := checks.Item(ctx, c.op, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	var (
		version uint64
		doc     string
	)
	err := s.read(ctx, c, func() step {
		version, doc = 0, ""
		return step{s.sql.loadItem, []any{threadID, itemID}, only(&version, &doc)}
	})
	if err != nil {
		return chat.Item{}, err
	}
	driver.ReportVersion(ctx, threadID, version, version)
	if doc == "" {
		return chat.Item{}, c.error(store.CodeNotFound, nil)
	}
	it, err := chat.ParseItem(doc)
	if err != nil {
		return chat.Item{}, c.error(store.CodeInternal, err)
	}
	return it, nil
}

// DeleteThreadItem deletes the item. Its place stays for cursors, until the thread is deleted.
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := call{store.OpDeleteThreadItem, store.RowItem, itemID}
	cond, err := checks.DeleteItem(ctx, threadID, itemID)
	if err != nil {
		return err
	}
	nothing := func() error { return nil } // to do
	args := []any{threadID, itemID}
	return s.changeItem(ctx, c, threadID, cond, nothing, nothing,
		step{text: s.sql.keepPlace, args: args}, step{text: s.sql.deleteItem, args: args})
}

// changeItem makes a write of one item. The last step returns a row if it wrote; otherwise the outcome is unwritten. If the
// thread does not exist, it is missing.
func (s *Store) changeItem(ctx context.Context, c call, threadID string, cond driver.Condition, unwritten, missing func() error,
	steps ...step) error {
	var wrote bool
	return s.change(ctx, c, change{
		threadID: threadID, cond: cond,
		steps: func() []step {
			all := append([]step{{text: s.sql.touchThread, args: []any{threadID}}}, steps...)
			all[len(all)-1].row = maybe(&wrote, new(int64))
			return all
		},
		done: func() error {
			if !wrote {
				return refused{unwritten()}
			}
			return nil
		},
		missed: func(was threadState) error {
			if was.state == live {
				return errMoved
			}
			return refused{missing()}
		},
	})
}
