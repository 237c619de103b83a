// Package sqlstore keeps chat conversations in a SQL database: SQLite, embedded in the program, or PostgreSQL.
//
//	s, err := sqlstore.OpenSQLite(ctx, "chat.db")
//	s, err := sqlstore.OpenPostgres(ctx, "postgres://chat@db.internal/chat")
//	defer s.Close()
//
// Both are a complete [store.Store] that passes storetest.Run, report thread versions, and can be wrapped in any decorator.
// Use SQLite on one machine, for any number of programs on it. Use PostgreSQL for programs on several machines. Do not put a
// SQLite file on a network file system.
//
// # What is kept
//
// A value is kept as its JSON text, byte for byte, beside the columns that it is found by. Opening migrates the schema forward
// unless told otherwise ([WithoutMigration]). Several programs may open a database at once. A deleted thread or attachment
// leaves its id, owner and version behind: the id stays its owner's.
//
// # Errors
//
// A write is one transaction. Until its COMMIT is sent, a write that fails has not happened: its error wraps
// [store.ErrNotApplied]. That includes a cancelled context. The caller's context does not cancel the COMMIT; the write waits
// for the verdict. The outcome is unknown ([store.ErrUnavailable]) only where no verdict comes, for example when the
// connection breaks in that moment. [Store.LongestWrite] says how long it stays unknown.
//
// A call that meets a lock, a serialization failure or a deadlock is tried again. It ends when it succeeds, when
// [WithRetryFor] is over, or when the caller's context ends. The driver's own words are in an error's cause, never in its
// text.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var checks driver.Checks

// Store is a [store.Store] in a SQL database. Make one with [OpenSQLite] or [OpenPostgres]. It is safe for concurrent use, and
// several Stores, in this process or others, may use one database.
type Store struct {
	ids    store.IDGenerator
	engine engine
	sql    statements
	cfg    config

	forReads, forWrites prepared // none of PostgreSQL

	calls   sync.RWMutex // read-locked by each call; Close locks it for good
	closing sync.Once
	closed  error
}

var (
	_ store.Store         = (*Store)(nil)
	_ store.Named         = (*Store)(nil)
	_ store.HealthChecker = (*Store)(nil)
	_ driver.WriteBounder = (*Store)(nil)
)

// open checks what opened, migrates it and makes the Store.
func open(ctx context.Context, cfg config, e engine) (*Store, error) {
	s := &Store{ids: cfg.ids, engine: e, cfg: cfg}
	s.sql = e.statements(cfg)
	if err := s.ready(ctx); err != nil {
		_ = e.close()
		return nil, openError(ctx, e, err)
	}
	return s, nil
}

// ready makes the database ready, as often as it could not for the moment: others may be doing the same.
func (s *Store) ready(ctx context.Context) error {
	cfg, e := s.cfg, s.engine
	for end := time.Now().Add(cfg.retryFor); ; {
		err := e.suits(ctx)
		if err == nil && !cfg.unmigrated {
			err = migrate(ctx, cfg, e)
		}
		if err == nil {
			err = checkSchema(ctx, cfg, e)
		}
		if err == nil && !cfg.unmigrated {
			err = e.notify(ctx, !cfg.silent)
		}
		if err == nil && !e.keepsStatements() {
			err = s.prepare(ctx)
		}
		if err == nil || !e.classify(err).retry || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(longestPause):
		case <-ctx.Done():
			return err
		}
	}
}

// prepare parses all statements, once for each pool.
func (s *Store) prepare(ctx context.Context) error {
	forReads, err := prepare(ctx, s.engine.reader(), s.sql.texts)
	if err != nil {
		return err
	}
	forWrites, err := prepare(ctx, s.engine.writer(), s.sql.texts)
	if err != nil {
		forReads.close()
		return err
	}
	s.forReads, s.forWrites = forReads, forWrites
	return nil
}

// openError makes what went wrong in opening an error that may be shown.
func openError(ctx context.Context, e engine, err error) error {
	if gone := driver.Done(ctx, 0, "", ""); gone != nil {
		return gone
	}
	if errors.Is(err, ErrSchema) || errors.Is(err, errUnsuitable) {
		return err
	}
	return &store.Error{Code: e.classify(err).code, Field: cannotOpen, Cause: err}
}

const cannotOpen = "the database cannot be opened"

// errUnsuitable: what was opened is no place for a Store. Its text may be shown.
var errUnsuitable = errors.New("sqlstore: unsuitable database")

// LayerName returns "sqlite" or "postgres".
func (s *Store) LayerName() string { return s.engine.name() }

// Close waits for the calls under way, whose contexts can hurry them, and closes the connections to the database. Closing
// again does nothing. Calls that begin after it fail with [store.ErrUnavailable] and are not applied.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.calls.Lock()
		s.closed = s.engine.close()
	})
	return s.closed
}

// CheckHealth reports whether the database answers and, where it is PostgreSQL, takes writes: nil, [store.ErrUnavailable], or
// the context's error. It asks once and tries nothing again.
func (s *Store) CheckHealth(ctx context.Context) error {
	if !s.calls.TryRLock() {
		return call{}.error(store.CodeUnavailable, errClosed)
	}
	defer s.calls.RUnlock()
	err := s.engine.healthy(ctx)
	if gone := driver.Done(ctx, 0, "", ""); err != nil && gone != nil {
		return gone
	}
	if err != nil {
		return call{}.error(store.CodeUnavailable, err)
	}
	return nil
}

// LongestWrite returns how long a write may still take effect after it failed with an unknown outcome. In PostgreSQL that is the
// longest time for which a server goes on with a statement whose client is gone. In SQLite it is zero.
func (s *Store) LongestWrite() time.Duration { return s.engine.longestWrite() }

// GenerateThreadID returns an id for a new thread.
func (s *Store) GenerateThreadID(ctx context.Context) string { return s.ids.GenerateThreadID(ctx) }

// GenerateItemID returns an id for a new item of the given kind in thread.
func (s *Store) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.ids.GenerateItemID(ctx, kind, thread)
}

// engine is what the two databases do differently.
type engine interface {
	name() string
	// reader and writer are the pools; they may be one.
	reader() *sql.DB
	writer() *sql.DB
	// statements are the texts of all statements.
	statements(config) statements
	// keepsStatements reports whether the driver keeps statements prepared by itself.
	keepsStatements() bool
	// introduce says to a writing transaction what it should know of its call: its stamp and time limit.
	introduce(ctx context.Context, tx *sql.Tx) error
	// classify says what an error of the driver means.
	classify(error) verdict
	longestWrite() time.Duration
	// notify switches on or off what tells others of changes.
	notify(ctx context.Context, on bool) error
	// suits says why the database that was opened is no place for a Store.
	suits(context.Context) error
	// healthy says why the database does not take writes now.
	healthy(context.Context) error
	close() error
	migrator
}

// verdict is what an error of a driver means.
type verdict struct {
	code store.Code
	// retry: the statement, and with it the transaction, failed for the moment only.
	retry bool
	// settled: of an error of COMMIT, that the transaction surely was not, and will not be, committed.
	settled bool
}
