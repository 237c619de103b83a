package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/chatstore/chatstore/store"
)

// OpenSQLite opens the database in the file at path, which is made if it is not there, or one in memory that ends with the
// Store if path is ":memory:". Several Stores and programs on one machine may open a file.
//
// The file is in WAL mode: readers wait for nobody, writers for one another. What an acknowledged write survives is said by
// [WithDurability].
//
// No other code of the program may open the file, not even to copy it: closing it again would end SQLite's locks. On Linux
// OpenSQLite switches the driver (modernc.org/sqlite) to locks that don't mind (sqlite.OFDLocking), for the whole program, if no
// file was open before. Backups are for SQLite's own tools (VACUUM
// INTO, sqlite3 .backup) anyway: a copy of the file alone misses what is in the WAL.
func OpenSQLite(ctx context.Context, path string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := newSQLite(path, cfg)
	if _, told := errors.AsType[*store.Error](err); err != nil && !told {
		err = &store.Error{Code: store.CodeUnavailable, Field: cannotOpen, Cause: err}
	}
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e)
}

type sqliteEngine struct {
	read, write *sql.DB
	anchor      *sql.DB // has a connection that keeps a database in memory alive; nil for a file
}

// busyTimeout is short: beyond it, the call waits, where its context can end it.
const busyTimeout = 20 * time.Millisecond

func newSQLite(path string, cfg config) (*sqliteEngine, error) {
	switch {
	case path == "":
		return nil, invalid("path: empty")
	case strings.HasPrefix(path, "file:"):
		return nil, invalid("path: begins with file: (it is a path, not a URI; settings are options)")
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
			err = anchor.Ping() // its connection stays, idle
		}
		e := &sqliteEngine{read: db, write: db, anchor: anchor}
		if err != nil {
			return nil, errors.Join(err, e.close())
		}
		return e, nil
	}
	// A lock of POSIX is lost as soon as anybody in the process opens and closes the file, as a backup does; these of Linux are
	// not. Where they cannot be had, or other locks are in use already, all stay with what there is.
	_, _ = sqlite.OFDLocking(true)
	path, err := filepath.Abs(path) // connections are opened later too, when the working directory may be another
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
	read.SetMaxIdleConns(cfg.maxConns) // they cost next to nothing, and opening one reads the schema
	return &sqliteEngine{read: read, write: write}, nil
}

func (e *sqliteEngine) name() string                             { return "sqlite" }
func (e *sqliteEngine) reader() *sql.DB                          { return e.read }
func (e *sqliteEngine) writer() *sql.DB                          { return e.write }
func (e *sqliteEngine) keepsStatements() bool                    { return false }
func (e *sqliteEngine) introduce(context.Context, *sql.Tx) error { return nil }

// notify has nothing to do: SQLite tells nobody.
func (e *sqliteEngine) notify(context.Context, bool) error { return nil }

func (e *sqliteEngine) longestWrite() time.Duration { return 0 } // it never outlives its call

func (e *sqliteEngine) statements(cfg config) statements {
	return statementsFor(
		func(table string) string { return `"` + cfg.prefix + table + `"` },
		func(text string) string { return strings.ReplaceAll(text, "$", "?") },
	)
}

// suits refuses a file where WAL mode, which all of this depends on, cannot be had.
func (e *sqliteEngine) suits(ctx context.Context) error {
	var mode string
	err := e.write.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode)
	if err == nil && mode != "wal" && e.anchor == nil {
		err = fmt.Errorf("%w: SQLite cannot have it in WAL mode, but %s", errUnsuitable, mode)
	}
	return err
}

// healthy finds a file that cannot be read. That it cannot be written to, writing finds out.
func (e *sqliteEngine) healthy(ctx context.Context) error {
	var n int64
	return e.read.QueryRowContext(ctx, "PRAGMA schema_version").Scan(&n)
}

func (e *sqliteEngine) close() error {
	var err error
	for _, db := range []*sql.DB{e.write, e.read, e.anchor} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// classify knows SQLite's result codes (sqlite.org/rescode.html). A COMMIT that fails leaves the transaction open, to be rolled
// back; but of one that met a failing disk nobody can say.
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

// raced: another made a table in the meantime, which is an error like any other in a statement.
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
