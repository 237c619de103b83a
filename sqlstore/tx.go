package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// call names a call, for its errors.
type call struct {
	op       store.Op
	kind, id string
}

func (c call) error(code store.Code, cause error) error {
	return &store.Error{Op: c.op, Kind: c.kind, ID: c.id, Code: code, Cause: cause}
}

// refused wraps the outcome of a call that the database's rows decide: a refusal of the contract, or a row that makes no sense.
// With a nil err there is nothing to do. The transaction is rolled back; another attempt would find the same.
type refused struct{ err error }

func (r refused) Error() string { return "refused" }

// The first pause before a call is tried again, and the longest; each is up to twice the one before.
const (
	firstPause   = time.Millisecond
	longestPause = 50 * time.Millisecond
)

// write runs f in a transaction, as often as the database could not do it for the moment. Until COMMIT is sent, whatever goes
// wrong leaves nothing behind.
func (s *Store) write(ctx context.Context, c call, f func(context.Context, asker) error) error {
	return s.try(ctx, c, func() (settled bool, err error) { return s.transact(ctx, f) })
}

// read runs f, which asks the database once.
func (s *Store) read(ctx context.Context, c call, f func(context.Context, asker) error) error {
	return s.try(ctx, c, func() (bool, error) { return true, f(ctx, asker{db: s.engine.reader(), prepared: s.forReads}) })
}

// errClosed is the cause of what a closed Store answers.
var errClosed = errors.New("sqlstore: the Store is closed")

// try makes attempts until one succeeds, is refused, or fails permanently. settled reports of an error that the attempt has had
// no effect, and will have none. After an error that is not settled, try makes no other attempt.
func (s *Store) try(ctx context.Context, c call, attempt func() (settled bool, err error)) error {
	if !s.calls.TryRLock() { // Close has it, or waits for it
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
			// Those who go by the clock, as package net does, hear of a deadline before the context's own timer says so.
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

// verdictLimit bounds how long the answer to COMMIT or ROLLBACK is waited for.
const verdictLimit = 10 * time.Second

// transact runs f in a transaction and commits it. settled says of an error that nothing was, or will be, committed.
func (s *Store) transact(ctx context.Context, f func(context.Context, asker) error) (settled bool, err error) {
	conn, err := s.engine.writer().Conn(ctx)
	if err != nil {
		return true, fmt.Errorf("connection: %w", err)
	}
	defer func() { _ = conn.Close() }()

	// The statements end with the caller's context, but neither COMMIT nor ROLLBACK does.
	inner, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	begun := context.AfterFunc(ctx, abort) // BEGIN ends with it too
	tx, err := conn.BeginTx(inner, nil)
	if err != nil {
		return true, fmt.Errorf("begin: %w", err)
	}
	ended := false
	defer func() {
		if !ended { // also on a panic
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

// maybe runs a query of one row, and reports whether there was one.
func maybe(row *sql.Row, into ...any) (bool, error) {
	err := row.Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
