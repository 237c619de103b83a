package lifecycle

import (
	"context"
	"errors"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// errEpoch ends a pass in which the source's versions began anew.
var errEpoch = errors.New("lifecycle: the epoch of the source's versions changed")

// pass makes the target as the source, once.
func (c *copier) pass(ctx context.Context) (err error) {
	for range triesPerThread {
		c.looked = Counts{}
		epoch := ""
		if c.versions != nil {
			if epoch, _, err = c.versions.ThreadVersions(ctx, nil); err != nil {
				return err
			}
		}
		err = c.journal.begin(epoch)
		if err == nil {
			err = c.tombstones(ctx)
		}
		if err == nil {
			err = each(ctx, c.parallel, c.visits, c.visit)
		}
		if err == nil && c.attachments {
			err = c.allAttachments(ctx)
		}
		if err == nil {
			return c.journal.end()
		}
		if !errors.Is(err, errEpoch) {
			if c.doubts.Load() == 0 { // nothing is under way
				err = errors.Join(err, c.journal.end())
			}
			return err
		}
	}
	return err
}

// each calls f for the rows, n at once. After an error it calls f no more. It returns when no call is left.
func each[T any](ctx context.Context, n int, rows func(context.Context) iter.Seq2[T, error], f func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(n, 1))
	for v, err := range rows(ctx) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error { return f(ctx, v) })
	}
	return g.Wait()
}

// visit is a thread of the source, or one that was there. same says that the target has its version.
type visit struct {
	id         string
	same, gone bool
}

// visits returns the source's threads, then those that the journal knows and the source has not any more.
func (c *copier) visits(ctx context.Context) iter.Seq2[visit, error] {
	return func(yield func(visit, error) bool) {
		var ids []string
		gone := false
		flush := func() bool {
			var now, theirs []uint64
			if c.versions != nil && c.toVersions != nil && len(ids) > 0 {
				epoch, vs, err := c.versions.ThreadVersions(ctx, ids)
				if err == nil && epoch != c.journal.epoch {
					err = errEpoch
				}
				if err != nil {
					yield(visit{}, err)
					return false
				}
				now = vs
				if _, theirs, err = c.toVersions.ThreadVersions(ctx, ids); err != nil {
					yield(visit{}, err)
					return false
				}
			}
			for i, id := range ids {
				if !yield(visit{id, now != nil && c.journal.has(id, now[i], theirs[i]), gone}, nil) {
					return false
				}
			}
			ids = ids[:0]
			return true
		}
		for t, err := range Threads(ctx, c.from, store.AnyOwner()) {
			if err != nil {
				yield(visit{}, err)
				return
			}
			if c.journal.see(t.ID) {
				ids = append(ids, t.ID)
			}
			if len(ids) == driver.MaxVersions && !flush() {
				return
			}
		}
		if !flush() {
			return
		}
		gone = true
		for ids = range slices.Chunk(c.journal.unseen(), driver.MaxVersions) {
			if !flush() {
				return
			}
		}
	}
}

func (c *copier) visit(ctx context.Context, v visit) (err error) {
	switch {
	case !v.same:
		err = c.copy(ctx, v.id, nil)
	case v.gone:
	case c.fenced:
		err = c.grants(ctx, v.id)
	default:
		c.count(Copied{Same: Counts{Threads: 1}})
	}
	if err == nil && !v.gone {
		c.look(Counts{Threads: 1})
	}
	return err
}

// copy copies a thread with its grants, and journals it.
func (c *copier) copy(ctx context.Context, id string, dead *driver.Tombstone) error {
	version, target, err := c.thread(ctx, id, dead)
	if errors.Is(err, errAgain) && c.fence != nil && !c.fenced {
		return nil
	}
	if err == nil {
		err = c.grants(ctx, id)
	}
	if err == nil {
		err = c.journal.note(id, version, target)
	}
	return err
}

// count adds to the counts of rows. What later passes find the same may be what the first one saved.
func (c *copier) count(n Copied) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Saved.add(n.Saved)
	c.done.Deleted.add(n.Deleted)
	if c.journal.pass == 1 {
		c.done.Same.add(n.Same)
	}
}

// look adds rows to those that were looked at, and tells the progress after a thread and after each page of attachments.
func (c *copier) look(n Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked.add(n)
	if n.Threads > 0 || n.Attachments > 0 && c.looked.Attachments%pageSize == 0 {
		c.tell(c.looked)
	}
}

func (c *Counts) add(n Counts) {
	c.Threads += n.Threads
	c.Items += n.Items
	c.Attachments += n.Attachments
}
