// Package sqlstore stores chat conversations in a SQL database: SQLite, embedded in the program, or PostgreSQL.
//
//	s, err := sqlstore.OpenSQLite(ctx, "chat.db")
//	s, err := sqlstore.OpenPostgres(ctx, "postgres://chat@db.internal/chat")
//	defer s.Close()
//
// Both are complete [store.Store]s: they pass storetest.Run, report thread versions, and can be wrapped in any decorator. They
// keep grants too: see package sharing.
// Use SQLite on one machine, for any number of programs. Use PostgreSQL for programs on several machines. Do not put a
// SQLite file on a network file system.
//
// A value is stored as its JSON text, byte for byte. Opening a database migrates its schema forward, except with
// [WithoutMigration]. Several programs may open a database at once. A deleted thread or attachment leaves its id, owner and
// version behind, and a deleted item its place, until its thread is deleted.
//
// # Errors
//
// A write is one transaction. One that fails before its COMMIT is sent was not applied: its error wraps
// [store.ErrNotApplied]. This includes a cancelled context. A COMMIT is never cancelled: the write waits for the answer, and
// after its context has ended for 10 seconds more. The outcome is unknown ([store.ErrUnavailable]) if no answer comes, or one
// with a warning, such as that a synchronous standby has not confirmed. See [Store.LongestWrite].
//
// A call that meets a lock, a serialization failure or a deadlock, or that cannot connect, is retried for the time of
// [WithRetryFor]. The driver's message is in an error's cause, never in its text.
package sqlstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var checks = driver.Checks{Versions: true}

// Store is a [store.Store] in a SQL database. Create one with [OpenSQLite], [NewSQLite], [OpenPostgres] or [NewPostgres]. It is
// safe for concurrent use.
// Several Stores, in one process or several, may use one database.
type Store struct {
	ids    store.IDGenerator
	engine engine
	sql    statements
	cfg    config

	calls   sync.RWMutex // read-locked by each call; Close locks it and never unlocks it
	closing sync.Once
	closed  error
}

var (
	_ store.Store         = (*Store)(nil)
	_ store.Named         = (*Store)(nil)
	_ store.HealthChecker = (*Store)(nil)
	_ driver.WriteBounder = (*Store)(nil)
)

// open checks and migrates the database, and returns the Store.
func open(ctx context.Context, cfg config, e engine) (*Store, error) {
	s := &Store{ids: cfg.ids, engine: e, cfg: cfg}
	s.sql = e.statements(cfg)
	if err := s.ready(ctx); err != nil {
		_ = e.close()
		return nil, openError(ctx, e, err)
	}
	return s, nil
}

// ready prepares the database. It retries temporary failures, because other programs may do the same at the same time.
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
		if err == nil && !cfg.unmigrated && cfg.silent {
			err = e.notify(ctx, false)
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

// openError returns an error with a text that callers may see.
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

// errUnsuitable says that the database cannot hold a Store. Its text may be shown.
var errUnsuitable = errors.New("sqlstore: unsuitable database")

// LayerName returns "sqlite" or "postgres".
func (s *Store) LayerName() string { return s.engine.name() }

// Close waits for running calls and closes the connections to the database. Cancel the calls' contexts to speed it up. A
// second Close does nothing. Later calls fail with [store.ErrUnavailable] and are not applied.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.calls.Lock()
		s.closed = s.engine.close()
	})
	return s.closed
}

// CheckHealth reports whether the database can serve. PostgreSQL must answer and accept writes. A SQLite file must be readable,
// still in its place, and as long as its header says (Linux; elsewhere not empty). CheckHealth returns nil,
// [store.ErrUnavailable], or the context's error. It does not retry.
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

// LongestWrite returns how long a write may still take effect after it failed with an unknown outcome. For PostgreSQL it is
// the statement timeout plus the lock timeout plus 5 seconds: a server runs a statement at most that long after its client
// is gone. For SQLite it is zero.
//
// Only a COMMIT that waits for a synchronous standby may take longer. The Store watches it, and caches above bypass its thread
// until it has ended ([driver.ReportPending]).
func (s *Store) LongestWrite() time.Duration { return s.engine.longestWrite() }

// GenerateThreadID returns an id for a new thread.
func (s *Store) GenerateThreadID(ctx context.Context) string { return s.ids.GenerateThreadID(ctx) }

// GenerateItemID returns an id for a new item of the given kind in thread.
func (s *Store) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.ids.GenerateItemID(ctx, kind, thread)
}

// engine has the differences between the two databases.
type engine interface {
	name() string
	// statements returns the texts of all statements.
	statements(config) statements
	// read runs one query.
	read(context.Context, step) error
	// write runs f in a transaction and commits it. If f fails, nothing is written. settled says that a failed transaction was
	// not and will not be committed.
	write(ctx context.Context, f func(context.Context, tx) error) (settled bool, err error)
	// classify interprets an error of the driver.
	classify(error) verdict
	longestWrite() time.Duration
	// stats returns the numbers of the pool.
	stats() poolStats
	// epoch changes when versions may have gone back.
	epoch() string
	// notify enables or disables the announcement of changes.
	notify(ctx context.Context, on bool) error
	// suits returns an error if the database cannot hold a Store.
	suits(context.Context) error
	// healthy returns an error if the database cannot be used now.
	healthy(context.Context) error
	close() error
	migrator
}

// verdict is the meaning of a driver's error.
type verdict struct {
	code store.Code
	// retry says that the transaction failed for a temporary reason.
	retry bool
	// drop says that the connection must not be used again.
	drop bool
	// settled says, for an error of COMMIT, that the transaction was not committed and never will be.
	settled bool
}
