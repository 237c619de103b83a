package sqltables

import (
	"context"
	"database/sql"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// LoadThreadItems is the method of [store.ItemStore].
func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (p store.Page[chat.Item], err error) {
	c := call{store.OpLoadThreadItems, store.RowThread, threadID}
	q, err = checks.Items(ctx, threadID, q)
	if err != nil {
		return p, err
	}
	l := listing{table: "chat_items", gone: "chat_gone", columns: "id, doc, '', ''", place: "key",
		where: `thread_id = ?`, args: []any{threadID}}
	err = s.onThread(ctx, c, threadID, func(tx *sql.Tx, _ threadRow) (err error) {
		c.kind = store.RowItem
		p, err = page(ctx, tx, c, l, q, parseItem)
		return err
	})
	return p, err
}

func parseItem(c call, r row) (chat.Item, error) {
	if !r.live() {
		return chat.Item{}, c.error(store.CodeNotFound, nil)
	}
	it, err := chat.ParseItem(r.doc)
	if err != nil {
		return chat.Item{}, c.error(store.CodeInternal, err)
	}
	return it, nil
}

// loadItem returns a row of chat_items, and the key of the row in messages.
func loadItem(ctx context.Context, tx *sql.Tx, threadID, itemID string) (r row, key int64, err error) {
	found := tx.QueryRowContext(ctx, `SELECT id, doc, key FROM chat_items WHERE thread_id = ? AND id = ?`, threadID, itemID)
	err = maybe(found, &r.id, &r.doc, &key)
	return r, key, err
}

// AddThreadItem is the method of [store.ItemStore].
func (s *Store) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpAddThreadItem, threadID, item)
}

// SaveItem is the method of [store.ItemStore].
func (s *Store) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.putItem(ctx, store.OpSaveItem, threadID, item)
}

const insertItem = `INSERT INTO chat_items (thread_id, id, key, at, doc) VALUES (?, ?, ?, ?, ?)`

// upsertItem keeps the key of a replaced row, and so its place.
const upsertItem = insertItem + ` ON CONFLICT (thread_id, id) DO UPDATE SET at = excluded.at, doc = excluded.doc`

func (s *Store) putItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	c := call{op, store.RowItem, item.ID}
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	item = w.Item
	return s.onThread(ctx, c, threadID, func(tx *sql.Tx, t threadRow) error {
		if !t.live() {
			return call{op, store.RowThread, threadID}.error(store.CodeNotFound, nil)
		}
		if err := w.Condition.Check(op, threadID, t.version); err != nil {
			return err
		}
		old, key, err := loadItem(ctx, tx, threadID, item.ID)
		if err == nil {
			err = refusal(c, w.Mode, old, chat.Owner{})
		}
		if err != nil {
			return err
		}
		role, text := oldForm(item)
		if old.live() {
			err = exec(ctx, tx, `UPDATE messages SET role = ?, body = ?, created_at = ? WHERE id = ?`,
				role, text, item.CreatedAt.Unix(), key)
		} else {
			err = tx.QueryRowContext(ctx, `INSERT INTO messages (conversation_id, role, body, created_at)
				VALUES (?, ?, ?, ?) RETURNING id`, t.key, role, text, item.CreatedAt.Unix()).Scan(&key)
		}
		if err == nil {
			err = exec(ctx, tx, upsertItem, threadID, item.ID, key, item.CreatedAt.UnixMicro(), item.JSON().String())
		}
		if err == nil {
			err = exec(ctx, tx, `UPDATE chat_threads SET version = version + 1 WHERE id = ?`, threadID)
		}
		return err
	})
}

// LoadItem is the method of [store.ItemStore].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (it chat.Item, err error) {
	c := call{store.OpLoadItem, store.RowItem, itemID}
	if err := checks.Item(ctx, c.op, threadID, itemID); err != nil {
		return it, err
	}
	err = s.onThread(ctx, c, threadID, func(tx *sql.Tx, _ threadRow) error {
		r, _, err := loadItem(ctx, tx, threadID, itemID)
		if err == nil {
			it, err = parseItem(c, r)
		}
		return err
	})
	return it, err
}

// DeleteThreadItem is the method of [store.ItemStore].
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := call{store.OpDeleteThreadItem, store.RowItem, itemID}
	cond, err := checks.DeleteItem(ctx, threadID, itemID)
	if err != nil {
		return err
	}
	return s.onThread(ctx, c, threadID, func(tx *sql.Tx, t threadRow) error {
		if !t.live() {
			return nil
		}
		if err := cond.Check(c.op, threadID, t.version); err != nil {
			return err
		}
		r, key, err := loadItem(ctx, tx, threadID, itemID)
		if err == nil && r.live() {
			err = exec(ctx, tx, `DELETE FROM messages WHERE id = ?`, key) // The trigger does the rest.
		}
		return err
	})
}
