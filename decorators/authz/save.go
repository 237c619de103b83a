package authz

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// row is a thread or an attachment to be saved.
type row struct {
	threadID    string     // "" for attachments
	owner       chat.Owner // as the caller passed it
	conditional bool       // the save is under store.IfVersion
	stored      func(context.Context) (o chat.Owner, found bool, err error)
	write       func(ctx context.Context, o chat.Owner) error
}

// save saves an existing row UpdateOnly, with its stored owner, and a missing row InsertOnly. So the row that is written is the
// row that was checked, and an editor's save cannot restore a row that its owner has deleted. If the row appeared or
// disappeared since it was loaded, an Upsert tries again.
func (l *guarded) save(ctx context.Context, c *call, r row) error {
	again, err := l.saveOnce(ctx, ctx, c, r)
	if again {
		// The write has just shown that a cache's entry is out of date.
		again, err = l.saveOnce(ctx, store.WithFresh(ctx), c, r)
	}
	if again && (r.owner.IsZero() || r.owner == c.Principal.Owner) {
		return l.saveOwn(ctx, c, r)
	}
	return err
}

// saveOnce loads the row with the context look, asks the policy and writes. If again is true, err may only mean that the row
// appeared or disappeared since it was loaded.
func (l *guarded) saveOnce(ctx, look context.Context, c *call, r row) (again bool, err error) {
	owner, found, err := r.stored(look)
	if err != nil {
		return false, err
	}
	v, err := l.judge(ctx, c.about(Write, r.threadID, owner), found)
	switch v {
	case failed:
		return false, l.fail(ctx, c, err)
	case broken:
		return false, err
	case readOnly:
		l.deny(ctx, c, ReasonReadOnly, store.CodeDenied)
		return false, c.error(store.CodeDenied)
	case allowed:
		l.counts.allowed.Add(0, 1)
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
	// This comes before the conflict: a caller that may not create the row must not learn that one exists.
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
	l.counts.allowed.Add(0, 1)
	err = r.write(store.WithSaveMode(ctx, store.InsertOnly), r.owner)
	// A save under a condition has only one try: if the row has appeared since, its version is wrong. A second try after another
	// conflict would reveal by its time that a stranger's guess of a deleted thread's version was right.
	again = store.SaveModeFrom(ctx) == store.Upsert && store.CodeOf(err) == store.CodeConflict && !r.conditional
	return again, c.base(err) // without the field of a wrong version: the id may be another owner's
}

// replace replaces a stored row of owner.
func (l *guarded) replace(ctx context.Context, c *call, r row, owner chat.Owner) (again bool, err error) {
	mode := store.SaveModeFrom(ctx)
	own := owner == c.Principal.Owner
	switch {
	case !r.owner.IsZero() && r.owner != owner, mode == store.InsertOnly && !(r.conditional && own):
		return false, c.error(store.CodeConflict)
	case mode == store.InsertOnly: // the base says whether the version is wrong; it inserts if the row has been deleted since
		r.owner = owner
		if err := l.mayCreate(ctx, c, r); err != nil {
			return false, err
		}
		return false, c.changed(r.write(ctx, owner))
	}
	err = r.write(store.WithSaveMode(ctx, store.UpdateOnly), owner)
	// The owner may have deleted the row at the same time. Their Upsert then inserts it.
	again = mode == store.Upsert && own && store.CodeOf(err) == store.CodeNotFound
	return again, c.changed(err)
}

// saveOwn passes an Upsert of the caller's own row to the base. It is used if the row appears and disappears between loads and
// writes, or if its id was another owner's. The policy must allow the save for an existing and for a missing row. The write
// itself checks the owner.
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
	d, err := l.ask(ctx, c, &c.about(Create, r.threadID, r.owner).Request)
	if err != nil {
		return l.fail(ctx, c, err)
	}
	if d != Allow {
		l.deny(ctx, c, ReasonCreate, store.CodeDenied)
		return c.error(store.CodeDenied)
	}
	return nil
}
