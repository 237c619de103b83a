package lifecycle

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// erasedAtOnce is how many erased ids get one owner, with which they are erased in one transaction.
const erasedAtOnce = 1000

// tombstones deletes at the target what the source has deleted, and makes the source's tombstones there.
func (c *copier) tombstones(ctx context.Context) error {
	var erased atomic.Int64
	owners := rand.Text()
	kinds := []string{store.RowThread, store.RowAttachment}
	if !c.attachments {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		pairs := func(ctx context.Context) iter.Seq2[pair[driver.Tombstone], error] { return c.bothTombstones(ctx, kind) }
		err := each(ctx, c.parallel, pairs, func(ctx context.Context, p pair[driver.Tombstone]) error {
			var dead *driver.Tombstone
			switch {
			case p.from.ID == "", p.to.Erased:
				return nil
			case p.from.Erased:
				n := erased.Add(1)
				if p.to.ID != "" {
					return nil // it is erased with its owner
				}
				dead = &driver.Tombstone{Owner: chat.Owner{Subject: fmt.Sprint("erased-", owners, "-", n/erasedAtOnce)}, CreatedAt: p.from.CreatedAt, Erased: true}
			case p.to.ID != "" && (p.to.Owner != p.from.Owner || p.to.CreatedAt.Equal(p.from.CreatedAt)):
				return nil
			default:
				dead = &p.from
			}
			if kind == store.RowAttachment {
				return c.attachment(ctx, p.from.ID, dead)
			}
			return c.copy(ctx, p.from.ID, dead)
		})
		if err != nil {
			return err
		}
	}
	if erased.Load() == 0 {
		return nil
	}
	return c.erase(ctx)
}

// tombstonesOf returns the tombstones of a store in the order of ids. It returns none if the store cannot list them.
func tombstonesOf(ctx context.Context, s store.Store, kind string) iter.Seq2[driver.Tombstone, error] {
	l, ok := store.As[driver.Tombstones](s)
	return rows(ctx, store.OldestFirst, func(ctx context.Context, q store.PageQuery) (p store.Page[driver.Tombstone], err error) {
		if q.Limit = store.MaxLimit; ok {
			return l.ListTombstones(ctx, kind, q)
		}
		return p, nil
	})
}

func (c *copier) bothTombstones(ctx context.Context, kind string) iter.Seq2[pair[driver.Tombstone], error] {
	return merge(tombstonesOf(ctx, c.from, kind), tombstonesOf(ctx, c.to, kind), func(a, b driver.Tombstone) (int, error) { return cmp.Compare(a.ID, b.ID), nil })
}

// erase erases an owner at the target if the source has erased every id that the target has of it. So no id is lost that the
// owner may still use: an erased id stays erased at the source.
func (c *copier) erase(ctx context.Context) error {
	eraser, ok := store.As[driver.Eraser](c.to)
	if _, lists := store.As[driver.AttachmentLister](c.to); !ok || !lists {
		return nil
	}
	whole := map[chat.Owner]bool{}
	for _, kind := range []string{store.RowThread, store.RowAttachment} {
		for p, err := range c.bothTombstones(ctx, kind) {
			if err != nil {
				return err
			}
			if !p.to.Owner.IsZero() {
				all, seen := whole[p.to.Owner]
				whole[p.to.Owner] = (all || !seen) && p.from.Erased
			}
		}
	}
	scrub := false // once, because it takes long
	for owner, all := range whole {
		if !all {
			continue
		}
		live, err := c.hasRows(ctx, owner)
		if err == nil && !live {
			scrub = true
			err = c.again(ctx, "", "", func() error { return doubtful(errOf(eraser.EraseOwner(ctx, owner))) })
		}
		if err != nil {
			return err
		}
	}
	if scrubber, ok := store.As[driver.Scrubber](c.to); ok && scrub {
		return scrubber.Scrub(ctx)
	}
	return nil
}

// hasRows reports whether the target has live rows of the owner.
func (c *copier) hasRows(ctx context.Context, owner chat.Owner) (bool, error) {
	for _, err := range Threads(ctx, c.to, store.OwnedBy(owner)) {
		return true, err
	}
	for _, err := range Attachments(ctx, c.to, store.OwnedBy(owner)) {
		return true, err
	}
	return false, nil
}
