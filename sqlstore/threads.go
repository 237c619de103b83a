package sqlstore

import (
	"context"
	"errors"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// LoadThread returns the thread, or [store.ErrNotFound].
func (s *Store) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	c := call{store.OpLoadThread, store.RowThread, threadID}
	if err := checks.Thread(ctx, c.op, threadID); err != nil {
		return chat.Thread{}, err
	}
	var (
		owner   chat.Owner
		deleted bool
		version uint64
		doc     string
		found   bool
	)
	err := s.read(ctx, c, func(ctx context.Context, db asker) (err error) {
		row := db.QueryRowContext(ctx, s.sql.loadThread, threadID)
		found, err = maybe(row, &owner.Tenant, &owner.Subject, &deleted, &version, &doc)
		return err
	})
	if err != nil {
		return chat.Thread{}, err
	}
	driver.ReportVersion(ctx, threadID, version, version)
	if !found || deleted {
		return chat.Thread{}, c.error(store.CodeNotFound, nil)
	}
	t, err := chat.ParseThread(doc)
	if err != nil {
		return chat.Thread{}, c.error(store.CodeInternal, err)
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
	thread, mode := w.Thread, w.Mode
	args := []any{thread.ID, thread.Owner.Tenant, thread.Owner.Subject, thread.CreatedAt.UnixMicro(), thread.JSON().String()}
	var before, after uint64
	err = s.write(ctx, c, func(ctx context.Context, tx asker) error {
		if mode != store.InsertOnly {
			done, err := maybe(tx.QueryRowContext(ctx, s.sql.updateThread, args...), &after)
			if done || err != nil {
				before = after - 1
				return err
			}
		}
		if mode != store.UpdateOnly {
			// The counter stays locked until the commit. So among threads of equal times, places are in the order of
			// commits.
			var seq int64
			if err := tx.QueryRowContext(ctx, s.sql.nextSeq).Scan(&seq); err != nil {
				return err
			}
			insert := s.sql.upsertThread
			if mode == store.InsertOnly {
				insert = s.sql.insertThread
			}
			done, err := maybe(tx.QueryRowContext(ctx, insert, append(args, seq)...), &after)
			if done || err != nil {
				before = after - 1
				return err
			}
		}
		// Nothing was written: find out why.
		var owner chat.Owner
		deleted := true
		if _, err := maybe(tx.QueryRowContext(ctx, s.sql.ownerOf, thread.ID), &owner.Tenant, &owner.Subject, &deleted, &before); err != nil {
			return err
		}
		after = before
		if mode == store.UpdateOnly && deleted {
			return refused{c.error(store.CodeNotFound, nil)}
		}
		return refused{c.error(store.CodeConflict, nil)}
	})
	report(ctx, thread.ID, before, after, err)
	return err
}

// report reports the versions before and after a write that was committed, or that the stored rows refused.
func report(ctx context.Context, threadID string, before, after uint64, err error) {
	if errors.Is(err, store.ErrNotApplied) {
		return // no row was compared
	}
	switch store.CodeOf(err) {
	case store.CodeOK, store.CodeNotFound, store.CodeConflict:
		driver.ReportVersion(ctx, threadID, before, after)
	}
}

// DeleteThread deletes the thread and its items.
func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	c := call{store.OpDeleteThread, store.RowThread, threadID}
	if _, err := checks.DeleteThread(ctx, threadID); err != nil {
		return err
	}
	var before, after uint64
	err := s.write(ctx, c, func(ctx context.Context, tx asker) error {
		done, err := maybe(tx.QueryRowContext(ctx, s.sql.deleteThread, threadID), &after)
		if err != nil {
			return err
		}
		if !done {
			before, err = s.versionOf(ctx, tx, threadID)
			after = before
			return err
		}
		before = after - 1
		_, err = tx.ExecContext(ctx, s.sql.deleteItems, threadID)
		return err
	})
	report(ctx, threadID, before, after, err)
	return err
}

// versionOf returns the version of a thread that the transaction does not change.
func (s *Store) versionOf(ctx context.Context, tx asker, threadID string) (version uint64, err error) {
	var (
		owner   chat.Owner
		deleted bool
	)
	_, err = maybe(tx.QueryRowContext(ctx, s.sql.ownerOf, threadID), &owner.Tenant, &owner.Subject, &deleted, &version)
	return version, err
}

// LoadThreads lists the threads that q.Owner matches.
func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	c := call{op: store.OpLoadThreads, kind: store.RowThread}
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	kind, args := filterOf(q.Owner)
	var l listing[chat.Thread]
	err = s.read(ctx, c, func(ctx context.Context, db asker) error {
		return l.load(ctx, db, s.sql.threadPages[kind], q.PageQuery, args, func(scan func(...any) error) (r row[chat.Thread], err error) {
			var tenant, subject, doc, id *string
			if err := scan(&tenant, &subject, &doc, &id, &r.at, &r.seq, &l.found); err != nil || id == nil {
				return r, err
			}
			r.id = *id
			if r.val, err = chat.ParseThread(*doc); err != nil {
				return r, refused{call{c.op, c.kind, r.id}.error(store.CodeInternal, err)}
			}
			r.val.Owner = chat.Owner{Tenant: *tenant, Subject: *subject}
			return r, nil
		})
	})
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	return l.page(c, q.PageQuery)
}
