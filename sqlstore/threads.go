package sqlstore

import (
	"context"
	"errors"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// threadState is a thread's row without what depends on the call.
type threadState struct {
	owner   chat.Owner
	state   int // deleted if the id was never used
	version uint64
	doc     string
}

// load returns the step that loads the state of an id.
func (t *threadState) load(s *Store, id string) step {
	*t = threadState{state: deleted}
	return step{s.sql.loadThread, []any{id}, only(&t.owner.Tenant, &t.owner.Subject, &t.state, &t.version, &t.doc)}
}

// refusal says why a save in this mode wrote nothing to a row of this state and owner. If there is no reason, the row has
// changed since.
func (c call) refusal(mode store.SaveMode, state int, owner, saved chat.Owner) error {
	switch {
	case mode == store.UpdateOnly && state != live:
		return refused{c.error(store.CodeNotFound, nil)}
	case mode == store.InsertOnly && state == live, state == erased, !saved.IsZero() && saved != owner:
		return refused{c.error(store.CodeConflict, nil)}
	}
	return errMoved
}

// LoadThread returns the thread, or [store.ErrNotFound].
func (s *Store) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	owner, doc, err := s.RawThread(ctx, threadID)
	if err != nil {
		return chat.Thread{}, err
	}
	t, err := chat.ParseThread(doc)
	if err != nil {
		return chat.Thread{}, call{store.OpLoadThread, store.RowThread, threadID}.error(store.CodeInternal, err)
	}
	t.Owner = owner
	return t, nil
}

// SaveThread inserts the thread or replaces it.
func (s *Store) SaveThread(ctx context.Context, thread chat.Thread) error {
	c := call{store.OpSaveThread, store.RowThread, thread.ID}
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	thread = w.Thread
	text := [...]string{store.Upsert: s.sql.upsertThread, store.InsertOnly: s.sql.insertThread, store.UpdateOnly: s.sql.updateThread}[w.Mode]
	args := []any{thread.ID, thread.Owner.Tenant, thread.Owner.Subject, thread.CreatedAt.UnixMicro(), thread.JSON().String()}
	return s.change(ctx, c, change{
		threadID: thread.ID, cond: w.Condition,
		steps: func(first func(...any) scanner) []step { return []step{{text, args, first()}} },
		missed: func(was threadState) error {
			if err := w.Condition.Check(c.op, thread.ID, was.version); err != nil {
				return refused{err}
			}
			return c.refusal(w.Mode, was.state, was.owner, thread.Owner)
		},
	})
}

// DeleteThread deletes the thread and its items.
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	c := call{store.OpDeleteThread, store.RowThread, threadID}
	cond, err := checks.DeleteThread(ctx, threadID)
	if err != nil {
		return err
	}
	args := []any{threadID}
	return s.change(ctx, c, change{
		threadID: threadID, cond: cond,
		steps: func(first func(...any) scanner) []step {
			return written(step{s.sql.deleteThread, args, first()}, step{s.sql.deleteItems, args, nil},
				step{s.sql.deleteGone, args, nil}, step{s.sql.deleteGrants, args, nil})
		},
		missed: func(was threadState) error {
			if was.state == live {
				return errMoved
			}
			return refused{nil}
		},
	})
}

// change is a write of one thread.
type change struct {
	threadID string
	cond     driver.Condition
	// steps returns the statements. The first changes the thread's row and returns its new version, and then what else the
	// caller of first scans.
	steps func(first func(also ...any) scanner) []step
	// done looks at what the other steps returned, and may refuse the change. It may be nil.
	done func() error
	// missed says why the first step found no row.
	missed func(was threadState) error
}

// change makes a write of one thread, and reports the versions before and after it. If the first step finds no row, if the
// condition does not hold, or if done refuses, the transaction is rolled back.
func (s *Store) change(ctx context.Context, c call, w change) error {
	var before, after uint64
	err := s.write(ctx, c, func(ctx context.Context, tx tx) error {
		var found bool
		first := func(also ...any) scanner { return maybe(&found, append([]any{&after}, also...)...) }
		if err := tx.run(ctx, w.steps(first)...); err != nil {
			return err
		}
		if !found {
			var was threadState
			if err := tx.run(ctx, was.load(s, w.threadID)); err != nil {
				return err
			}
			before, after = was.version, was.version
			return w.missed(was)
		}
		before = after - 1
		var err error
		if stale := w.cond.Check(c.op, w.threadID, before); stale != nil {
			err = refused{stale}
		} else if w.done != nil {
			err = w.done()
		}
		if err != nil {
			after = before
		}
		return err
	})
	if !errors.Is(err, store.ErrNotApplied) { // a row was compared
		switch store.CodeOf(err) {
		case store.CodeOK, store.CodeNotFound, store.CodeConflict:
			driver.ReportVersion(ctx, w.threadID, before, after)
		}
	}
	return err
}

// LoadThreads lists the threads that q.Owner matches.
func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	c := call{op: store.OpLoadThreads, kind: store.RowThread}
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	kind, args := filterOf(q.Owner)
	return list(ctx, s, c, s.sql.threadPages[kind], q.PageQuery, args, func(r *row) []any {
		return []any{&r.owner.Tenant, &r.owner.Subject, &r.doc, &r.id, &r.at}
	}, func(r *row) (chat.Thread, error) {
		th, err := chat.ParseThread(r.doc)
		if err != nil {
			return th, call{c.op, c.kind, r.id}.error(store.CodeInternal, err)
		}
		th.Owner = r.owner
		return th, nil
	})
}
