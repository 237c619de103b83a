package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// doubt is the error of a write with an unknown outcome.
type doubt struct{ error }

func (d doubt) Unwrap() error { return d.error }

func doubtful(err error) error {
	if store.IsDefinite(err) {
		return err
	}
	return doubt{err}
}

// again calls f until it succeeds. A write with an unknown outcome may take effect later, so a try that begins within the
// target's LongestWrite after it does not count.
func (c *copier) again(ctx context.Context, kind, id string, f func() error) (err error) {
	for range triesPerThread {
		err = f()
		if _, unknown := errors.AsType[doubt](err); unknown {
			c.doubts.Add(1)
			if err := wait(ctx, c.longest); err != nil {
				return err
			}
			c.doubts.Add(-1)
		} else if !errors.Is(err, errAgain) {
			return err
		}
	}
	if errors.Is(err, errAgain) {
		return &store.Error{Kind: kind, ID: id, Code: store.CodeConflict, Cause: err}
	}
	return err
}

// found returns whether a load found its row.
func found(err error) (bool, error) {
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// thread makes the target's thread as the source's: its document, owner, items and their order, or its absence. If neither has the
// thread, the target gets the tombstone dead, if there is one. thread returns the copied version of the source, and then the version
// of the target.
//
// A try reads the version of the target first, then the source, each page of items at the version of the thread. It writes each row
// under the target's version.
func (c *copier) thread(ctx context.Context, id string, dead *driver.Tombstone) (version, target uint64, err error) {
	var saved Copied
	err = c.again(ctx, store.RowThread, id, func() error {
		t, before := threadCopy{copier: c, id: id, dead: dead, count: &saved}, saved.Saved // by other tries
		err := t.copy(ctx)
		if version = t.version; err == nil {
			target, _ = t.at.Of(id)
			saved.Same.Threads, saved.Same.Items = max(0, t.same.Threads-before.Threads), max(0, t.same.Items-before.Items)
			c.look(Counts{Items: t.items})
		}
		return err
	})
	c.count(saved)
	return version, target, err
}

// threadCopy is a try to copy a thread.
type threadCopy struct {
	*copier
	id      string
	dead    *driver.Tombstone
	at      *store.Versions // hears the target's versions
	version uint64          // of the source
	same    Counts
	items   int64 // of the source
	count   *Copied
}

// write makes a write to the target at the version that the last one left, and counts it.
func (t *threadCopy) write(ctx context.Context, n *int64, f func(context.Context) error) error {
	v, _ := t.at.Of(t.id)
	err := f(store.IfVersion(ctx, t.id, v))
	if e, ok := errors.AsType[*store.Error](err); ok && e.Code == store.CodeConflict && e.Field == "if_version" {
		return errAgain
	}
	if err == nil {
		*n++
	}
	return doubtful(err)
}

func (t *threadCopy) copy(ctx context.Context) error {
	toCtx, at := reading(ctx)
	t.at = at
	have, err := t.to.LoadThread(toCtx, t.id)
	has, err := found(err)
	if err != nil {
		return err
	}
	fromCtx, source := reading(ctx)
	want, err := t.from.LoadThread(fromCtx, t.id)
	is, err := found(err)
	if err != nil {
		return err
	}
	version, ok := source.Of(t.id)
	if _, targetHas := t.at.Of(t.id); !ok || !targetHas {
		return fmt.Errorf("lifecycle: both stores must report thread versions: %w", errors.ErrUnsupported)
	}
	t.version = version
	saved, deleted := &t.count.Saved.Threads, &t.count.Deleted.Threads
	switch {
	case is && has && have.Owner != want.Owner:
		err = conflict(store.RowThread, t.id)
	case is && (!has || have.JSON() != want.JSON()):
		err = t.write(toCtx, saved, func(ctx context.Context) error { return t.to.SaveThread(ctx, want) })
		if err == nil && !has && want.Owner.IsZero() { // such a save revives a deleted id for its last owner
			if have, err = t.to.LoadThread(toCtx, t.id); err == nil && !have.Owner.IsZero() {
				err = errors.Join(conflict(store.RowThread, t.id),
					t.write(toCtx, deleted, func(ctx context.Context) error { return t.to.DeleteThread(ctx, t.id) }))
			}
		}
	case is:
		t.same.Threads++
	case has && t.dead != nil && !t.dead.Erased && have.Owner != t.dead.Owner:
		err = conflict(store.RowThread, t.id)
	case has:
		err = t.write(toCtx, deleted, func(ctx context.Context) error { return t.to.DeleteThread(ctx, t.id) })
	}
	switch {
	case err != nil:
	case is:
		err = t.copyItems(toCtx, source)
	case t.dead != nil && t.buries && (!has || !t.dead.Erased && !have.CreatedAt.Equal(t.dead.CreatedAt)):
		err = t.bury(toCtx)
	}
	return err
}

func errOf[T any](_ T, err error) error { return err }

// bury makes the tombstone.
func (t *threadCopy) bury(ctx context.Context) error {
	var n int64 // not counted
	stub := chat.Thread{ID: t.id, Owner: t.dead.Owner, CreatedAt: t.dead.CreatedAt}
	err := t.write(ctx, &n, func(ctx context.Context) error { return t.to.SaveThread(ctx, stub) })
	if err == nil {
		err = t.write(ctx, &n, func(ctx context.Context) error { return t.to.DeleteThread(ctx, t.id) })
	}
	return err
}

// conflict is the error for a row that the target has for another owner.
func conflict(kind, id string) error {
	return &store.Error{Kind: kind, ID: id, Code: store.CodeConflict}
}

// copyItems makes the target's items as the source's. It deletes from the first id or time that differs on, and adds the source's
// behind, so that items of one time have the same order.
func (t *threadCopy) copyItems(ctx context.Context, source *store.Versions) error {
	have, stop := iter.Pull2(Items(ctx, t.to, t.id))
	defer stop()
	remove := func(old chat.Item, err error, ok bool) error {
		for ; ok && err == nil; old, err, ok = have() {
			err := t.write(ctx, &t.count.Deleted.Items, func(ctx context.Context) error { return t.to.DeleteThreadItem(ctx, t.id, old.ID) })
			if err != nil {
				return err
			}
		}
		return err
	}
	same := true
	for it, err := range itemsAt(ctx, t.from, t.id, source) {
		if err != nil {
			return err
		}
		t.items++
		if same {
			old, err, ok := have()
			same = err == nil && ok && old.ID == it.ID && old.CreatedAt.Equal(it.CreatedAt)
			switch {
			case same && old.JSON() == it.JSON():
				t.same.Items++
			case same: // a save keeps its place
				err = t.write(ctx, &t.count.Saved.Items, func(ctx context.Context) error { return t.to.SaveItem(ctx, t.id, it) })
			default:
				err = remove(old, err, ok)
			}
			if err != nil {
				return err
			}
			if same {
				continue
			}
		}
		if err := t.write(ctx, &t.count.Saved.Items, func(ctx context.Context) error { return t.to.AddThreadItem(ctx, t.id, it) }); err != nil {
			return err
		}
	}
	if !same {
		return nil
	}
	return remove(have())
}
