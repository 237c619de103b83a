package cache

import (
	"context"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func (l *cached) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	const op = store.OpLoadThread
	h := layer.HintsFor(ctx, op)
	var p place
	w := l.locate(&p, h, coherence.ThreadCounter, threadID)
	// An id that has an entry is valid, so a hit needs no check.
	if e := l.lookup(&p, h, w); e != nil && e.hasThread && ctx.Err() == nil {
		l.hit(h, ofThread, &p, e)
		return e.thread, nil
	}
	if err := checks.Thread(ctx, op, threadID); err != nil {
		return chat.Thread{}, err
	}
	return l.missThread(ctx, h, p, w)
}

// missThread is a function of its own so that a hit allocates no closures.
func (l *cached) missThread(ctx context.Context, h layer.Hints, p place, w generation.Counter) (chat.Thread, error) {
	p = p.kept()
	id := p.key.id
	m := miss[string, chat.Thread]{
		Read: coherence.Read[string]{Op: store.OpLoadThread, Kind: store.RowThread, ID: id, Counter: w, Args: id},
		kind: ofThread, hints: h, place: p, calls: &l.threads, load: store.Store.LoadThread,
		fill: func(e *entry, t *chat.Thread, id string) bool {
			e.thread, e.hasThread = *t, true
			return t.ID == id
		},
		from: func(e *entry, _ string) (chat.Thread, bool) { return e.thread, e.hasThread },
	}
	return m.answer(ctx, l)
}

func (l *cached) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	return l.next.LoadThreads(ctx, q)
}

func (l *cached) SaveThread(ctx context.Context, thread chat.Thread) error {
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	t := w.Thread
	h := layer.HintsFor(ctx, store.OpSaveThread)
	var p place
	l.locate(&p, h, coherence.ThreadCounter, t.ID)
	return l.write(ctx, h, p,
		func(ctx context.Context) error { return l.next.SaveThread(ctx, t) },
		func(e *entry) {
			switch {
			case e.hasThread:
				stored := e.thread.Owner
				e.thread = t
				e.thread.Owner = stored
			case !t.Owner.IsZero(): // the base accepted this owner, so it is the stored one
				e.thread, e.hasThread = t, true
				// The caller may have cut the owner's strings from a longer text, which would stay in memory.
				e.thread.Owner = chat.Owner{Tenant: strings.Clone(t.Owner.Tenant), Subject: strings.Clone(t.Owner.Subject)}
			}
		})
}

func (l *cached) DeleteThread(ctx context.Context, threadID string) error {
	const op = store.OpDeleteThread
	if _, err := checks.DeleteThread(ctx, threadID); err != nil {
		return err
	}
	h := layer.HintsFor(ctx, op)
	var p place
	l.locate(&p, h, coherence.ThreadCounter, threadID)
	return l.write(ctx, h, p,
		func(ctx context.Context) error { return l.next.DeleteThread(ctx, threadID) }, nil)
}
