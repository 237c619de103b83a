package sqlstore

import (
	"context"

	"github.com/chatstore/chatstore/store"
)

// LoadThreadItems lists the thread's items.
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
	c := call{store.OpLoadThreadItems, store.KindOfThread, threadID}
	if err := store.CheckID(c.op, c.kind, c.id); err != nil {
		return store.Page[store.Item]{}, err
	}
	q, err := store.NormalizeQuery(c.op, store.KindOfItem, q)
	if err != nil {
		return store.Page[store.Item]{}, err
	}
	if err := store.CheckContext(ctx, c.op, c.kind, c.id); err != nil {
		return store.Page[store.Item]{}, err
	}
	var (
		l       listing[store.Item]
		version uint64
	)
	err = s.read(ctx, c, func(ctx context.Context, db asker) error {
		return l.load(ctx, db, s.sql.itemPages, q, []any{threadID}, func(scan func(...any) error) (r row[store.Item], err error) {
			var doc, id *string
			if err := scan(&version, &doc, &id, &r.at, &r.seq, &l.found); err != nil || id == nil {
				return r, err
			}
			r.id = *id
			if r.val, err = store.ParseItem(*doc); err != nil {
				return r, refused{call{c.op, store.KindOfItem, r.id}.error(store.CodeInternal, err)}
			}
			return r, nil
		})
	})
	if err != nil {
		return store.Page[store.Item]{}, err
	}
	store.ReportVersion(ctx, threadID, version, version)
	return l.page(c, q)
}

// AddThreadItem inserts the item.
func (s *Store) AddThreadItem(ctx context.Context, threadID string, item store.Item) error {
	return s.putItem(ctx, store.OpAddThreadItem, threadID, item)
}

// SaveItem inserts the item or replaces it.
func (s *Store) SaveItem(ctx context.Context, threadID string, item store.Item) error {
	return s.putItem(ctx, store.OpSaveItem, threadID, item)
}

func (s *Store) putItem(ctx context.Context, op store.Op, threadID string, item store.Item) error {
	c := call{op, store.KindOfItem, item.ID}
	item, err := store.NormalizeItem(op, threadID, item)
	if err != nil {
		return err
	}
	mode := store.InsertOnly
	if op == store.OpSaveItem {
		mode = store.SaveModeFrom(ctx)
		if err := store.CheckSaveMode(ctx, c.op, c.kind, c.id); err != nil {
			return err
		}
	}
	if err := store.CheckContext(ctx, c.op, c.kind, c.id); err != nil {
		return err
	}
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
			return refused{call{op, store.KindOfThread, threadID}.error(store.CodeNotFound, nil)}
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
		after = before // the thread's row is rolled back too
		return refused{c.error(code, nil)}
	})
	report(ctx, threadID, before, after, err)
	return err
}

// LoadItem returns the item of that thread, or [store.ErrNotFound].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (store.Item, error) {
	c := call{store.OpLoadItem, store.KindOfItem, itemID}
	if err := store.CheckID(c.op, store.KindOfThread, threadID); err != nil {
		return store.Item{}, err
	}
	if err := check(ctx, c); err != nil {
		return store.Item{}, err
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
		return store.Item{}, err
	}
	store.ReportVersion(ctx, threadID, version, version)
	if doc == nil {
		return store.Item{}, c.error(store.CodeNotFound, nil)
	}
	it, err := store.ParseItem(*doc)
	if err != nil {
		return store.Item{}, c.error(store.CodeInternal, err)
	}
	return it, nil
}

// DeleteThreadItem deletes the item.
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := call{store.OpDeleteThreadItem, store.KindOfItem, itemID}
	if err := store.CheckID(c.op, store.KindOfThread, threadID); err != nil {
		return err
	}
	if err := check(ctx, c); err != nil {
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
