package sqlstore

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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

// step is one statement of a call.
type step struct {
	text string
	args []any
	row  scanner // called for each row; nil to ignore the rows
}

// written returns the steps that have a text.
func written(steps ...step) []step {
	return slices.DeleteFunc(steps, func(st step) bool { return st.text == "" })
}

// scanner reads the columns of one row with scan.
type scanner func(scan func(into ...any) error) error

// tx is a transaction.
type tx interface {
	// run runs the steps, one after the other. On PostgreSQL they travel together.
	run(ctx context.Context, steps ...step) error
}

// refused is the outcome of a call that the stored rows decide: an error of the contract, or a damaged row. With a nil err
// there is nothing to do. The transaction is rolled back and not retried.
type refused struct{ err error }

func (r refused) Error() string { return "refused" }

// errMoved says that a row changed between two statements of a transaction. The call is tried again.
var errMoved = errors.New("sqlstore: a row changed meanwhile")

// The pause before a retry grows from firstPause to longestPause. Each is up to twice the one before.
const (
	firstPause   = time.Millisecond
	longestPause = 50 * time.Millisecond
)

// write runs f in a transaction, and retries temporary failures. A failure before the COMMIT is sent leaves no change.
func (s *Store) write(ctx context.Context, c call, f func(context.Context, tx) error) error {
	return s.try(ctx, c, true, func() (settled bool, err error) { return s.engine.write(ctx, f) })
}

// read runs one query. query is called for each attempt.
func (s *Store) read(ctx context.Context, c call, query func() step) error {
	return s.try(ctx, c, false, func() (bool, error) { return true, s.engine.read(ctx, query()) })
}

// errClosed is the cause of errors after Close.
var errClosed = errors.New("sqlstore: the Store is closed")

// try makes attempts until one succeeds, is refused, or fails permanently. settled says that a failed attempt had no effect
// and never will. After a failure that is not settled, try makes no other attempt.
func (s *Store) try(ctx context.Context, c call, writes bool, attempt func() (settled bool, err error)) error {
	if !s.calls.TryRLock() { // Close holds the lock or waits for it
		return c.error(store.CodeUnavailable, errors.Join(store.ErrNotApplied, errClosed))
	}
	defer s.calls.RUnlock()
	var end time.Time // of the retries, which the first failure begins
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		settled, err := attempt()
		if err == nil {
			return nil
		}
		if r, ok := errors.AsType[refused](err); ok {
			if f, ok := r.err.(*store.Error); ok && f.Op == 0 { // an engine does not know the call
				named := *f
				named.Op, named.Kind, named.ID = c.op, c.kind, c.id
				return &named
			}
			return r.err
		}
		v := s.verdict(err)
		if end.IsZero() {
			end = time.Now().Add(s.cfg.retryFor)
		}
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
		case writes:
			return c.error(v.code, errors.Join(store.ErrNotApplied, err))
		}
		return c.error(v.code, err)
	}
}

// verdict is the meaning of a failed attempt's error.
func (s *Store) verdict(err error) verdict {
	if errors.Is(err, errMoved) {
		return verdict{code: store.CodeUnavailable, retry: true}
	}
	return s.engine.classify(err)
}

// maybe returns a function for the rows of a statement that returns at most one. found becomes true if there is one.
func maybe(found *bool, into ...any) scanner {
	*found = false
	return func(scan func(...any) error) error {
		*found = true
		return scan(into...)
	}
}

// only returns a function for the row of a statement that returns at most one.
func only(into ...any) scanner {
	return func(scan func(...any) error) error { return scan(into...) }
}

// decided waits for the answer to a COMMIT, and after the end of ctx for verdictLimit longer. ok is false if there is none.
func decided(ctx context.Context, answered <-chan error) (err error, ok bool) {
	done := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case err := <-answered:
			return err, true
		case <-done:
			done, late = nil, time.After(verdictLimit)
		case <-late:
			return nil, false
		}
	}
}

// verdictLimit limits the wait for an answer that the caller's context does not limit: to ROLLBACK, and to COMMIT once the
// context has ended.
const verdictLimit = 10 * time.Second

// errAbandoned is the cause if a call stopped waiting for the answer to its COMMIT.
var errAbandoned = errors.New("sqlstore: no answer to COMMIT yet")
