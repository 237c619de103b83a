package authz

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// row is a thread or an attachment about to be saved.
type row struct {
	threadID string     // "" for attachments
	owner    chat.Owner // as the caller gave it
	stored   func(context.Context) (o chat.Owner, found bool, err error)
	write    func(ctx context.Context, o chat.Owner) error
}

// save saves a row: an existing one UpdateOnly and with its own owner, a missing one InsertOnly. So the row that was decided about
// is the row that is written, and an editor's save after the owner's delete does not restore the row. Where an Upsert finds
// that the row came or went since the look, it looks again.
func (l *guarded) save(ctx context.Context, c *call, r row) error {
	again, err := l.saveOnce(ctx, ctx, c, r)
	if again {
		// What is cached may be what the write has just disproved.
		again, err = l.saveOnce(ctx, store.WithFresh(ctx), c, r)
	}
	if again && (r.owner.IsZero() || r.owner == c.Principal.Owner) {
		return l.saveOwn(ctx, c, r)
	}
	return err
}

// saveOnce looks, asks and writes; again says that err may only mean that the row came or went since the look.
func (l *guarded) saveOnce(ctx, look context.Context, c *call, r row) (again bool, err error) {
	owner, found, err := r.stored(look)
	if err != nil {
		return false, err
	}
	v, err := l.judge(ctx, c.about(Write, r.threadID, owner), found)
	switch v {
	case failed:
		return false, l.fail(ctx, c, err)
	case readOnly:
		l.deny(ctx, c, ReasonReadOnly, store.CodeDenied)
		return false, c.error(store.CodeDenied)
	case allowed:
		l.counts.allowed.Add(1)
		return l.replace(ctx, c, r, owner)
	}
	if store.SaveModeFrom(ctx) == store.UpdateOnly {
		if v == hidden {
			l.deny(ctx, c, ReasonHidden, store.CodeNotFound)
		} else {
			l.counts.absent.Add(1)
		}
		return false, c.error(store.CodeNotFound)
	}
	// Who may not create the row learns nothing of one that is there, either: this comes before the conflict.
	if r.owner.IsZero() {
		r.owner = c.Principal.Owner
	}
	if err := l.mayCreate(ctx, c, r); err != nil {
		return false, err
	}
	if v == hidden {
		l.deny(ctx, c.about(Write, r.threadID, owner), ReasonHidden, store.CodeConflict)
		return false, c.error(store.CodeConflict)
	}
	l.counts.allowed.Add(1)
	err = r.write(store.WithSaveMode(ctx, store.InsertOnly), r.owner)
	again = store.SaveModeFrom(ctx) == store.Upsert && store.CodeOf(err) == store.CodeConflict
	return again, c.base(err)
}

// replace saves over a row of owner's.
func (l *guarded) replace(ctx context.Context, c *call, r row, owner chat.Owner) (again bool, err error) {
	mode := store.SaveModeFrom(ctx)
	if mode == store.InsertOnly || !r.owner.IsZero() && r.owner != owner {
		return false, c.error(store.CodeConflict)
	}
	err = r.write(store.WithSaveMode(ctx, store.UpdateOnly), owner)
	// An owner's own save may come after their delete.
	again = mode == store.Upsert && owner == c.Principal.Owner && store.CodeOf(err) == store.CodeNotFound
	return again, c.base(err)
}

// saveOwn saves a row of the caller's own that comes and goes faster than one can look, or whose id was another's. The
// policy must allow the save whether the row is there or not; that it is no other's, the base decides with the write.
func (l *guarded) saveOwn(ctx context.Context, c *call, r row) error {
	r.owner = c.Principal.Owner
	if err := l.mayCreate(ctx, c, r); err != nil {
		return err
	}
	ok, err := l.may(ctx, c.about(Write, r.threadID, r.owner), true, store.CodeConflict)
	if err != nil {
		return err
	}
	if !ok {
		return c.error(store.CodeConflict)
	}
	return c.base(r.write(ctx, r.owner))
}

// mayCreate returns an error unless the caller may insert the row.
func (l *guarded) mayCreate(ctx context.Context, c *call, r row) error {
	d, err := decide(ctx, l.policy, &c.about(Create, r.threadID, r.owner).Request)
	if err != nil {
		return l.fail(ctx, c, err)
	}
	if d != Allow {
		l.deny(ctx, c, ReasonCreate, store.CodeDenied)
		return c.error(store.CodeDenied)
	}
	return nil
}
