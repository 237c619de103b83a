package authz

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

func (l *guarded) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	if err := checks.Thread(ctx, store.OpLoadThread, threadID); err != nil {
		return chat.Thread{}, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadThread, store.RowThread, threadID); err != nil {
		return chat.Thread{}, err
	}
	inner, versions := c.listen(ctx)
	t, err := l.next.LoadThread(inner, threadID)
	found := err == nil
	switch {
	case found && t.ID != threadID:
		return chat.Thread{}, l.stray(&c)
	case !found && !missing(err):
		return chat.Thread{}, c.base(err)
	case !found:
		t = chat.Thread{} // a value beside an error must not reach the policy
	}
	if ok, err := l.may(ctx, c.about(Read, threadID, t.Owner), found, store.CodeNotFound); err != nil {
		return chat.Thread{}, err
	} else if !ok {
		return chat.Thread{}, c.error(store.CodeNotFound)
	}
	if least := c.told.least(); least > 0 && !reached(versions, threadID, least) {
		return l.loadShared(ctx, &c, t.Owner)
	}
	c.tell(versions, nil)
	return t, nil
}

// loadShared loads the thread for a caller whom a grant allows. The read before it did not hear a version as high as the grant's:
// it listens only for callers that do, as owners need no version.
func (l *guarded) loadShared(ctx context.Context, c *call, owner chat.Owner) (chat.Thread, error) {
	t, err := since(ctx, c, func(ctx context.Context) (chat.Thread, error) { return l.next.LoadThread(ctx, c.ThreadID) })
	switch {
	case err == nil && t.ID != c.ThreadID:
		return chat.Thread{}, l.stray(c)
	case err == nil && t.Owner == owner:
		return t, nil
	case err == nil || missing(err):
		return chat.Thread{}, c.error(store.CodeNotFound) // the policy was asked about another row
	}
	return chat.Thread{}, c.base(err)
}

func (l *guarded) SaveThread(ctx context.Context, thread chat.Thread) error {
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	thread = w.Thread
	var c call
	if err := l.begin(ctx, &c, store.OpSaveThread, store.RowThread, thread.ID); err != nil {
		return err
	}
	return l.save(ctx, &c, row{
		threadID:    thread.ID,
		owner:       thread.Owner,
		conditional: w.Condition.Set,
		stored: func(ctx context.Context) (chat.Owner, bool, error) {
			return l.threadOwner(ctx, &c, thread.ID)
		},
		write: func(ctx context.Context, o chat.Owner) error {
			thread.Owner = o
			ctx, versions := c.listen(ctx)
			err := l.next.SaveThread(ctx, thread)
			c.tell(versions, err)
			return err
		},
	})
}

func (l *guarded) DeleteThread(ctx context.Context, threadID string) error {
	if _, err := checks.DeleteThread(ctx, threadID); err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpDeleteThread, store.RowThread, threadID); err != nil {
		return err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return err
	}
	if ok, err := l.may(ctx, c.about(Delete, threadID, owner), found, store.CodeOK); !ok {
		return err
	}
	ctx, versions := c.listen(ctx)
	err = l.next.DeleteThread(ctx, threadID)
	c.tell(versions, err)
	return c.changed(err)
}

func (l *guarded) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	none := store.Page[chat.Thread]{}
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return none, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadThreads, store.RowThread, ""); err != nil {
		return none, err
	}
	if q.Owner == (store.OwnerFilter{}) {
		q.Owner = store.OwnedBy(c.Principal.Owner)
	}
	c.about(List, "", chat.Owner{})
	f, ok, err := scope(ctx, l.policy, c.Principal, q.Owner)
	if err != nil {
		return none, l.fail(ctx, &c, err)
	}
	if !ok {
		missed := c.missedPage(store.RowThread, q.After)
		l.deny(ctx, &c, ReasonScope, store.CodeOf(missed))
		return none, missed
	}
	l.counts.allowed.Add(0, 1)
	q.Owner = f
	page, err := l.next.LoadThreads(ctx, q)
	if err != nil {
		return none, c.basePage(err, store.RowThread, q.After)
	}
	for _, t := range page.Data {
		if !f.Match(t.Owner) {
			return none, l.stray(&c)
		}
	}
	return page, nil
}
