package sqlstore

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// call identifies a call in its errors.
type call struct {
	op       store.Op
	kind, id string
}

func (c call) error(code store.Code, cause error) error {
	return &store.Error{Op: c.op, Kind: c.kind, ID: c.id, Code: code, Cause: cause}
}

// refused is the outcome of a call that the stored rows decide: an error of the contract, or a damaged row. With a nil err
// there is nothing to do. The transaction is rolled back and not retried.
type refused struct{ err error }

func (r refused) Error() string { return "refused" }

// The pause before a retry grows from firstPause to longestPause. Each is up to twice the one before.
const (
	firstPause   = time.Millisecond
	longestPause = 50 * time.Millisecond
)

// write runs f in a transaction, and retries temporary failures. A failure before the COMMIT is sent leaves no change.
func (s *Store) write(ctx context.Context, c call, f func(context.Context, asker) error) error {
	return s.try(ctx, c, func() (settled bool, err error) { return s.transact(ctx, f) })
}

// read runs f, which runs one query.
func (s *Store) read(ctx context.Context, c call, f func(context.Context, asker) error) error {
	return s.try(ctx, c, func() (bool, error) { return true, f(ctx, asker{db: s.engine.reader(), prepared: s.forReads}) })
}

// errClosed is the cause of errors after Close.
var errClosed = errors.New("sqlstore: the Store is closed")

// try makes attempts until one succeeds, is refused, or fails permanently. settled says that a failed attempt had no effect
// and never will. After a failure that is not settled, try makes no other attempt.
func (s *Store) try(ctx context.Context, c call, attempt func() (settled bool, err error)) error {
	if !s.calls.TryRLock() { // Close holds the lock or waits for it
		return c.error(store.CodeUnavailable, errors.Join(store.ErrNotApplied, errClosed))
	}
	defer s.calls.RUnlock()
	end := time.Now().Add(s.cfg.retryFor)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		settled, err := attempt()
		if err == nil {
			return nil
		}
		if r, ok := errors.AsType[refused](err); ok {
			return r.err
		}
		v := s.engine.classify(err)
		if settled && v.retry && time.Now().Before(end) {
			select {
			case <-time.After(pause/2 + rand.N(pause)):
				continue
			case <-ctx.Done():
			}
		}
		if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
			// Some code, such as package net, compares the deadline with the clock, and fails before the context's timer
			// fires.
			select {
			case <-ctx.Done():
			case <-time.After(longestPause):
			}
		}
		switch gone := driver.Done(ctx, c.op, c.kind, c.id); {
		case !settled:
			return c.error(store.CodeUnavailable, err)
		case gone != nil:
			return gone
		case c.op.IsWrite():
			return c.error(v.code, errors.Join(store.ErrNotApplied, err))
		}
		return c.error(v.code, err)
	}
}

// verdictLimit limits the wait for the answer to COMMIT or ROLLBACK.
const verdictLimit = 10 * time.Second

// transact runs f in a transaction and commits it. settled says that a failed transaction was not and will not be committed.
func (s *Store) transact(ctx context.Context, f func(context.Context, asker) error) (settled bool, err error) {
	conn, err := s.engine.writer().Conn(ctx)
	if err != nil {
		return true, fmt.Errorf("connection: %w", err)
	}
	defer func() {
		if err != nil && s.engine.classify(err).drop {
			_ = conn.Raw(func(any) error { return sqldriver.ErrBadConn }) // closes it
		}
		_ = conn.Close()
	}()

	// The caller's context cancels the statements, but not COMMIT and ROLLBACK.
	inner, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	begun := context.AfterFunc(ctx, abort) // it cancels BEGIN too
	tx, err := conn.BeginTx(inner, nil)
	if err != nil {
		return true, fmt.Errorf("begin: %w", err)
	}
	ended := false
	defer func() {
		if !ended { // also after a panic
			limit := time.AfterFunc(verdictLimit, abort)
			defer limit.Stop()
			_ = tx.Rollback()
		}
	}()
	if !begun() {
		return true, ctx.Err()
	}
	if err := s.engine.introduce(ctx, tx); err != nil {
		return true, fmt.Errorf("introduce: %w", err)
	}
	if err := f(ctx, asker{db: tx, tx: tx, prepared: s.forWrites}); err != nil {
		return true, err
	}
	if err := ctx.Err(); err != nil {
		return true, err
	}
	ended = true
	limit := time.AfterFunc(verdictLimit, abort)
	defer limit.Stop()
	if err := tx.Commit(); err != nil {
		return s.engine.classify(err).settled, fmt.Errorf("commit: %w", err)
	}
	return true, nil
}

// affected returns how many rows a statement changed.
func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// maybe runs a query for one row, and reports whether there was one.
func maybe(row *sql.Row, into ...any) (bool, error) {
	err := row.Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
