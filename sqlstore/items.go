package sqlstore

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// LoadThreadItems lists the thread's items.
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	return listItems(ctx, s, threadID, q, func(r *row) (chat.Item, error) {
		it, err := chat.ParseItem(r.doc)
		if err != nil {
			return it, call{store.OpLoadThreadItems, store.RowItem, r.id}.error(store.CodeInternal, err)
		}
		return it, nil
	})
}

// listItems reads a page of the thread's items. value returns the value of a row.
func listItems[T any](ctx context.Context, s *Store, threadID string, q store.PageQuery, value func(*row) (T, error)) (store.Page[T], error) {
	c := call{store.OpLoadThreadItems, store.RowThread, threadID}
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[T]{}, err
	}
	var version uint64
	page, err := list(ctx, s, c, s.sql.itemPages, q, []any{threadID}, func(r *row) []any {
		version = 0
		return []any{&version, &r.doc, &r.id, &r.at, &r.place}
	}, value)
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
	write, refusal := itemWrite{alone: s.sql.touchAndUpsert, texts: []string{s.sql.upsertItem}}, store.CodeOK
	switch w.Mode {
	case store.InsertOnly:
		write, refusal = itemWrite{alone: s.sql.touchAndInsert, texts: []string{s.sql.insertItem}}, store.CodeConflict
	case store.UpdateOnly:
		write, refusal = itemWrite{texts: []string{s.sql.updateItem}}, store.CodeNotFound
	}
	write.args = []any{threadID, w.Item.ID, w.Item.CreatedAt.UnixMicro(), w.Item.JSON().String()}
	write.unwritten = func() error { return c.error(refusal, nil) }
	write.missing = func() error { return call{op, store.RowThread, threadID}.error(store.CodeNotFound, nil) }
	return s.changeItem(ctx, c, threadID, w.Condition, write)
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
	return s.changeItem(ctx, c, threadID, cond, itemWrite{
		texts: []string{s.sql.keepPlace, s.sql.deleteItem}, args: []any{threadID, itemID}, unwritten: nothing, missing: nothing,
	})
}

// itemWrite is a write of one item.
type itemWrite struct {
	texts []string // follow touchThread; the last returns a row if it wrote
	alone string   // does all of that, if not ""
	args  []any    // of each text
	// unwritten and missing are the outcomes if nothing is written: because of the item, or as the thread does not exist.
	unwritten, missing func() error
}

func (s *Store) changeItem(ctx context.Context, c call, threadID string, cond driver.Condition, w itemWrite) error {
	var place int64 // of the written item; places begin at 1
	return s.change(ctx, c, change{
		threadID: threadID, cond: cond,
		steps: func(first func(...any) scanner) []step {
			place = 0
			if w.alone != "" {
				return []step{{w.alone, w.args, first(&place)}}
			}
			steps := []step{{s.sql.touchThread, w.args[:1], first()}}
			for _, text := range w.texts {
				steps = append(steps, step{text: text, args: w.args})
			}
			steps[len(steps)-1].row = only(&place)
			return steps
		},
		done: func() error {
			if place == 0 {
				return refused{w.unwritten()}
			}
			return nil
		},
		missed: func(was threadState) error {
			if was.state == live {
				return errMoved
			}
			return refused{w.missing()}
		},
	})
}
