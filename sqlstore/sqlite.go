package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/chatstore/chatstore/store"
)

// OpenSQLite opens the database file at path and creates it if it is missing. The path ":memory:" opens a database in memory
// that ends with the Store. Several Stores and programs on one machine may open the same file.
//
// The file is in WAL mode: readers never wait, and writers wait only for each other. [WithDurability] says what an
// acknowledged write survives.
//
// No other code in the program may open the file, not even to copy it: closing it would release SQLite's POSIX locks. On
// Linux, OpenSQLite switches the driver (modernc.org/sqlite) to locks without this fault (sqlite.OFDLocking). It does so for
// the whole program, and only if no database file is open yet. For backups, use SQLite's own tools (VACUUM INTO, sqlite3
// .backup): a copy of the file alone lacks the contents of the WAL.
func OpenSQLite(ctx context.Context, path string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := newSQLite(path, cfg)
	if _, ok := errors.AsType[*store.Error](err); err != nil && !ok {
		err = &store.Error{Code: store.CodeUnavailable, Field: cannotOpen, Cause: err}
	}
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e)
}

type sqliteEngine struct {
	path          string
	file          os.FileInfo // of path when it was opened; nil in memory
	reads, writes *sql.DB
	anchor        *sql.DB // keeps a database in memory alive by its connection; nil for a file
}

// busyTimeout is short, so that longer waits happen in try, where the caller's context can end them.
const busyTimeout = 20 * time.Millisecond

func newSQLite(path string, cfg config) (*sqliteEngine, error) {
	switch {
	case path == "":
		return nil, invalid("path: empty")
	case strings.HasPrefix(path, "file:"):
		return nil, invalid("path: begins with file: (give a path, not a URI; settings are options)")
	case strings.ContainsRune(path, 0):
		return nil, invalid("path: has a zero byte")
	}
	if cfg.schema != "" {
		return nil, invalid("WithSchema: SQLite has no schemas")
	}
	synchronous := "FULL"
	if cfg.durability == SurvivesKill {
		synchronous = "NORMAL"
	}
	settings := func(query url.Values) string {
		query.Set("_busy_timeout", fmt.Sprint(busyTimeout.Milliseconds()))
		query.Set("_foreign_keys", "on")
		query.Set("_synchronous", synchronous)
		query.Set("_txlock", "immediate")
		return "?" + query.Encode()
	}
	if path == ":memory:" {
		name := "file:/chatstore-" + rand.Text() + settings(url.Values{"vfs": {"memdb"}})
		db, err := sql.Open("sqlite", name)
		if err != nil {
			return nil, err
		}
		db.SetMaxOpenConns(1)
		anchor, err := sql.Open("sqlite", name)
		if err == nil {
			err = anchor.Ping() // its connection stays open
		}
		e := &sqliteEngine{reads: db, writes: db, anchor: anchor}
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		return e, nil
	}
	// A POSIX lock is lost when any code in the process opens and closes the file, for example to copy it. Locks of open
	// files (OFD) are not. If OFD locks are unavailable, or a file is open already, the driver's locks stay as they are.
	_, _ = sqlite.OFDLocking(true)
	path, err := filepath.Abs(path) // later connections must not depend on the working directory
	if err != nil {
		return nil, err
	}
	file := "file:" + (&url.URL{Path: "/" + strings.TrimPrefix(filepath.ToSlash(path), "/")}).EscapedPath()
	write, err := sql.Open("sqlite", file+settings(url.Values{"_journal_mode": {"WAL"}}))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", file+settings(url.Values{"_query_only": {"on"}}))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(cfg.maxConns)
	read.SetMaxIdleConns(cfg.maxConns) // idle connections are cheap, and opening one reads the schema
	return &sqliteEngine{path: path, reads: read, writes: write}, nil
}

func (e *sqliteEngine) name() string     { return "sqlite" }
func (e *sqliteEngine) stats() poolStats { return poolStats{} }
func (e *sqliteEngine) epoch() string    { return "x" }

type sqlAsker interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
}

func ask(ctx context.Context, db sqlAsker, st step) error {
	rows, err := db.QueryContext(ctx, st.text, st.args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if st.row != nil {
			if err := st.row(rows.Scan); err != nil {
				return err
			}
		}
	}
	return rows.Err()
}

func (e *sqliteEngine) read(ctx context.Context, st step) error { return ask(ctx, e.reads, st) }

type sqliteTx struct{ *sql.Tx }

func (t sqliteTx) run(ctx context.Context, steps ...step) error {
	for _, st := range steps {
		if err := ask(ctx, t.Tx, st); err != nil {
			return err
		}
	}
	return nil
}

func (t sqliteTx) exec(ctx context.Context, text string) error {
	_, err := t.ExecContext(ctx, text)
	return err
}

func (e *sqliteEngine) write(ctx context.Context, f func(context.Context, tx) error) (bool, error) {
	tx, err := e.writes.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return true, err
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(ctx, sqliteTx{tx}); err != nil {
		return true, err
	}
	if err := ctx.Err(); err != nil {
		return true, err
	}
	if err := tx.Commit(); err != nil {
		return e.classify(err).settled, err
	}
	return true, nil
}

func (e *sqliteEngine) alter(ctx context.Context, f func(context.Context, script) error) error {
	_, err := e.write(ctx, func(ctx context.Context, tx tx) error { return f(ctx, tx.(script)) })
	return err
}

// notify does nothing: SQLite does not announce changes.
func (e *sqliteEngine) notify(context.Context, bool) error { return nil }

func (e *sqliteEngine) longestWrite() time.Duration { return 0 } // a write never outlives its call

func (e *sqliteEngine) statements(cfg config) statements {
	return statementsFor(dialect{
		table: func(table string) string { return `"` + cfg.prefix + table + `"` },
		param: func(text string) string { return strings.ReplaceAll(text, "$", "?") },
		ids:   "(SELECT value FROM json_each($1))", self: "''",
	})
}

// suits refuses a file that cannot be in WAL mode. The engine depends on that mode.
func (e *sqliteEngine) suits(ctx context.Context) error {
	var mode string
	err := e.writes.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
	if err == nil && mode != "wal" && e.anchor == nil {
		err = fmt.Errorf("%w: the file cannot be in WAL mode; its journal mode is %s", errUnsuitable, mode)
	}
	if err == nil && e.anchor == nil {
		e.file, err = os.Stat(e.path)
	}
	return err
}

// healthy fails if the file cannot be read, is gone, or was truncated. It does not try to write.
func (e *sqliteEngine) healthy(ctx context.Context) error {
	if e.file != nil {
		if err := e.whole(ctx); err != nil {
			return fmt.Errorf("sqlstore: %w", err)
		}
	}
	var n int64
	return e.reads.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&n)
}

// looks is how often a file must look truncated, without growing, before it counts as truncated. A checkpoint writes the new
// number of pages before the pages.
const looks = 20

// whole fails unless path leads to the open file and the file has all of its pages. SQLite itself does not notice: it answers
// from its page cache, and goes on writing to a file without a name.
func (e *sqliteEngine) whole(ctx context.Context) error {
	var before int64
	for n := 0; n < looks; n++ {
		now, err := os.Stat(e.path)
		if err != nil {
			return err
		}
		if !os.SameFile(e.file, now) {
			return errors.New("another file was put in the place of the database")
		}
		least, err := e.leastSize()
		if err != nil || now.Size() >= least {
			return err
		}
		if now.Size() > before {
			before, n = now.Size(), 0
		}
		select {
		case <-time.After(busyTimeout):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the database file was truncated")
}

// leastSize returns how large the file must be, by its header (sqlite.org/fileformat.html, 1.3): as many pages as there were at
// the last checkpoint.
func (e *sqliteEngine) leastSize() (int64, error) {
	const least = 512                // of any database
	if !sqlite.OFDLockingEnabled() { // closing the file would release the locks
		return least, nil
	}
	f, err := os.Open(e.path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	var head [100]byte
	if _, err := f.ReadAt(head[:], 0); errors.Is(err, io.EOF) {
		return least, nil
	} else if err != nil {
		return 0, err
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = 1 << 16
	}
	if !bytes.Equal(head[24:28], head[92:96]) { // written by an old SQLite, which kept no number of pages
		return least, nil
	}
	return page * int64(binary.BigEndian.Uint32(head[28:])), nil
}

func (e *sqliteEngine) close() error {
	var err error
	for _, db := range []*sql.DB{e.writes, e.reads, e.anchor} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// classify maps SQLite's result codes (sqlite.org/rescode.html). A failed COMMIT leaves the transaction open and is rolled
// back. After a disk error, the outcome of a COMMIT is unknown.
func (e *sqliteEngine) classify(err error) verdict {
	se, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return verdict{code: store.CodeOf(err)}
	}
	switch code := se.Code(); code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return verdict{code: store.CodeUnavailable, retry: true, settled: true}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM:
		return verdict{code: store.CodeUnavailable, settled: true}
	case sqlite3.SQLITE_IOERR:
		return verdict{code: store.CodeUnavailable}
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return verdict{code: store.CodeInternal}
	case sqlite3.SQLITE_INTERRUPT:
		return verdict{code: store.CodeCanceled, settled: true}
	case sqlite3.SQLITE_CONSTRAINT:
		switch code {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			return verdict{code: store.CodeConflict, settled: true}
		case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
			return verdict{code: store.CodeNotFound, settled: true}
		}
	}
	return verdict{code: store.CodeInternal, settled: true}
}

// raced reports whether another program created a table at the same time. SQLite has no error code of its own for that.
func (e *sqliteEngine) raced(err error) bool {
	se, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return true
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_CONSTRAINT:
		return true
	}
	return e.classify(err).retry
}
