package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// allAttachments makes the target's attachments as the source's.
func (c *copier) allAttachments(ctx context.Context) error {
	err := each(ctx, c.parallel, func(ctx context.Context) iter.Seq2[pair[chat.Attachment], error] {
		from, to := Attachments(ctx, c.from, store.AnyOwner()), Attachments(ctx, c.to, store.AnyOwner())
		return merge(from, to, func(a, b chat.Attachment) (int, error) { return cmp.Compare(a.ID, b.ID), nil })
	}, func(ctx context.Context, p pair[chat.Attachment]) error {
		if p.from.ID == "" {
			return nil
		}
		if p.to.ID != "" && p.from.Owner == p.to.Owner && p.from.JSON() == p.to.JSON() {
			c.count(Copied{Same: Counts{Attachments: 1}})
		} else if err := c.attachment(ctx, p.from.ID, nil); err != nil {
			return err
		}
		c.look(Counts{Attachments: 1})
		return nil
	})
	if err == nil && c.looked.Attachments%pageSize != 0 {
		c.tell(c.looked)
	}
	return err
}

// attachment makes the target's attachment as the source's. If both have none, the target gets the tombstone dead, unless it is nil.
func (c *copier) attachment(ctx context.Context, id string, dead *driver.Tombstone) error {
	ctx, _ = reading(ctx)
	return c.again(ctx, store.RowAttachment, id, func() error {
		have, err := c.to.LoadAttachment(ctx, id)
		has, err := found(err)
		if err != nil {
			return err
		}
		want, err := c.from.LoadAttachment(ctx, id)
		is, err := found(err)
		switch {
		case err != nil:
			return err
		case is && has && have.Owner != want.Owner:
			return conflict(store.RowAttachment, id)
		case is && has && have.JSON() == want.JSON():
			c.count(Copied{Same: Counts{Attachments: 1}})
		case is:
			if err = c.to.SaveAttachment(ctx, want); err == nil {
				c.count(Copied{Saved: Counts{Attachments: 1}})
			}
			if err == nil && !has && want.Owner.IsZero() { // such a save revives a deleted id for its last owner
				if have, err = c.to.LoadAttachment(ctx, id); err == nil && !have.Owner.IsZero() {
					return errors.Join(conflict(store.RowAttachment, id), doubtful(c.to.DeleteAttachment(ctx, id)))
				}
			}
		case has && dead != nil && !dead.Erased && have.Owner != dead.Owner:
			return conflict(store.RowAttachment, id)
		case has:
			if err = c.to.DeleteAttachment(ctx, id); err == nil {
				c.count(Copied{Deleted: Counts{Attachments: 1}})
			}
		case dead != nil && c.buries:
			stub, err := chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: "deleted", MIMEType: "text/plain"})
			if err != nil {
				return err
			}
			stub.Owner = dead.Owner
			if err = c.to.SaveAttachment(ctx, stub); err == nil {
				err = c.to.DeleteAttachment(ctx, id)
			}
			return doubtful(err)
		}
		return doubtful(err)
	})
}

// grants makes the target's grants of a thread as the source's. It revokes from the oldest one that differs on, and grants the
// source's behind, so that listings have the same order.
func (c *copier) grants(ctx context.Context, id string) error {
	if c.fromGrants == nil {
		return nil
	}
	return c.again(ctx, store.RowThread, id, func() error {
		want, err := grantees(ctx, c.fromGrants, id)
		if err != nil {
			return err
		}
		if c.toGrants == nil {
			if len(want) > 0 {
				return fmt.Errorf("lifecycle: the target cannot keep the grants of the thread %q: %w", id, errors.ErrUnsupported)
			}
			return nil
		}
		have, err := grantees(ctx, c.toGrants, id)
		if err != nil {
			return err
		}
		n := 0
		for n < min(len(want), len(have)) && want[n] == have[n] {
			n++
		}
		if n == len(want) && n == len(have) {
			return nil
		}
		for _, g := range have[n:] {
			if err := c.toGrants.Revoke(ctx, id, g.To); err != nil {
				return doubtful(err)
			}
		}
		for _, g := range want[n:] {
			if err := wait(ctx, time.Microsecond); err != nil { // listings are in the order of times
				return err
			}
			if err := c.toGrants.Grant(ctx, g); errors.Is(err, store.ErrNotFound) && !c.fenced {
				return nil // deleted meanwhile
			} else if err != nil {
				return doubtful(err)
			}
		}
		return nil
	})
}

// grantees returns the thread's grants without what a store fills in, the oldest first.
func grantees(ctx context.Context, s sharing.Grants, id string) (all []sharing.Grant, err error) {
	for after := ""; ; {
		p, err := s.Grantees(ctx, id, after, store.MaxLimit)
		if err != nil {
			return nil, err
		}
		for _, g := range p.Data {
			g.At, g.Version = time.Time{}, 0
			all = append(all, g)
		}
		if after = p.After; !p.HasMore {
			slices.Reverse(all)
			return all, nil
		}
	}
}
