package sqltables_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/chatstore/chatstore/examples/adapt/internal/outcomes"
	"github.com/chatstore/chatstore/examples/adapt/sqltables"
	"github.com/chatstore/chatstore/store"
)

// connector connects to a file of SQLite. Each step is taken by step.
type connector struct {
	dsn  string
	step outcomes.Step
}

func (c connector) Driver() driver.Driver { return &sqlite.Driver{} }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	made, err := c.Driver().Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return conn{made.(sqliteConn), c.step}, nil
}

type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

type conn struct {
	sqliteConn
	step outcomes.Step
}

func (c conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	began := tx{step: c.step}
	err := c.step("begin", func() (err error) {
		if began.Tx, err = c.sqliteConn.BeginTx(ctx, opts); err != nil {
			began.Tx = nil // not a nil pointer within the interface
		}
		return err
	})
	if err != nil && began.Tx != nil { // the answer is lost: the connection would stay in the transaction
		_ = began.Rollback()
	}
	return began, err
}

func (c conn) ExecContext(ctx context.Context, statement string, args []driver.NamedValue) (r driver.Result, err error) {
	err = c.step(statement, func() (err error) {
		r, err = c.sqliteConn.ExecContext(ctx, statement, args)
		return err
	})
	return r, err
}

func (c conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	found := rows{step: c.step}
	err := c.step(query, func() (err error) {
		if found.Rows, err = c.sqliteConn.QueryContext(ctx, query, args); err != nil {
			found.Rows = nil
		}
		return err
	})
	if err != nil && found.Rows != nil {
		_ = found.Rows.Close()
	}
	return found, err
}

type rows struct {
	driver.Rows
	step outcomes.Step
}

func (r rows) Close() error {
	err := r.Rows.Close()
	return errors.Join(err, r.step("close the rows", func() error { return nil }))
}

type tx struct {
	driver.Tx
	step outcomes.Step
}

func (t tx) Commit() error {
	err := t.step(outcomes.Commit, t.Tx.Commit)
	if err != nil {
		_ = t.Tx.Rollback() // the connection goes back to the pool
	}
	return err
}

func TestOutcomes(t *testing.T) {
	outcomes.Test(t, func(t *testing.T, step outcomes.Step) store.Store {
		return sqltables.New(withTables(t, sql.OpenDB(connector{dsn(t), step})))
	})
}

func TestACancelledCallDoesNotWaitForTheWriterBefore(t *testing.T) {
	db := openDB(t)
	other, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Rollback() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	err = sqltables.New(db).DeleteThread(ctx, "thr_1")
	if store.CodeOf(err) != store.CodeTimeout || !errors.Is(err, store.ErrNotApplied) {
		t.Errorf("got error %v, want a timeout, not applied", err)
	}
	if took := time.Since(begun); took > 5*time.Second { // busy_timeout is 10 s
		t.Errorf("the call took %v after its context had ended", took)
	}
}

func TestARowThatCannotBeParsedIsInternal(t *testing.T) {
	db := openDB(t)
	oldCode(t, db, oldConversation, oldMessage)
	backfill(t, db)
	thread := oldThread(t, db, 1)
	oldCode(t, db, `UPDATE chat_threads SET doc = '{'`, `UPDATE chat_items SET doc = '{'`)
	s := sqltables.New(db)
	_, load := s.LoadThread(t.Context(), thread)
	_, list := s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
	_, items := s.LoadThreadItems(t.Context(), thread, store.PageQuery{})
	for name, err := range map[string]error{"LoadThread": load, "LoadThreads": list, "LoadThreadItems": items} {
		if store.CodeOf(err) != store.CodeInternal {
			t.Errorf("%s: got error %v, want code internal", name, err)
		}
	}
}
