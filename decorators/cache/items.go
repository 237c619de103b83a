package cache

import (
	"context"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func (l *cached) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	h := layer.HintsFor(ctx, store.OpLoadThreadItems)
	var p place
	w := l.locate(&p, h, coherence.ThreadCounter, threadID)
	larger := false // the thread is known to be larger than a window
	if e := l.lookup(&p, h, w); e != nil {
		if page, ok := e.window.page(q); ok {
			l.hit(h, ofItems, &p, e)
			return page, nil
		}
		larger = e.window.older == olderSome
	}
	return l.missItems(ctx, h, p, w, q, larger)
}

type pageArgs struct {
	thread string
	query  store.PageQuery
	window int // the cache's
}

func (l *cached) missItems(ctx context.Context, h layer.Hints, p place, w generation.Counter, q store.PageQuery,
	larger bool) (store.Page[chat.Item], error) {
	p = p.kept()
	id := p.key.id
	// Ask for a whole window, unless the answer cannot become one.
	ask := q
	if q.After == "" && !h.NoStore() && l.serving.Load() && (q.Order == store.NewestFirst || !larger) {
		ask.Limit = max(q.Limit, l.cfg.window)
	}
	m := miss[pageArgs, store.Page[chat.Item]]{
		Read: coherence.Read[pageArgs]{Op: store.OpLoadThreadItems, Kind: store.RowThread, ID: id, Counter: w,
			Args: pageArgs{id, ask, l.cfg.window}},
		kind: ofItems, hints: h, place: p, calls: &l.pages,
		load: func(next store.Store, ctx context.Context, a pageArgs) (store.Page[chat.Item], error) {
			return next.LoadThreadItems(ctx, a.thread, a.query)
		},
		fill: func(e *entry, page *store.Page[chat.Item], a pageArgs) bool {
			if a.query.After != "" || len(page.Data) == 0 { // the thread of an empty page may be missing
				return false
			}
			e.window, e.hasWindow = windowOf(a.thread, a.query.Order, *page, a.window)
			return e.hasWindow
		},
		from: func(e *entry, a pageArgs) (store.Page[chat.Item], bool) { return e.window.page(a.query) },
	}
	page, err := m.answer(ctx, l)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	if len(page.Data) > q.Limit { // the load asked for more
		page = pageOf(page.Data[:q.Limit], true)
	}
	page.Data = slices.Clone(page.Data) // other callers share the slice
	return page, nil
}

func (l *cached) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	const op = store.OpLoadItem
	if err := checks.Item(ctx, op, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	h := layer.HintsFor(ctx, op)
	var p place
	w := l.locate(&p, h, coherence.ThreadCounter, threadID)
	if e := l.lookup(&p, h, w); e != nil {
		if it, ok := e.item(itemID); ok {
			l.hit(h, ofItem, &p, e)
			return it, nil
		}
	}
	return l.missItem(ctx, h, p, w, itemID)
}

type itemArgs struct{ thread, item string }

func (l *cached) missItem(ctx context.Context, h layer.Hints, p place, w generation.Counter, itemID string) (chat.Item, error) {
	p = p.kept()
	id := p.key.id
	m := miss[itemArgs, chat.Item]{
		Read: coherence.Read[itemArgs]{Op: store.OpLoadItem, Kind: store.RowItem, ID: itemID, Counter: w, Args: itemArgs{id, itemID}},
		kind: ofItem, hints: h, place: p, calls: &l.items,
		load: func(next store.Store, ctx context.Context, a itemArgs) (chat.Item, error) {
			return next.LoadItem(ctx, a.thread, a.item)
		},
		fill: func(e *entry, it *chat.Item, a itemArgs) bool {
			e.loose = []chat.Item{*it}
			return it.ID == a.item && it.ThreadID == a.thread
		},
		from: func(e *entry, a itemArgs) (chat.Item, bool) { return e.item(a.item) },
	}
	return m.answer(ctx, l)
}

func (l *cached) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return l.saveItem(ctx, store.OpAddThreadItem, threadID, item)
}

func (l *cached) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return l.saveItem(ctx, store.OpSaveItem, threadID, item)
}

// saveItem is AddThreadItem or SaveItem, as op says.
func (l *cached) saveItem(ctx context.Context, op store.Op, threadID string, item chat.Item) error {
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	it, added := w.Item, op == store.OpAddThreadItem
	h := layer.HintsFor(ctx, op)
	var p place
	l.locate(&p, h, coherence.ThreadCounter, threadID)
	return l.write(ctx, h, p,
		func(ctx context.Context) error {
			if added {
				return l.next.AddThreadItem(ctx, threadID, it)
			}
			return l.next.SaveItem(ctx, threadID, it)
		},
		func(e *entry) {
			e.loose = withoutLoose(e.loose, it.ID)
			e.window, e.hasWindow = e.window.put(it, added, l.cfg.window)
		})
}

func (l *cached) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	const op = store.OpDeleteThreadItem
	if _, err := checks.DeleteItem(ctx, threadID, itemID); err != nil {
		return err
	}
	h := layer.HintsFor(ctx, op)
	var p place
	l.locate(&p, h, coherence.ThreadCounter, threadID)
	return l.write(ctx, h, p,
		func(ctx context.Context) error { return l.next.DeleteThreadItem(ctx, threadID, itemID) },
		func(e *entry) { e.loose, e.window = withoutLoose(e.loose, itemID), e.window.remove(itemID) })
}
