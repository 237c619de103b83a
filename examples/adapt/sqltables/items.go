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
	l := listing{"chat_items", "id, doc", `thread_id = ?`, []any{threadID}}
	err = s.onThread(ctx, c, threadID, func(tx *sql.Tx, _ threadRow) (err error) {
		c.kind = store.RowItem
		p, err = page(ctx, tx, c, l, q, func(scan func(...any) error) (id string, it chat.Item, err error) {
			var doc string
			if err := scan(&id, &doc); err != nil {
				return "", it, err
			}
			it, err = parseItem(c, doc)
			return id, it, err
		})
		return err
	})
	return p, err
}

func parseItem(c call, doc string) (chat.Item, error) {
	it, err := chat.ParseItem(doc)
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

const upsertItem = `INSERT INTO chat_items (thread_id, id, key, at, doc) VALUES (?, ?, ?, ?, ?)
	ON CONFLICT (thread_id, id) DO UPDATE SET at = excluded.at, doc = excluded.doc`

func (s *Store) putItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	c := call{op, store.RowItem, item.ID}
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	item = w.Item
	return s.onThread(ctx, c, threadID, func(tx *sql.Tx, t threadRow) error {
		if !t.key.Valid {
			return call{op, store.RowThread, threadID}.error(store.CodeNotFound, nil)
		}
		key, live, err := itemKey(ctx, tx, threadID, item.ID)
		if err != nil {
			return err
		}
		if code := refusal(w.Mode, live, live, chat.Owner{}, chat.Owner{}); code != store.CodeOK {
			return c.error(code, nil)
		}
		role, text := oldForm(item)
		if live {
			_, err = exec(ctx, tx, `UPDATE messages SET role = ?, body = ?, created_at = ? WHERE id = ?`, role, text, item.CreatedAt.Unix(), key)
		} else {
			key, err = exec(ctx, tx, `INSERT INTO messages (conversation_id, role, body, created_at) VALUES (?, ?, ?, ?)`,
				t.key, role, text, item.CreatedAt.Unix())
		}
		if err == nil {
			_, err = exec(ctx, tx, upsertItem, threadID, item.ID, key, item.CreatedAt.UnixMicro(), item.JSON().String())
		}
		if err == nil {
			_, err = exec(ctx, tx, `UPDATE chat_threads SET version = version + 1 WHERE id = ?`, threadID)
		}
		return err
	})
}

// itemKey returns the numeric key of an item's message.
func itemKey(ctx context.Context, tx *sql.Tx, threadID, itemID string) (key int64, found bool, err error) {
	found, err = one(tx.QueryRowContext(ctx, `SELECT key FROM chat_items WHERE thread_id = ? AND id = ?`, threadID, itemID), &key)
	return key, found, err
}

// LoadItem is the method of [store.ItemStore].
func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (it chat.Item, err error) {
	c := call{store.OpLoadItem, store.RowItem, itemID}
	if err := checks.Item(ctx, c.op, threadID, itemID); err != nil {
		return it, err
	}
	err = s.onThread(ctx, c, threadID, func(tx *sql.Tx, _ threadRow) error {
		var doc string
		found, err := one(tx.QueryRowContext(ctx, `SELECT doc FROM chat_items WHERE thread_id = ? AND id = ?`, threadID, itemID), &doc)
		if err == nil && !found {
			err = c.error(store.CodeNotFound, nil)
		}
		if err == nil {
			it, err = parseItem(c, doc)
		}
		return err
	})
	return it, err
}

// DeleteThreadItem is the method of [store.ItemStore].
func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	c := call{store.OpDeleteThreadItem, store.RowItem, itemID}
	if err := checks.Item(ctx, c.op, threadID, itemID); err != nil {
		return err
	}
	return s.onThread(ctx, c, threadID, func(tx *sql.Tx, _ threadRow) error {
		key, found, err := itemKey(ctx, tx, threadID, itemID)
		if found {
			_, err = exec(ctx, tx, `DELETE FROM messages WHERE id = ?`, key) // The trigger does the rest.
		}
		return err
	})
}
