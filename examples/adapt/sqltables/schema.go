package sqltables

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// schema is what the adapter adds. The old tables stay as they are. They have numeric keys, and old code uses them:
//
//	conversations (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id, title, created_at)
//	messages      (id INTEGER PRIMARY KEY AUTOINCREMENT, conversation_id, role, body, created_at)
//
// A side table has what chatstore needs beside them: the caller's id, the JSON text, the time in microseconds. Its key is the
// numeric key of the old row. AUTOINCREMENT never gives a key twice. So an item's key is also its place among items of equal
// times. Threads of equal times are in the order of their ids, which the database must compare as bytes.
const schema = `
CREATE TABLE IF NOT EXISTS chat_threads (
	id      TEXT    NOT NULL PRIMARY KEY,
	key     BIGINT  UNIQUE,   -- of the row in conversations; NULL once that is deleted
	tenant  TEXT    NOT NULL, -- id, owner and version stay behind
	subject TEXT    NOT NULL, -- and so does at, where a page may go on
	version BIGINT  NOT NULL,
	at      BIGINT  NOT NULL, -- CreatedAt, in microseconds since 1970
	doc     TEXT    NOT NULL
);
CREATE INDEX IF NOT EXISTS chat_threads_by_owner ON chat_threads (tenant, subject, at, id) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS chat_threads_by_tenant ON chat_threads (tenant, at, id) WHERE key IS NOT NULL AND subject <> '';
CREATE INDEX IF NOT EXISTS chat_threads_by_time ON chat_threads (at, id) WHERE key IS NOT NULL;

CREATE TABLE IF NOT EXISTS chat_items (
	thread_id TEXT    NOT NULL,
	id        TEXT    NOT NULL,
	key       BIGINT  NOT NULL UNIQUE, -- of the row in messages
	at        BIGINT  NOT NULL,
	doc       TEXT    NOT NULL,
	PRIMARY KEY (thread_id, id)
);
CREATE INDEX IF NOT EXISTS chat_items_by_time ON chat_items (thread_id, at, key);

CREATE TABLE IF NOT EXISTS chat_gone ( -- the places of deleted items, for cursors
	thread_id TEXT    NOT NULL,
	id        TEXT    NOT NULL,
	key       BIGINT  NOT NULL,
	at        BIGINT  NOT NULL,
	PRIMARY KEY (thread_id, id)
);

CREATE TABLE IF NOT EXISTS chat_attachments (
	id      TEXT    NOT NULL PRIMARY KEY,
	tenant  TEXT    NOT NULL,
	subject TEXT    NOT NULL,
	doc     TEXT    NOT NULL -- '' once it is deleted
);

-- A row that old code deletes is gone for chatstore too, and counts as a change of the thread.
CREATE TRIGGER IF NOT EXISTS chat_message_deleted AFTER DELETE ON messages BEGIN
	UPDATE chat_threads SET version = version + 1 WHERE id = (SELECT thread_id FROM chat_items WHERE key = OLD.id);
	INSERT OR REPLACE INTO chat_gone SELECT thread_id, id, key, at FROM chat_items WHERE key = OLD.id;
	DELETE FROM chat_items WHERE key = OLD.id;
END;
CREATE TRIGGER IF NOT EXISTS chat_conversation_deleted AFTER DELETE ON conversations BEGIN
	DELETE FROM chat_items WHERE thread_id = (SELECT id FROM chat_threads WHERE key = OLD.id);
	DELETE FROM chat_gone WHERE thread_id = (SELECT id FROM chat_threads WHERE key = OLD.id);
	UPDATE chat_threads SET version = version + 1, key = NULL, doc = '' WHERE key = OLD.id;
END;`

// Migrate adds the side tables to db. It changes nothing if they exist.
func Migrate(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, schema)
	return err
}

// Backfill makes the old rows visible to chatstore. owner says whose the conversations of an old user_id are. It must not
// return the zero Owner: no caller could see those threads.
//
// Backfill inserts rows that no earlier call has inserted, and changes none. Their ids are random: an id made of the numeric
// key could be guessed, and another user could save it first. Run Backfill before the first request, and again for as long
// as old code inserts rows. It runs in one transaction. For large tables, take a part of the rows in each of several.
func Backfill(ctx context.Context, db *sql.DB, owner func(userID string) chat.Owner) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	// A new message is a change of its thread: a cache above then drops its entry.
	err = exec(ctx, tx, `UPDATE chat_threads SET version = version + 1 WHERE key IN
		(SELECT conversation_id FROM messages WHERE id NOT IN (SELECT key FROM chat_items))`)
	if err != nil {
		return err
	}
	err = fill(ctx, tx, insertThread, `SELECT id, user_id, title, created_at FROM conversations
		WHERE id NOT IN (SELECT key FROM chat_threads WHERE key IS NOT NULL)`, func(old *sql.Rows) ([]any, error) {
		var (
			key, seconds  int64
			userID, title string
		)
		if err := old.Scan(&key, &userID, &title, &seconds); err != nil {
			return nil, err
		}
		o := owner(userID)
		if o.IsZero() {
			return nil, fmt.Errorf("sqltables: Backfill: user %q has no owner", userID)
		}
		t := chat.Thread{ID: ids.GenerateThreadID(ctx), Title: title, CreatedAt: time.Unix(seconds, 0), Owner: o}
		t, err := t.Normalized()
		return []any{t.ID, key, o.Tenant, o.Subject, t.CreatedAt.UnixMicro(), t.JSON().String()}, err
	})
	if err != nil {
		return err
	}
	err = fill(ctx, tx, insertItem, `SELECT m.id, t.id, m.role, m.body, m.created_at FROM messages m
		JOIN chat_threads t ON t.key = m.conversation_id
		WHERE m.id NOT IN (SELECT key FROM chat_items)`, func(old *sql.Rows) ([]any, error) {
		var (
			key, seconds         int64
			threadID, role, text string
		)
		if err := old.Scan(&key, &threadID, &role, &text, &seconds); err != nil {
			return nil, err
		}
		var body chat.Body = chat.AssistantMessage{Content: []chat.AssistantContent{{Text: text}}}
		if role == roleUser {
			body = chat.UserMessage{Content: []chat.UserContent{{Text: text}}}
		}
		it, err := chat.NewItem(ids.GenerateItemID(ctx, chat.KindMessage, chat.Thread{}), time.Unix(seconds, 0), body)
		if err == nil {
			it, err = it.Normalized(threadID)
		}
		return []any{threadID, it.ID, key, it.CreatedAt.UnixMicro(), it.JSON().String()}, err
	})
	if err != nil {
		return err
	}
	return tx.Commit()
}

var ids store.LongIDs

// fill inserts a row for each row of query. It first reads them all: in many databases, a connection cannot do both at once.
func fill(ctx context.Context, tx *sql.Tx, insert, query string, convert func(old *sql.Rows) (args []any, err error)) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	var all [][]any
	for rows.Next() {
		args, err := convert(rows)
		if err != nil {
			return err
		}
		all = append(all, args)
	}
	err = rows.Err()
	for _, args := range all {
		if err == nil {
			err = exec(ctx, tx, insert, args...)
		}
	}
	return err
}

const roleUser, roleAssistant = "user", "assistant"

// oldForm returns what old code reads of an item. Types that it does not know have no text.
func oldForm(it chat.Item) (role, text string) {
	if m, ok, err := chat.DecodeItem[chat.UserMessage](it); ok && err == nil {
		for _, c := range m.Content {
			text += c.Text
		}
		return roleUser, text
	}
	if m, ok, err := chat.DecodeItem[chat.AssistantMessage](it); ok && err == nil {
		for _, c := range m.Content {
			text += c.Text
		}
	}
	return roleAssistant, text
}
