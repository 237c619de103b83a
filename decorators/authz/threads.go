package authz

import (
	"context"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/store"
)

func (l *layer) LoadThread(ctx context.Context, threadID string) (store.Thread, error) {
	if err := store.CheckID(store.OpLoadThread, store.KindOfThread, threadID); err != nil {
		return store.Thread{}, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadThread, store.KindOfThread, threadID); err != nil {
		return store.Thread{}, err
	}
	// A version tells that a thread is, or was, there: it waits for the verdict.
	var versions *coherence.Recorder
	inner := ctx
	if c.hints.Recording() {
		versions = new(coherence.Recorder)
		inner = versions.Listen(ctx)
	}
	t, err := l.next.LoadThread(inner, threadID)
	found := err == nil
	switch {
	case found && t.ID != threadID:
		return store.Thread{}, l.stray(&c)
	case !found && !missing(err):
		return store.Thread{}, c.base(err)
	case !found:
		t = store.Thread{} // whatever came with the error
	}
	if ok, err := l.may(ctx, c.about(Read, threadID, t.Owner), found, store.CodeNotFound); err != nil {
		return store.Thread{}, err
	} else if !ok {
		return store.Thread{}, c.error(store.CodeNotFound)
	}
	if versions != nil {
		coherence.Forward(c.hints, versions.Reports())
	}
	return t, nil
}

func (l *layer) SaveThread(ctx context.Context, thread store.Thread) error {
	thread, err := store.NormalizeThread(store.OpSaveThread, thread)
	if err != nil {
		return err
	}
	if err := store.CheckSaveMode(ctx, store.OpSaveThread, store.KindOfThread, thread.ID); err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpSaveThread, store.KindOfThread, thread.ID); err != nil {
		return err
	}
	return l.save(ctx, &c, row{
		threadID: thread.ID,
		owner:    thread.Owner,
		stored: func(ctx context.Context) (store.Owner, bool, error) {
			return l.threadOwner(ctx, &c, thread.ID)
		},
		write: func(ctx context.Context, o store.Owner) error {
			thread.Owner = o
			if c.hints.Recording() {
				var versions coherence.Recorder // a refusal must not tell that there was a thread
				err := l.next.SaveThread(versions.Listen(ctx), thread)
				if err == nil {
					coherence.Forward(c.hints, versions.Reports())
				}
				return err
			}
			return l.next.SaveThread(ctx, thread)
		},
	})
}

func (l *layer) DeleteThread(ctx context.Context, threadID string) error {
	if err := store.CheckID(store.OpDeleteThread, store.KindOfThread, threadID); err != nil {
		return err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpDeleteThread, store.KindOfThread, threadID); err != nil {
		return err
	}
	owner, found, err := l.threadOwner(ctx, &c, threadID)
	if err != nil {
		return err
	}
	if ok, err := l.may(ctx, c.about(Delete, threadID, owner), found, store.CodeOK); !ok {
		return err
	}
	return c.base(l.next.DeleteThread(ctx, threadID))
}

func (l *layer) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[store.Thread], error) {
	none := store.Page[store.Thread]{}
	q, err := store.NormalizeThreadQuery(q)
	if err != nil {
		return none, err
	}
	var c call
	if err := l.begin(ctx, &c, store.OpLoadThreads, store.KindOfThread, ""); err != nil {
		return none, err
	}
	if q.Owner == (store.OwnerFilter{}) {
		q.Owner = store.OwnedBy(c.Principal.Owner)
	}
	c.about(List, "", store.Owner{})
	f, ok, err := scope(ctx, l.policy, c.Principal, q.Owner)
	if err != nil {
		return none, l.fail(ctx, &c, err)
	}
	if !ok {
		missed := c.missedPage(store.KindOfThread, q.After)
		l.deny(ctx, &c, ReasonScope, store.CodeOf(missed))
		return none, missed
	}
	l.counts.allowed.Add(1)
	q.Owner = f
	page, err := l.next.LoadThreads(ctx, q)
	if err != nil {
		return none, c.basePage(err, store.KindOfThread, q.After)
	}
	for _, t := range page.Data {
		if !f.Match(t.Owner) {
			return none, l.stray(&c)
		}
	}
	return page, nil
}
