// Package sqltables puts a store.Store over tables that an application already has. It keeps the numeric keys inside, puts
// ids, owners, JSON and versions into side tables, and fills those in for old rows.
//
// Old code may go on reading the tables, inserting rows and deleting rows. chatstore does not see what old code changes
// within a row.
//
// The code reads and then writes in one transaction. In SQLite, such transactions run one after the other. In another database,
// use the isolation level SERIALIZABLE, and repeat a transaction that the database refuses. To lock the thread's row is not
// enough: a new thread has none. docs/adapt.md says which statements to change.
package sqltables

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// Store keeps threads in conversations, items in messages, and the rest in the side tables of [Migrate]. A new conversation's
// user_id is its owner's Subject. With several tenants, change that: old code must be able to tell their users apart.
type Store struct {
	store.DefaultIDs
	db *sql.DB
}

var (
	_ store.Store         = (*Store)(nil)
	_ driver.WriteBounder = (*Store)(nil)
)

// New returns a Store over db, which stays the caller's to close. db must begin transactions as writers (_txlock=immediate).
func New(db *sql.DB) *Store { return &Store{db: db} }

// LongestWrite returns 0: SQLite commits within the call or never.
func (s *Store) LongestWrite() time.Duration { return 0 }

// call names a call, for its errors.
type call struct {
	op       store.Op
	kind, id string
}

func (c call) error(code store.Code, cause error) error {
	return &store.Error{Op: c.op, Kind: c.kind, ID: c.id, Code: code, Cause: cause}
}

// transact runs f in a transaction. An error of f rolls it back. A *store.Error is the answer of the contract. Any other comes
// from the database, before COMMIT: the write was not applied.
func (s *Store) transact(ctx context.Context, c call, f func(tx *sql.Tx) error) error {
	// The caller's context ends BEGIN and the statements of f. It must not end COMMIT: the outcome would be unknown.
	inner, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	begun := context.AfterFunc(ctx, abort)
	tx, err := s.db.BeginTx(inner, &sql.TxOptions{ReadOnly: !c.op.IsWrite()})
	begun()
	if err == nil {
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		err = f(tx)
	}
	if _, answered := errors.AsType[*store.Error](err); answered {
		return err
	}
	if err != nil {
		if done := driver.Done(ctx, c.op, c.kind, c.id); done != nil {
			return done
		}
		return c.error(store.CodeUnavailable, errors.Join(store.ErrNotApplied, err))
	}
	if err := tx.Commit(); err != nil && c.op.IsWrite() {
		return c.error(store.CodeUnavailable, err) // The outcome is unknown.
	}
	return nil
}

// onThread runs f in a transaction with the thread's row, and reports the thread's versions before and after it.
func (s *Store) onThread(ctx context.Context, c call, threadID string, f func(tx *sql.Tx, t threadRow) error) error {
	var before, after threadRow
	err := s.transact(ctx, c, func(tx *sql.Tx) (err error) {
		if before, err = loadThread(ctx, tx, threadID); err != nil {
			return err
		}
		if err = f(tx, before); err == nil {
			after, err = loadThread(ctx, tx, threadID)
		}
		return err
	})
	if err == nil {
		driver.ReportVersion(ctx, threadID, before.version, after.version)
	}
	return err
}

// row is a row of a side table.
type row struct {
	id    string // "": the id was never used
	doc   string // "": the row is deleted
	owner chat.Owner
}

func (r row) live() bool { return r.doc != "" }

// threadRow is a row of chat_threads.
type threadRow struct {
	row
	key     int64 // of the row in conversations
	version uint64
}

func loadThread(ctx context.Context, tx *sql.Tx, threadID string) (t threadRow, err error) {
	r := tx.QueryRowContext(ctx, `SELECT id, doc, tenant, subject, COALESCE(key, 0), version FROM chat_threads WHERE id = ?`, threadID)
	err = maybe(r, &t.id, &t.doc, &t.owner.Tenant, &t.owner.Subject, &t.key, &t.version)
	return t, err
}

// maybe scans a row if there is one.
func maybe(r *sql.Row, into ...any) error {
	err := r.Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

func exec(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	_, err := tx.ExecContext(ctx, statement, args...)
	return err
}

// refusal returns the contract's error for a save over the row old, or nil. The first save sets the owner, for good.
func refusal(c call, mode store.SaveMode, old row, owner chat.Owner) error {
	switch {
	case mode == store.InsertOnly && old.live():
		return c.error(store.CodeConflict, nil)
	case mode == store.UpdateOnly && !old.live():
		return c.error(store.CodeNotFound, nil)
	case old.id != "" && !owner.IsZero() && owner != old.owner:
		return c.error(store.CodeConflict, nil)
	}
	return nil
}

var checks = driver.Checks{Versions: true}

// LoadThread is the method of [store.ThreadStore].
func (s *Store) LoadThread(ctx context.Context, threadID string) (thread chat.Thread, err error) {
	c := call{store.OpLoadThread, store.RowThread, threadID}
	if err := checks.Thread(ctx, c.op, threadID); err != nil {
		return chat.Thread{}, err
	}
	err = s.onThread(ctx, c, threadID, func(_ *sql.Tx, t threadRow) (err error) {
		thread, err = parseThread(c, t.row)
		return err
	})
	return thread, err
}

func parseThread(c call, r row) (chat.Thread, error) {
	if !r.live() {
		return chat.Thread{}, c.error(store.CodeNotFound, nil)
	}
	t, err := chat.ParseThread(r.doc)
	if err != nil {
		return chat.Thread{}, c.error(store.CodeInternal, err)
	}
	t.Owner = r.owner // The JSON has no owner.
	return t, nil
}

const insertThread = `INSERT INTO chat_threads (id, key, tenant, subject, at, doc, version) VALUES (?, ?, ?, ?, ?, ?, 1)`

// upsertThread does not touch an existing owner.
const upsertThread = insertThread + ` ON CONFLICT (id) DO UPDATE
	SET key = excluded.key, at = excluded.at, doc = excluded.doc, version = chat_threads.version + 1`

// SaveThread is the method of [store.ThreadStore].
func (s *Store) SaveThread(ctx context.Context, thread chat.Thread) error {
	c := call{store.OpSaveThread, store.RowThread, thread.ID}
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	thread = w.Thread
	return s.onThread(ctx, c, thread.ID, func(tx *sql.Tx, t threadRow) error {
		if err := w.Condition.Check(c.op, thread.ID, t.version); err != nil {
			return err
		}
		if err := refusal(c, w.Mode, t.row, thread.Owner); err != nil {
			return err
		}
		owner, key, seconds := thread.Owner, t.key, thread.CreatedAt.Unix()
		if t.id != "" {
			owner = t.owner
		}
		if t.live() {
			err = exec(ctx, tx, `UPDATE conversations SET title = ?, created_at = ? WHERE id = ?`, thread.Title, seconds, key)
		} else {
			err = tx.QueryRowContext(ctx, `INSERT INTO conversations (user_id, title, created_at) VALUES (?, ?, ?) RETURNING id`,
				owner.Subject, thread.Title, seconds).Scan(&key)
		}
		if err != nil {
			return err
		}
		return exec(ctx, tx, upsertThread, thread.ID, key, owner.Tenant, owner.Subject,
			thread.CreatedAt.UnixMicro(), thread.JSON().String())
	})
}

// DeleteThread is the method of [store.ThreadStore].
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	c := call{store.OpDeleteThread, store.RowThread, threadID}
	cond, err := checks.DeleteThread(ctx, threadID)
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
		// The items go first: the trigger of the messages then finds none, and the version goes up by one only.
		err := exec(ctx, tx, `DELETE FROM chat_items WHERE thread_id = ?`, threadID)
		for _, statement := range []string{`DELETE FROM messages WHERE conversation_id = ?`, `DELETE FROM conversations WHERE id = ?`} {
			if err == nil {
				err = exec(ctx, tx, statement, t.key)
			}
		}
		return err
	})
}

// LoadThreads is the method of [store.ThreadStore].
func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (p store.Page[chat.Thread], err error) {
	c := call{op: store.OpLoadThreads, kind: store.RowThread}
	q, err = checks.Threads(ctx, q)
	if err != nil {
		return p, err
	}
	l := listing{table: "chat_threads", gone: "chat_threads", columns: "id, doc, tenant, subject", place: "id", where: `TRUE`}
	if tenant, ok := q.Owner.Tenant(); ok {
		l.where, l.args = `tenant = ? AND subject <> ''`, []any{tenant}
	} else if o, ok := q.Owner.Owner(); ok {
		l.where, l.args = `tenant = ? AND subject = ?`, []any{o.Tenant, o.Subject}
	}
	err = s.transact(ctx, c, func(tx *sql.Tx) (err error) {
		p, err = page(ctx, tx, c, l, q.PageQuery, parseThread)
		return err
	})
	return p, err
}

// listing is the rows of a side table that a page is of, in the order of at and place.
type listing struct {
	table, columns, place string
	gone                  string // the table that has the places of deleted rows
	where                 string
	args                  []any
}

// find returns the place of the row that a cursor names. A deleted row has a place too.
func (l listing) find(ctx context.Context, tx *sql.Tx, id string) (at int64, place any, err error) {
	for _, table := range []string{l.table, l.gone} {
		r := tx.QueryRowContext(ctx, `SELECT at, `+l.place+` FROM `+table+` WHERE `+l.where+` AND id = ?`, append(l.args, id)...)
		if err = r.Scan(&at, &place); !errors.Is(err, sql.ErrNoRows) {
			break
		}
	}
	return at, place, err
}

// page reads a page by an index on the columns of where, at and place. It begins at the place of the row that the cursor
// names: an OFFSET would read all rows before it, and would miss rows when others come or go.
func page[T any](ctx context.Context, tx *sql.Tx, c call, l listing, q store.PageQuery,
	parse func(call, row) (T, error)) (p store.Page[T], err error) {
	order, than := " DESC", " < "
	if q.Order == store.OldestFirst {
		order, than = " ASC", " > "
	}
	if q.After != "" {
		at, place, err := l.find(ctx, tx, q.After)
		if errors.Is(err, sql.ErrNoRows) {
			return p, call{c.op, c.kind, q.After}.error(store.CodeNotFound, nil)
		}
		if err != nil {
			return p, err
		}
		l.where += ` AND (at, ` + l.place + `)` + than + `(?, ?)`
		l.args = append(l.args, at, place)
	}
	rows, err := tx.QueryContext(ctx, `SELECT `+l.columns+` FROM `+l.table+` WHERE key IS NOT NULL AND `+l.where+
		` ORDER BY at`+order+`, `+l.place+order+` LIMIT ?`, append(l.args, q.Limit+1)...)
	if err != nil {
		return p, err
	}
	defer func() { _ = rows.Close() }()
	last := ""
	for rows.Next() {
		if len(p.Data) == q.Limit { // there is one row more
			p.HasMore, p.After = true, last
			break
		}
		var r row
		if err := rows.Scan(&r.id, &r.doc, &r.owner.Tenant, &r.owner.Subject); err != nil {
			return p, err
		}
		v, err := parse(c, r)
		if err != nil {
			return p, err
		}
		p.Data, last = append(p.Data, v), r.id
	}
	return p, rows.Err()
}
