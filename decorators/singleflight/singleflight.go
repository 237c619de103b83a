// Package singleflight makes one backend call for many equal reads that happen at the same time.
//
// Use it where nothing is cached, but many ask for the same at once. A stack with package cache needs no singleflight: the
// cache shares its misses itself. It holds nothing once a call has ended.
//
//	s := store.Wrap(base, singleflight.New())
//
// Reads are shared only when nobody can tell: between callers with the same principal (owner and roles), for the same
// arguments, and never across a write. A read that begins after a write through this layer has returned sees that write.
// Each caller keeps its own cancellation and deadline. What another process writes may be seen one shared call late;
// [store.WithFresh] joins none.
//
// A panic of the base in a shared call reaches every caller as an error value whose text has the value and the stack of the
// call, and which unwraps to the value if that is an error. A call that ends its goroutine (runtime.Goexit) is CodeInternal,
// and one that reaches [WithTimeout] CodeTimeout. The layer counts chatstore_flights_total{operation, role}, by leaders and
// followers ([store.StatsReporter]).
package singleflight

import (
	"context"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/flight"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
)

// DefaultTimeout is the time limit of a shared call.
const DefaultTimeout = 30 * time.Second

// words is the number of generation words: enough that writes to one thread rarely part the readers of another.
const words = 1 << 14

type config struct {
	timeout    time.Duration
	quarantine time.Duration
	hash       func(kind byte, id string) uint64 // nil: random
}

// Option changes what New makes.
type Option func(*config)

// WithTimeout limits a shared call to d, whatever deadlines its callers have; the default is DefaultTimeout, and 0 means no
// limit but that somebody waits. Callers of a call that reaches it get context.DeadlineExceeded.
func WithTimeout(d time.Duration) Option { return func(c *config) { c.timeout = d } }

// WithQuarantine says how long a write with an unknown outcome may still take effect. Until then readers of its thread
// share only calls that have not begun yet. The default is what the base says ([store.WriteBounder]), else one minute; the
// larger of the two counts.
func WithQuarantine(d time.Duration) Option { return func(c *config) { c.quarantine = max(d, 0) } }

// New returns the layer. It panics on a negative time-out.
func New(opts ...Option) store.Middleware {
	cfg := config{timeout: DefaultTimeout, quarantine: -1}
	for _, o := range opts {
		o(&cfg)
	}
	if cfg.timeout < 0 {
		panic("singleflight.New: WithTimeout is negative: use 0 for no limit")
	}
	return func(next store.Store) store.Store {
		l := &layer{next: next}
		l.core.Words = generation.New(words, cfg.hash)
		l.core.Limit = cfg.timeout
		l.core.Quarantine = coherence.Quarantine(next, cfg.quarantine)
		return l
	}
}

type layer struct {
	next   store.Store
	core   coherence.Core
	closed atomic.Bool

	thread     flight.Group[*coherence.Answer[store.Thread]]
	threads    flight.Group[*coherence.Answer[store.Page[store.Thread]]]
	item       flight.Group[*coherence.Answer[store.Item]]
	items      flight.Group[*coherence.Answer[store.Page[store.Item]]]
	attachment flight.Group[*coherence.Answer[store.Attachment]]
}

var (
	_ store.Store         = (*layer)(nil)
	_ store.Unwrapper     = (*layer)(nil)
	_ store.Named         = (*layer)(nil)
	_ store.Sharer        = (*layer)(nil)
	_ store.StatsReporter = (*layer)(nil)
)

func (l *layer) Unwrap() store.Store     { return l.next }
func (l *layer) LayerName() string       { return "singleflight" }
func (l *layer) ShareBetweenPrincipals() { l.core.Share() }

func (l *layer) AppendStats(dst []store.Stat) []store.Stat {
	return l.core.AppendStats(dst,
		store.OpLoadThread, store.OpLoadThreads, store.OpLoadThreadItems, store.OpLoadItem, store.OpLoadAttachment)
}

// Close lets calls pass through from now on. Calls under way end as usual.
func (l *layer) Close() error {
	l.closed.Store(true)
	l.core.Words.Close()
	return nil
}

func read[T any](ctx context.Context, l *layer, g *flight.Group[*coherence.Answer[T]], r coherence.Read,
	load func(context.Context) (T, error)) (T, error) {
	if err := store.CheckContext(ctx, r.Op, r.Kind, r.ID); err != nil {
		var zero T
		return zero, err
	}
	h := store.HintsFor(ctx, r.Op)
	if h.Fresh() || l.closed.Load() {
		return load(ctx)
	}
	r.Word = l.core.Words.Load(r.Slot)
	a, err := coherence.Share(ctx, &l.core, g, h, r, func(ctx context.Context) (*coherence.Answer[T], error) {
		return coherence.Direct(ctx, load)
	})
	coherence.Forward(h, a.Reports)
	return a.Value, err
}

func (l *layer) threadWord(id string) generation.Slot {
	return l.core.Words.Slot(coherence.ThreadWord, id)
}

func (l *layer) attachmentWord(id string) generation.Slot {
	return l.core.Words.Slot(coherence.AttachmentWord, id)
}

func (l *layer) listWord() generation.Slot { return l.core.Words.Slot(coherence.ListWord, "") }

// write moves the words of what a write may change, for as long as it may.
func (l *layer) write(ctx context.Context, op store.Op, kind, id string, call func(context.Context) error,
	words ...generation.Slot) error {
	if err := coherence.Ready(ctx, op, kind, id); err != nil {
		return err
	}
	return l.moving(ctx, call, words)
}

func (l *layer) moving(ctx context.Context, call func(context.Context) error, words []generation.Slot) error {
	if len(words) == 0 {
		return call(ctx)
	}
	_, err := l.core.Write(ctx, words[0], func(ctx context.Context, _ generation.Word) error {
		return l.moving(ctx, call, words[1:])
	})
	return err
}

func (l *layer) GenerateThreadID(ctx context.Context) string { return l.next.GenerateThreadID(ctx) }

func (l *layer) GenerateItemID(ctx context.Context, kind store.ItemKind, thread store.Thread) string {
	return l.next.GenerateItemID(ctx, kind, thread)
}

func (l *layer) LoadThread(ctx context.Context, threadID string) (store.Thread, error) {
	if err := store.CheckID(store.OpLoadThread, store.KindOfThread, threadID); err != nil {
		return store.Thread{}, err
	}
	r := coherence.Read{Op: store.OpLoadThread, Kind: store.KindOfThread, ID: threadID,
		Slot: l.threadWord(threadID), Args: []string{threadID}}
	return read(ctx, l, &l.thread, r, func(ctx context.Context) (store.Thread, error) {
		return l.next.LoadThread(ctx, threadID)
	})
}

func (l *layer) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[store.Thread], error) {
	q, err := store.NormalizeThreadQuery(q)
	if err != nil {
		return store.Page[store.Thread]{}, err
	}
	r := coherence.Read{Op: store.OpLoadThreads, Kind: store.KindOfThread, ID: q.After,
		Slot: l.listWord(), Args: append(pageArgs(q.PageQuery), filterArgs(q.Owner)...)}
	p, err := read(ctx, l, &l.threads, r, func(ctx context.Context) (store.Page[store.Thread], error) {
		return l.next.LoadThreads(ctx, q)
	})
	p.Data = slices.Clone(p.Data) // others share it
	return p, err
}

func (l *layer) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
	if err := store.CheckID(store.OpLoadThreadItems, store.KindOfThread, threadID); err != nil {
		return store.Page[store.Item]{}, err
	}
	q, err := store.NormalizeQuery(store.OpLoadThreadItems, store.KindOfItem, q)
	if err != nil {
		return store.Page[store.Item]{}, err
	}
	r := coherence.Read{Op: store.OpLoadThreadItems, Kind: store.KindOfThread, ID: threadID,
		Slot: l.threadWord(threadID), Args: append(pageArgs(q), threadID)}
	p, err := read(ctx, l, &l.items, r, func(ctx context.Context) (store.Page[store.Item], error) {
		return l.next.LoadThreadItems(ctx, threadID, q)
	})
	p.Data = slices.Clone(p.Data) // others share it
	return p, err
}

func (l *layer) LoadItem(ctx context.Context, threadID, itemID string) (store.Item, error) {
	if err := store.CheckID(store.OpLoadItem, store.KindOfThread, threadID); err != nil {
		return store.Item{}, err
	}
	if err := store.CheckID(store.OpLoadItem, store.KindOfItem, itemID); err != nil {
		return store.Item{}, err
	}
	r := coherence.Read{Op: store.OpLoadItem, Kind: store.KindOfItem, ID: itemID,
		Slot: l.threadWord(threadID), Args: []string{threadID, itemID}}
	return read(ctx, l, &l.item, r, func(ctx context.Context) (store.Item, error) {
		return l.next.LoadItem(ctx, threadID, itemID)
	})
}

func (l *layer) LoadAttachment(ctx context.Context, attachmentID string) (store.Attachment, error) {
	if err := store.CheckID(store.OpLoadAttachment, store.KindOfAttachment, attachmentID); err != nil {
		return store.Attachment{}, err
	}
	r := coherence.Read{Op: store.OpLoadAttachment, Kind: store.KindOfAttachment, ID: attachmentID,
		Slot: l.attachmentWord(attachmentID), Args: []string{attachmentID}}
	return read(ctx, l, &l.attachment, r, func(ctx context.Context) (store.Attachment, error) {
		return l.next.LoadAttachment(ctx, attachmentID)
	})
}

func pageArgs(q store.PageQuery) []string {
	return []string{strconv.Itoa(q.Limit), q.Order.String(), q.After}
}

func filterArgs(f store.OwnerFilter) []string {
	if o, ok := f.Owner(); ok {
		return []string{"owner", o.Tenant, o.Subject}
	}
	if tenant, ok := f.Tenant(); ok {
		return []string{"tenant", tenant}
	}
	return []string{"any"}
}

func (l *layer) SaveThread(ctx context.Context, thread store.Thread) error {
	const op = store.OpSaveThread
	t, err := store.NormalizeThread(op, thread)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.KindOfThread, t.ID,
		func(ctx context.Context) error { return l.next.SaveThread(ctx, t) }, l.threadWord(t.ID), l.listWord())
}

func (l *layer) DeleteThread(ctx context.Context, threadID string) error {
	const op = store.OpDeleteThread
	if err := store.CheckID(op, store.KindOfThread, threadID); err != nil {
		return err
	}
	return l.write(ctx, op, store.KindOfThread, threadID,
		func(ctx context.Context) error { return l.next.DeleteThread(ctx, threadID) }, l.threadWord(threadID), l.listWord())
}

func (l *layer) AddThreadItem(ctx context.Context, threadID string, item store.Item) error {
	const op = store.OpAddThreadItem
	it, err := store.NormalizeItem(op, threadID, item)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.KindOfItem, it.ID,
		func(ctx context.Context) error { return l.next.AddThreadItem(ctx, threadID, it) }, l.threadWord(threadID))
}

func (l *layer) SaveItem(ctx context.Context, threadID string, item store.Item) error {
	const op = store.OpSaveItem
	it, err := store.NormalizeItem(op, threadID, item)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.KindOfItem, it.ID,
		func(ctx context.Context) error { return l.next.SaveItem(ctx, threadID, it) }, l.threadWord(threadID))
}

func (l *layer) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	const op = store.OpDeleteThreadItem
	if err := store.CheckID(op, store.KindOfThread, threadID); err != nil {
		return err
	}
	if err := store.CheckID(op, store.KindOfItem, itemID); err != nil {
		return err
	}
	return l.write(ctx, op, store.KindOfItem, itemID,
		func(ctx context.Context) error { return l.next.DeleteThreadItem(ctx, threadID, itemID) }, l.threadWord(threadID))
}

func (l *layer) SaveAttachment(ctx context.Context, attachment store.Attachment) error {
	const op = store.OpSaveAttachment
	a, err := store.NormalizeAttachment(op, attachment)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.KindOfAttachment, a.ID,
		func(ctx context.Context) error { return l.next.SaveAttachment(ctx, a) }, l.attachmentWord(a.ID))
}

func (l *layer) DeleteAttachment(ctx context.Context, attachmentID string) error {
	const op = store.OpDeleteAttachment
	if err := store.CheckID(op, store.KindOfAttachment, attachmentID); err != nil {
		return err
	}
	return l.write(ctx, op, store.KindOfAttachment, attachmentID,
		func(ctx context.Context) error { return l.next.DeleteAttachment(ctx, attachmentID) }, l.attachmentWord(attachmentID))
}
