// Package sqlstore stores conversations in SQLite, PostgreSQL, MySQL or MariaDB.
//
//	s, err := sqlstore.Open(ctx, "sqlite:chat.db") // or "postgres://chat@db.internal/chat", "mysql://…"
//
// All pass storetest.Run, report thread versions, and keep grants (see package sharing). Use SQLite on one machine, for any number
// of programs, but not on a network file system. Use the others for several machines.
// A value is stored as its JSON text, byte for byte. Opening a database migrates its schema forward, except with
// [WithoutMigration]. A deleted thread or attachment leaves its id, owner and version behind, and a deleted item its place.
//
// # Errors
//
// A write is one transaction. One that fails before its COMMIT is sent was not applied: its error wraps [store.ErrNotApplied]. A
// COMMIT is never cancelled: the write waits for the answer, and after its context has ended for 10 seconds more. Without
// an answer, or with a warning, it is unknown ([store.ErrUnavailable]).
//
// A call that meets a lock, a deadlock or a serialization failure, or cannot connect, is retried ([WithRetryFor]). A driver's
// message is only in an error's cause.
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

// Store is a [store.Store] in a SQL database. Create one with [Open], or with the function Open… or New… of a database. It is safe
// for concurrent use. Several Stores, in one process or several, may use one database.
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
	if err := s.ready(ctx); err != nil {
		_ = e.close()
		return nil, openError(ctx, e, err)
	}
	s.sql = e.statements(cfg)
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
	if errors.Is(err, ErrSchema) || errors.Is(err, errUnsuitable) || store.CodeOf(err) == store.CodeInvalid {
		return err
	}
	return &store.Error{Code: e.classify(err).code, Field: cannotOpen, Cause: err}
}

const cannotOpen = "the database cannot be opened"

// errUnsuitable says that the database cannot hold a Store. Its text may be shown.
var errUnsuitable = errors.New("sqlstore: unsuitable database")

// LayerName returns "sqlite", "postgres", or for MySQL and MariaDB "mysql".
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

// CheckHealth reports whether the database can serve. A server must answer and accept writes, and a node of a cluster must be
// synced. A SQLite file must be readable, still in its place, and as long as its header says (Linux; elsewhere not empty).
// CheckHealth returns nil, [store.ErrUnavailable], or the context's error. It does not retry.
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

// LongestWrite returns how long a write may still take effect after it failed with an unknown outcome. For a server it is the
// statement timeout plus the lock timeout plus 5 seconds: it runs a statement at most that long after its client is gone. For
// SQLite it is zero.
//
// Only a COMMIT that waits may take longer, such as for a synchronous standby or for the other nodes of a cluster. The Store
// watches it, and caches above bypass its thread until it has ended ([driver.ReportPending]).
func (s *Store) LongestWrite() time.Duration { return s.engine.longestWrite() }

// GenerateThreadID returns an id for a new thread.
func (s *Store) GenerateThreadID(ctx context.Context) string { return s.ids.GenerateThreadID(ctx) }

// GenerateItemID returns an id for a new item of the given kind in thread.
func (s *Store) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.ids.GenerateItemID(ctx, kind, thread)
}

// engine has the differences between the databases.
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
	// scrub removes what was deleted from the database's file, if it can.
	scrub(context.Context) error
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
