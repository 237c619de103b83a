package authz

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// judgeNamed judges an attachment that the caller may not read by its owner. It can be readable as an attachment of the thread
// that it names. A missing attachment, or one that names no thread, costs the same calls as a hidden one.
func (l *guarded) judgeNamed(ctx context.Context, c *call, found bool) (verdict, error) {
	owner, q := c.Owner, *c
	names := found && c.names != ""
	if !names {
		q.names = c.id
	}
	threadOwner, live, err := l.threadOwner(ctx, &q, q.names)
	if err != nil {
		return broken, err
	}
	if live = live && names; !live {
		threadOwner = chat.Owner{}
	}
	d, err := l.ask(ctx, &q, &q.about(Read, q.names, threadOwner).Request)
	switch {
	case err != nil:
		return failed, err
	case !found:
		return absent, nil
	case d != Allow || !live:
		return hidden, nil
	}
	if ok, err := mayAttach(ctx, c.told.lookups(), q.names, threadOwner, owner); err != nil {
		return failed, err
	} else if !ok {
		return hidden, nil
	}
	// Attachments have no versions, so a row of a cache can be older than the grant. Only a row that is read now is shown.
	a, err := l.next.LoadAttachment(store.WithFresh(layer.Own(ctx)), c.id)
	switch {
	case err == nil && a.ID != c.id:
		return broken, l.stray(c)
	case err != nil && !missing(err):
		return broken, c.before(err)
	case err != nil || a.ThreadID != c.names || a.Owner != owner:
		return hidden, nil
	}
	if c.Action != Read {
		return readOnly, nil
	}
	c.fresh = &a
	return allowed, nil
}

// mayAttach reports whether by's attachments belong to the thread: by owns it, or is an editor by a grant of their own. Who is an
// editor by a group or tenant is not known without their roles.
func mayAttach(ctx context.Context, grants []sharing.Lookup, threadID string, owner, by chat.Owner) (ok bool, err error) {
	defer recovered(&err)
	if by == owner || by.IsZero() {
		return by == owner && !by.IsZero(), nil
	}
	for _, g := range grants {
		a, err := g.Access(layer.Own(ctx), store.Principal{Owner: by}, threadID)
		if err != nil || a.Direct == sharing.Editor {
			return err == nil, err
		}
	}
	return false, nil
}

// mayName returns an error unless the caller may write the thread, which an attachment is to name. Without Shared, the name grants
// nothing and is not checked.
func (l *guarded) mayName(ctx context.Context, c *call, threadID string) error {
	if threadID == "" || !l.mayShare {
		return nil
	}
	q := *c
	q.kind, q.id = store.RowThread, threadID
	owner, found, err := l.threadOwner(ctx, &q, threadID)
	if err != nil {
		return err
	}
	v, err := l.judge(ctx, q.about(Write, threadID, owner), found)
	if (v == hidden || v == absent) && len(q.told.lookups()) == 0 {
		return nil
	}
	ok, err := l.settle(ctx, &q, v, err, store.CodeNotFound)
	if err == nil && !ok {
		return q.error(store.CodeNotFound)
	}
	return err
}
