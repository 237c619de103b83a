package cache

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/flight"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

var checks driver.Checks

type stacked struct {
	next     store.Store
	cfg      config
	core     coherence.Core
	mayPatch bool
	shards   []*shard
	clock    time.Time // where the layer's clock is 0
	stats    stats

	state   sync.Mutex  // held where serving or closed change
	serving atomic.Bool // false: pass the cache by
	closed  atomic.Bool
	lease   bus.Leaser // ends serving by itself; nil without one
	origin  string     // of this cache on the bus
	writes  atomic.Uint64
	unsure  numbers // of writes that ended unknown
	stop    func()  // ends the subscription; nil without a bus

	reminders reminders

	threads     flight.Group[*coherence.Answer[chat.Thread]]
	items       flight.Group[*coherence.Answer[chat.Item]]
	pages       flight.Group[*coherence.Answer[store.Page[chat.Item]]]
	attachments flight.Group[*coherence.Answer[chat.Attachment]]
}

var (
	_ store.Store         = (*stacked)(nil)
	_ store.Unwrapper     = (*stacked)(nil)
	_ store.Named         = (*stacked)(nil)
	_ layer.Sharer        = (*stacked)(nil)
	_ layer.StatsReporter = (*stacked)(nil)
)

func (l *stacked) Unwrap() store.Store     { return l.next }
func (l *stacked) LayerName() string       { return "cache" }
func (l *stacked) ShareBetweenPrincipals() { l.core.Share() }

// Close empties the cache, stops its timers and its subscription, and lets calls pass through from now on.
func (l *stacked) Close() error {
	l.state.Lock()
	was := l.closed.Swap(true)
	l.serving.Store(false)
	l.state.Unlock()
	if was {
		return nil
	}
	if l.stop != nil {
		l.stop()
	}
	l.reminders.close()
	l.core.Words.Close()
	for _, s := range l.shards {
		s.flush()
	}
	return nil
}

// now is the layer's clock, which never stands at 0 once an entry has been loaded.
func (l *stacked) now() time.Duration { return time.Since(l.clock) + 1 }

// serves reports whether entries may answer at the time now.
func (l *stacked) serves(now time.Duration) bool {
	return l.serving.Load() && (l.lease == nil || now < l.lease.LeasedUntil().Sub(l.clock)+1)
}

// bypassed reports whether a read passes the cache by.
func (l *stacked) bypassed(h layer.Hints) bool {
	return h.Fresh() || !l.serving.Load() || l.lease != nil && !l.serves(l.now())
}

// expiry returns when what was loaded at begin expires. Jitter only shortens.
func (l *stacked) expiry(begin time.Duration) time.Duration {
	if l.cfg.ttl == 0 {
		return 0
	}
	jitter := rand.Float64
	if l.cfg.jitter != nil {
		jitter = l.cfg.jitter
	}
	return begin + l.cfg.ttl - time.Duration(jitter()*float64(l.cfg.ttl)/10)
}

// place is where a call finds what it is about.
type place struct {
	key   key
	slot  generation.Slot
	shard *shard
}

func (l *stacked) place(h layer.Hints, kind byte, id string) place {
	slot := l.core.Words.Slot(kind, id)
	return place{
		key:  key{l.core.Partition(h), kind, id},
		slot: slot,
		// A word's ids share a shard. The upper bits of the hash would do as well, but the table has cut them off.
		shard: l.shards[uint64(slot)&uint64(len(l.shards)-1)],
	}
}

// kept returns the place with an id of its own. The caller's may be cut from a text, an item's or a request's body, that would
// stay in memory for as long as the entry does.
func (p place) kept() place {
	p.key.id = strings.Clone(p.key.id)
	return p
}

// lookup returns the entry that is true now: its tag is the word w, loaded before it was looked up. (No tag is the word of a
// write in progress.) Nil if there is none.
func (l *stacked) lookup(p place, h layer.Hints, w generation.Word) *entry {
	if h.Fresh() || !l.serving.Load() {
		return nil
	}
	var e *entry
	if h.NoStore() {
		e = p.shard.peek(p.key)
	} else {
		e = p.shard.get(p.key)
	}
	if e == nil || e.tag != w {
		return nil
	}
	if e.expires == 0 && l.lease == nil {
		return e
	}
	now := l.now() // one reading for both
	if e.expired(now) {
		p.shard.drop(p.key, e, byExpiry)
		return nil
	}
	if !l.serves(now) {
		return nil
	}
	return e
}

// hit notes a read answered from e.
func (l *stacked) hit(h layer.Hints, k kind, p place, e *entry) {
	l.stats.requests[k][hit].Add(1)
	if !h.NoStore() && !e.answered.Load() { // a look spares the processors one another's write
		e.answered.Store(true)
	}
	if h.Notes != nil {
		h.Notes.SetCache(resultNames[hit])
	}
	if e.version.known {
		h.ReportVersion(p.key.id, e.version.n, e.version.n)
	}
}

// miss answers a read from the base, in a shared call, and fills the cache with what part makes of the answer: nothing, if
// it returns false. from answers it from an entry, if it can.
func miss[T any](ctx context.Context, l *stacked, g *flight.Group[*coherence.Answer[T]], h layer.Hints, k kind, p place,
	r coherence.Read, load func(context.Context) (T, error), part func(*T, *entry) bool, from func(*entry) (T, bool)) (T, error) {
	keep := func(begin time.Duration, a *coherence.Answer[T], err error, fresh bool) {
		if !r.Word.Idle() || !l.serving.Load() {
			return
		}
		e := &entry{tag: r.Word, expires: l.expiry(begin)}
		if rep, ok := coherence.Only(a.Reports, p.key.id); ok && rep.Before == rep.After {
			e.version = version{rep.After, true}
		}
		switch {
		case err == nil && part(&a.Value, e) && !h.NoStore():
			p.shard.fill(p.key, e, l.core.Words.Load(p.slot), l.now(), fresh)
		case err == nil || store.CodeOf(err) == store.CodeNotFound:
			// Nothing to store; but others may have changed, or deleted, what there is.
			if old := p.shard.peek(p.key); old != nil && (old.outdated(e) || fresh && !old.sure(e)) {
				p.shard.drop(p.key, old, byWrite)
			}
		}
	}
	var (
		a   *coherence.Answer[T]
		err error
	)
	if l.bypassed(h) || h.NoStore() {
		l.stats.requests[k][bypass].Add(1)
		h.Notes.SetCache(resultNames[bypass])
		begin := l.now()
		a, err = coherence.Direct(l.core.Unnamed(ctx), load)
		keep(begin, a, err, h.Fresh())
	} else {
		l.stats.requests[k][missed].Add(1)
		h.Notes.SetCache(resultNames[missed])
		a, err = coherence.Share(ctx, &l.core, g, h, r, func(ctx context.Context) (*coherence.Answer[T], error) {
			// Between this caller's look and its call, the call of one before may have ended, and filled the cache.
			if e := l.lookup(p, h, r.Word); e != nil {
				if v, ok := from(e); ok {
					return &coherence.Answer[T]{Value: v, Reports: e.version.reports(p.key.id)}, nil
				}
			}
			begin := l.now()
			a, err := coherence.Direct(ctx, load)
			keep(begin, a, err, false)
			return a, err
		})
	}
	coherence.Forward(h, a.Reports)
	return a.Value, err
}

// write passes a write on and keeps what the cache holds true. patch makes, of the entry that was true when the write began,
// the one that is true after it has succeeded; nil, or a patch that returns false, drops the entry. kind and id are the
// row's in errors.
func (l *stacked) write(ctx context.Context, op store.Op, kind, id string, p place, call func(context.Context) error,
	patch func(*entry) bool) error {
	// Also of a closed cache: others may be open.
	return l.announced(ctx, p.key, func(ctx context.Context) (definite bool, err error) {
		return l.core.Write(ctx, p.slot, func(ctx context.Context, before generation.Word) error {
			begin := l.now()
			e := l.known(p, before)
			settled := false
			defer func() {
				if !settled { // nor after an error or a panic will a word make true again what was there
					l.overtaken(p)
				}
			}()
			if e == nil || patch == nil {
				return call(ctx)
			}
			var rec coherence.Recorder
			err := call(rec.Listen(ctx))
			reports := rec.Reports()
			coherence.Forward(layer.HintsFor(ctx, op), reports)
			if err == nil {
				l.patch(p, e, before, begin, reports, patch)
				settled = true
			}
			return err
		})
	})
}

// known returns the entry that a write which began at the word before may patch: one that was true then. No tag is the word
// of a write in progress, so no other writer was about.
func (l *stacked) known(p place, before generation.Word) *entry {
	if !l.mayPatch {
		return nil
	}
	if e := p.shard.peek(p.key); e != nil && e.tag == before {
		return e
	}
	return nil
}

// overtaken drops the entry of a place, which no word will make true again.
func (l *stacked) overtaken(p place) {
	if e := p.shard.peek(p.key); e != nil {
		p.shard.drop(p.key, e, byWrite)
	}
}

// patch replaces e by what it is after the write, if that is known.
func (l *stacked) patch(p place, e *entry, before generation.Word, begin time.Duration, reports []coherence.Report,
	patch func(*entry) bool) {
	next := *e
	// The tag is the word that the end of this write makes of the word it began at. If another write began or ended in
	// between, the word is another, and the entry is never used. The word must not be read again here: it would have the
	// other write in it.
	next.tag = before.AfterWrite()
	rep, reported := coherence.Only(reports, p.key.id)
	switch {
	case e.version.known && reported && rep.Before == e.version.n:
		next.version.n = rep.After
		next.expires = l.expiry(begin) // it was the base's own state just now
	case len(reports) == 0 && !e.version.known && l.cfg.soleWriter:
	default:
		l.stats.dropped.Add(1)
		p.shard.drop(p.key, e, byWrite)
		return
	}
	if !patch(&next) {
		l.stats.dropped.Add(1)
		p.shard.drop(p.key, e, byWrite)
		return
	}
	l.stats.patched.Add(1)
	p.shard.replace(p.key, e, &next, begin)
}

func (l *stacked) GenerateThreadID(ctx context.Context) string { return l.next.GenerateThreadID(ctx) }

func (l *stacked) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return l.next.GenerateItemID(ctx, kind, thread)
}

func (l *stacked) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	const op = store.OpLoadThread
	h := layer.HintsFor(ctx, op)
	p := l.place(h, coherence.ThreadWord, threadID)
	w := l.core.Words.Load(p.slot)
	// An id that has an entry is valid.
	if e := l.lookup(p, h, w); e != nil && e.hasThread && ctx.Err() == nil {
		l.hit(h, ofThread, p, e)
		return e.thread, nil
	}
	if err := checks.Thread(ctx, op, threadID); err != nil {
		return chat.Thread{}, err
	}
	return l.missThread(ctx, h, p, w)
}

// missThread is apart so that a hit has no closures to allocate.
func (l *stacked) missThread(ctx context.Context, h layer.Hints, p place, w generation.Word) (chat.Thread, error) {
	p = p.kept()
	id := p.key.id
	r := coherence.Read{Op: store.OpLoadThread, Kind: store.RowThread, ID: id, Slot: p.slot, Word: w, Args: []string{id}}
	return miss(ctx, l, &l.threads, h, ofThread, p, r,
		func(ctx context.Context) (chat.Thread, error) { return l.next.LoadThread(ctx, id) },
		func(t *chat.Thread, e *entry) bool {
			e.thread, e.hasThread = *t, true
			return t.ID == id
		},
		func(e *entry) (chat.Thread, bool) { return e.thread, e.hasThread })
}

func (l *stacked) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	return l.next.LoadThreads(ctx, q)
}

func (l *stacked) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	const op = store.OpLoadThreadItems
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	h := layer.HintsFor(ctx, op)
	p := l.place(h, coherence.ThreadWord, threadID)
	w := l.core.Words.Load(p.slot)
	larger := false // than a window, as far as is known
	if e := l.lookup(p, h, w); e != nil && e.hasWindow {
		if page, ok := e.window.page(q); ok {
			l.hit(h, ofItems, p, e)
			return page, nil
		}
		larger = e.window.older == olderSome
	}
	return l.missItems(ctx, h, p, w, q, larger)
}

func (l *stacked) missItems(ctx context.Context, h layer.Hints, p place, w generation.Word, q store.PageQuery,
	larger bool) (store.Page[chat.Item], error) {
	p = p.kept()
	id := p.key.id
	// Ask for the whole window, unless the answer could not be one.
	ask := q
	if q.After == "" && !h.NoStore() && l.serving.Load() && (q.Order == store.NewestFirst || !larger) {
		ask.Limit = max(q.Limit, l.cfg.window)
	}
	r := coherence.Read{Op: store.OpLoadThreadItems, Kind: store.RowThread, ID: id, Slot: p.slot, Word: w,
		Args: []string{id, ask.Order.String(), strconv.Itoa(ask.Limit), ask.After}}
	page, err := miss(ctx, l, &l.pages, h, ofItems, p, r,
		func(ctx context.Context) (store.Page[chat.Item], error) { return l.next.LoadThreadItems(ctx, id, ask) },
		func(page *store.Page[chat.Item], e *entry) bool {
			if ask.After != "" || len(page.Data) == 0 { // an empty page may be of a thread that is not there
				return false
			}
			e.window, e.hasWindow = windowOf(id, ask.Order, *page)
			e.window = e.window.trim(l.cfg.window)
			return e.hasWindow
		},
		func(e *entry) (store.Page[chat.Item], bool) {
			if !e.hasWindow {
				return store.Page[chat.Item]{}, false
			}
			return e.window.page(ask)
		})
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	if len(page.Data) > q.Limit { // we asked for more
		return pageOf(slices.Clone(page.Data[:q.Limit]), true), nil
	}
	page.Data = slices.Clone(page.Data) // others share it
	return page, nil
}

func (l *stacked) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	const op = store.OpLoadItem
	if err := checks.Item(ctx, op, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	h := layer.HintsFor(ctx, op)
	p := l.place(h, coherence.ThreadWord, threadID)
	w := l.core.Words.Load(p.slot)
	if e := l.lookup(p, h, w); e != nil {
		if it, ok := e.item(itemID); ok {
			l.hit(h, ofItem, p, e)
			return it, nil
		}
	}
	return l.missItem(ctx, h, p, w, itemID)
}

func (l *stacked) missItem(ctx context.Context, h layer.Hints, p place, w generation.Word, itemID string) (chat.Item, error) {
	p = p.kept()
	id := p.key.id
	r := coherence.Read{Op: store.OpLoadItem, Kind: store.RowItem, ID: itemID, Slot: p.slot, Word: w,
		Args: []string{id, itemID}}
	return miss(ctx, l, &l.items, h, ofItem, p, r,
		func(ctx context.Context) (chat.Item, error) { return l.next.LoadItem(ctx, id, itemID) },
		func(it *chat.Item, e *entry) bool {
			e.loose = []chat.Item{*it}
			return it.ID == itemID && it.ThreadID == id
		},
		func(e *entry) (chat.Item, bool) { return e.item(itemID) })
}

func (l *stacked) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	const op = store.OpLoadAttachment
	if err := checks.Attachment(ctx, op, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	h := layer.HintsFor(ctx, op)
	p := l.place(h, coherence.AttachmentWord, attachmentID)
	w := l.core.Words.Load(p.slot)
	if e := l.lookup(p, h, w); e != nil {
		l.hit(h, ofAttachment, p, e)
		return e.attachment, nil
	}
	return l.missAttachment(ctx, h, p, w)
}

func (l *stacked) missAttachment(ctx context.Context, h layer.Hints, p place, w generation.Word) (chat.Attachment, error) {
	p = p.kept()
	id := p.key.id
	r := coherence.Read{Op: store.OpLoadAttachment, Kind: store.RowAttachment, ID: id, Slot: p.slot, Word: w,
		Args: []string{id}}
	return miss(ctx, l, &l.attachments, h, ofAttachment, p, r,
		func(ctx context.Context) (chat.Attachment, error) { return l.next.LoadAttachment(ctx, id) },
		func(a *chat.Attachment, e *entry) bool {
			e.attachment = *a
			return a.ID == id
		},
		func(e *entry) (chat.Attachment, bool) { return e.attachment, true })
}

func (l *stacked) SaveThread(ctx context.Context, thread chat.Thread) error {
	const op = store.OpSaveThread
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	t := w.Thread
	p := l.place(layer.HintsFor(ctx, op), coherence.ThreadWord, t.ID)
	return l.write(ctx, op, store.RowThread, t.ID, p,
		func(ctx context.Context) error { return l.next.SaveThread(ctx, t) },
		func(e *entry) bool {
			switch {
			case e.hasThread:
				stored := e.thread.Owner
				e.thread = t
				e.thread.Owner = stored
			case !t.Owner.IsZero(): // it was saved, so it is the stored one
				e.thread, e.hasThread = t, true
				// It is no part of the thread's own text, and the caller may have cut it from another.
				e.thread.Owner = chat.Owner{Tenant: strings.Clone(t.Owner.Tenant), Subject: strings.Clone(t.Owner.Subject)}
			}
			return true
		})
}

func (l *stacked) DeleteThread(ctx context.Context, threadID string) error {
	const op = store.OpDeleteThread
	if err := checks.Thread(ctx, op, threadID); err != nil {
		return err
	}
	p := l.place(layer.HintsFor(ctx, op), coherence.ThreadWord, threadID)
	return l.write(ctx, op, store.RowThread, threadID, p,
		func(ctx context.Context) error { return l.next.DeleteThread(ctx, threadID) }, nil)
}

func (l *stacked) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	const op = store.OpAddThreadItem
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	it := w.Item
	p := l.place(layer.HintsFor(ctx, op), coherence.ThreadWord, threadID)
	return l.write(ctx, op, store.RowItem, it.ID, p,
		func(ctx context.Context) error { return l.next.AddThreadItem(ctx, threadID, it) },
		func(e *entry) bool { return e.patchItem(it, l.cfg.window, window.add) })
}

func (l *stacked) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	const op = store.OpSaveItem
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	it := w.Item
	p := l.place(layer.HintsFor(ctx, op), coherence.ThreadWord, threadID)
	return l.write(ctx, op, store.RowItem, it.ID, p,
		func(ctx context.Context) error { return l.next.SaveItem(ctx, threadID, it) },
		func(e *entry) bool { return e.patchItem(it, l.cfg.window, window.save) })
}

func (l *stacked) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	const op = store.OpDeleteThreadItem
	if err := checks.Item(ctx, op, threadID, itemID); err != nil {
		return err
	}
	p := l.place(layer.HintsFor(ctx, op), coherence.ThreadWord, threadID)
	return l.write(ctx, op, store.RowItem, itemID, p,
		func(ctx context.Context) error { return l.next.DeleteThreadItem(ctx, threadID, itemID) },
		func(e *entry) bool {
			e.loose = withoutLoose(e.loose, itemID)
			if e.hasWindow {
				e.window = e.window.remove(itemID)
			}
			return true
		})
}

func (l *stacked) SaveAttachment(ctx context.Context, attachment chat.Attachment) error {
	const op = store.OpSaveAttachment
	w, err := checks.SaveAttachment(ctx, attachment)
	if err != nil {
		return err
	}
	a := w.Attachment
	p := l.place(layer.HintsFor(ctx, op), coherence.AttachmentWord, a.ID)
	return l.write(ctx, op, store.RowAttachment, a.ID, p,
		func(ctx context.Context) error { return l.next.SaveAttachment(ctx, a) },
		func(e *entry) bool {
			stored := e.attachment.Owner
			e.attachment = a
			e.attachment.Owner = stored
			return true
		})
}

func (l *stacked) DeleteAttachment(ctx context.Context, attachmentID string) error {
	const op = store.OpDeleteAttachment
	if err := checks.Attachment(ctx, op, attachmentID); err != nil {
		return err
	}
	p := l.place(layer.HintsFor(ctx, op), coherence.AttachmentWord, attachmentID)
	return l.write(ctx, op, store.RowAttachment, attachmentID, p,
		func(ctx context.Context) error { return l.next.DeleteAttachment(ctx, attachmentID) }, nil)
}
