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
	var (
		l       listing[chat.Item]
		version uint64
	)
	err = s.read(ctx, c, func(ctx context.Context, db asker) error {
		return l.load(ctx, db, s.sql.itemPages, q, []any{threadID}, func(scan func(...any) error) (r row[chat.Item], err error) {
			var doc, id *string
			if err := scan(&version, &doc, &id, &r.at, &r.seq, &l.found); err != nil || id == nil {
				return r, err
			}
			r.id = *id
			if r.val, err = chat.ParseItem(*doc); err != nil {
				return r, refused{call{c.op, store.RowItem, r.id}.error(store.CodeInternal, err)}
			}
			return r, nil
		})
	})
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	driver.ReportVersion(ctx, threadID, version, version)
	return l.page(c, q)
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
	item, mode := w.Item, w.Mode
	args := []any{threadID, item.ID, item.CreatedAt.UnixMicro(), item.JSON().String()}
	var before, after uint64
	err = s.write(ctx, c, func(ctx context.Context, tx asker) error {
		var seq int64
		found, err := maybe(tx.QueryRowContext(ctx, s.sql.touchThread, threadID), &after, &seq)
		switch {
		case err != nil:
			return err
		case !found:
			before, err = s.versionOf(ctx, tx, threadID)
			if after = before; err != nil {
				return err
			}
			return refused{call{op, store.RowThread, threadID}.error(store.CodeNotFound, nil)}
		}
		before = after - 1
		text, args, code := s.sql.upsertItem, append(args, seq), store.CodeConflict
		switch mode {
		case store.InsertOnly:
			text = s.sql.insertItem
		case store.UpdateOnly:
			text, args, code = s.sql.updateItem, args[:4], store.CodeNotFound
		}
		if n, err := affected(tx.ExecContext(ctx, text, args...)); n > 0 || err != nil {
			return err
		}
		after = before // the increment in the thread's row is rolled back too
		return refused{c.error(code, nil)}
	})
	report(ctx, threadID, before, after, err)
	return err
}

// LoadItem returns the item of the named thread, or [store.ErrNotFound].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	c := call{store.OpLoadItem, store.RowItem, itemID}
	if err := checks.Item(ctx, c.op, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	var (
		version uint64
		doc     *string
	)
	err := s.read(ctx, c, func(ctx context.Context, db asker) error {
		_, err := maybe(db.QueryRowContext(ctx, s.sql.loadItem, threadID, itemID), &version, &doc)
		return err
	})
	if err != nil {
		return chat.Item{}, err
	}
	driver.ReportVersion(ctx, threadID, version, version)
	if doc == nil {
		return chat.Item{}, c.error(store.CodeNotFound, nil)
	}
	it, err := chat.ParseItem(*doc)
	if err != nil {
		return chat.Item{}, c.error(store.CodeInternal, err)
	}
	return it, nil
}

// DeleteThreadItem deletes the item.
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := call{store.OpDeleteThreadItem, store.RowItem, itemID}
	if _, err := checks.DeleteItem(ctx, threadID, itemID); err != nil {
		return err
	}
	var before, after uint64
	err := s.write(ctx, c, func(ctx context.Context, tx asker) error {
		var seq int64
		found, err := maybe(tx.QueryRowContext(ctx, s.sql.touchThread, threadID), &after, &seq)
		if err != nil {
			return err
		}
		if !found {
			before, err = s.versionOf(ctx, tx, threadID)
			after = before
			return err
		}
		before = after - 1
		n, err := affected(tx.ExecContext(ctx, s.sql.deleteItem, threadID, itemID))
		if n == 0 && err == nil {
			after = before
			return refused{nil}
		}
		return err
	})
	report(ctx, threadID, before, after, err)
	return err
}
