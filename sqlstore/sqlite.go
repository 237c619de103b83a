package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
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
func OpenSQLite(ctx context.Context, path string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := newSQLite(path, cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e)
}

type sqliteEngine struct {
	read, write *sql.DB
	anchor      *sql.Conn // keeps a database in memory alive; nil for a file
}

// busyTimeout is short: beyond it, the call waits, where its context can end it.
const busyTimeout = 20 * time.Millisecond

func newSQLite(path string, cfg config) (*sqliteEngine, error) {
	if path == "" {
		return nil, invalid("path: empty")
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
		e := &sqliteEngine{read: db, write: db}
		anchor, err := sql.Open("sqlite", name)
		if err == nil {
			e.anchor, err = anchor.Conn(context.Background())
		}
		return e, err
	}
	file := "file:" + (&url.URL{Path: path}).EscapedPath()
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

func (e *sqliteEngine) name() string                           { return "sqlite" }
func (e *sqliteEngine) reader() *sql.DB                        { return e.read }
func (e *sqliteEngine) writer() *sql.DB                        { return e.write }
func (e *sqliteEngine) prepare(context.Context, *sql.Tx) error { return nil }
func (e *sqliteEngine) longestWrite() time.Duration            { return 0 } // it never outlives its call

func (e *sqliteEngine) statements(cfg config) statements {
	return statementsFor(
		func(table string) string { return `"` + cfg.prefix + table + `"` },
		func(text string) string { return strings.ReplaceAll(text, "$", "?") },
	)
}

func (e *sqliteEngine) ping(ctx context.Context) error { return e.write.PingContext(ctx) }

func (e *sqliteEngine) close() error {
	err := e.write.Close()
	if e.read != e.write {
		err = errors.Join(err, e.read.Close())
	}
	if e.anchor != nil {
		err = errors.Join(err, e.anchor.Close())
	}
	return err
}

// classify knows SQLite's result codes (sqlite.org/rescode.html). A COMMIT that fails leaves the transaction open, to be rolled
// back; but of one that met a failing disk nobody can say.
func (e *sqliteEngine) classify(err error) verdict {
	se, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return verdict{code: other(err)}
	}
	switch code := se.Code(); code & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return verdict{code: store.CodeUnavailable, retry: true, settled: true}
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM:
		return verdict{code: store.CodeUnavailable, settled: true}
	case sqlite3.SQLITE_IOERR:
		return verdict{code: store.CodeUnavailable}
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

// other classifies what is no error of the database.
func other(err error) store.Code {
	if errors.Is(err, sql.ErrConnDone) || strings.Contains(err.Error(), "sql: database is closed") {
		return store.CodeUnavailable
	}
	return store.CodeOf(err)
}
