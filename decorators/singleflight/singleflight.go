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

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/flight"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
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
		l := &shared{next: next}
		l.core.Words = generation.New(words, cfg.hash)
		l.core.Limit = cfg.timeout
		l.core.Quarantine = coherence.Quarantine(next, cfg.quarantine)
		return l
	}
}

// It passes versions on as they are: none of it is its own.
var checks driver.Checks

type shared struct {
	next   store.Store
	core   coherence.Core
	closed atomic.Bool

	thread     flight.Group[*coherence.Answer[chat.Thread]]
	threads    flight.Group[*coherence.Answer[store.Page[chat.Thread]]]
	item       flight.Group[*coherence.Answer[chat.Item]]
	items      flight.Group[*coherence.Answer[store.Page[chat.Item]]]
	attachment flight.Group[*coherence.Answer[chat.Attachment]]
}

var (
	_ store.Store         = (*shared)(nil)
	_ store.Unwrapper     = (*shared)(nil)
	_ store.Named         = (*shared)(nil)
	_ layer.Sharer        = (*shared)(nil)
	_ layer.StatsReporter = (*shared)(nil)
)

func (l *shared) Unwrap() store.Store     { return l.next }
func (l *shared) LayerName() string       { return "singleflight" }
func (l *shared) ShareBetweenPrincipals() { l.core.Share() }

func (l *shared) AppendStats(dst []layer.Stat) []layer.Stat {
	return l.core.AppendStats(dst,
		store.OpLoadThread, store.OpLoadThreads, store.OpLoadThreadItems, store.OpLoadItem, store.OpLoadAttachment)
}

// Close lets calls pass through from now on. Calls under way end as usual.
func (l *shared) Close() error {
	l.closed.Store(true)
	l.core.Words.Close()
	return nil
}

func read[T any](ctx context.Context, l *shared, g *flight.Group[*coherence.Answer[T]], r coherence.Read,
	load func(context.Context) (T, error)) (T, error) {
	h := layer.HintsFor(ctx, r.Op)
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

func (l *shared) threadWord(id string) generation.Slot {
	return l.core.Words.Slot(coherence.ThreadWord, id)
}

func (l *shared) attachmentWord(id string) generation.Slot {
	return l.core.Words.Slot(coherence.AttachmentWord, id)
}

func (l *shared) listWord() generation.Slot { return l.core.Words.Slot(coherence.ListWord, "") }

// write moves the words of what a write may change, for as long as it may.
func (l *shared) write(ctx context.Context, op store.Op, kind, id string, call func(context.Context) error,
	words ...generation.Slot) error {
	return l.moving(ctx, call, words)
}

func (l *shared) moving(ctx context.Context, call func(context.Context) error, words []generation.Slot) error {
	if len(words) == 0 {
		return call(ctx)
	}
	_, err := l.core.Write(ctx, words[0], func(ctx context.Context, _ generation.Word) error {
		return l.moving(ctx, call, words[1:])
	})
	return err
}

func (l *shared) GenerateThreadID(ctx context.Context) string { return l.next.GenerateThreadID(ctx) }

func (l *shared) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return l.next.GenerateItemID(ctx, kind, thread)
}

func (l *shared) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	if err := checks.Thread(ctx, store.OpLoadThread, threadID); err != nil {
		return chat.Thread{}, err
	}
	r := coherence.Read{Op: store.OpLoadThread, Kind: store.RowThread, ID: threadID,
		Slot: l.threadWord(threadID), Args: []string{threadID}}
	return read(ctx, l, &l.thread, r, func(ctx context.Context) (chat.Thread, error) {
		return l.next.LoadThread(ctx, threadID)
	})
}

func (l *shared) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	r := coherence.Read{Op: store.OpLoadThreads, Kind: store.RowThread, ID: q.After,
		Slot: l.listWord(), Args: append(pageArgs(q.PageQuery), filterArgs(q.Owner)...)}
	p, err := read(ctx, l, &l.threads, r, func(ctx context.Context) (store.Page[chat.Thread], error) {
		return l.next.LoadThreads(ctx, q)
	})
	p.Data = slices.Clone(p.Data) // others share it
	return p, err
}

func (l *shared) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	r := coherence.Read{Op: store.OpLoadThreadItems, Kind: store.RowThread, ID: threadID,
		Slot: l.threadWord(threadID), Args: append(pageArgs(q), threadID)}
	p, err := read(ctx, l, &l.items, r, func(ctx context.Context) (store.Page[chat.Item], error) {
		return l.next.LoadThreadItems(ctx, threadID, q)
	})
	p.Data = slices.Clone(p.Data) // others share it
	return p, err
}

func (l *shared) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	if err := checks.Item(ctx, store.OpLoadItem, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	r := coherence.Read{Op: store.OpLoadItem, Kind: store.RowItem, ID: itemID,
		Slot: l.threadWord(threadID), Args: []string{threadID, itemID}}
	return read(ctx, l, &l.item, r, func(ctx context.Context) (chat.Item, error) {
		return l.next.LoadItem(ctx, threadID, itemID)
	})
}

func (l *shared) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	if err := checks.Attachment(ctx, store.OpLoadAttachment, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	r := coherence.Read{Op: store.OpLoadAttachment, Kind: store.RowAttachment, ID: attachmentID,
		Slot: l.attachmentWord(attachmentID), Args: []string{attachmentID}}
	return read(ctx, l, &l.attachment, r, func(ctx context.Context) (chat.Attachment, error) {
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

func (l *shared) SaveThread(ctx context.Context, thread chat.Thread) error {
	const op = store.OpSaveThread
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.RowThread, w.Thread.ID,
		func(ctx context.Context) error { return l.next.SaveThread(ctx, w.Thread) }, l.threadWord(w.Thread.ID), l.listWord())
}

func (l *shared) DeleteThread(ctx context.Context, threadID string) error {
	const op = store.OpDeleteThread
	if err := checks.Thread(ctx, op, threadID); err != nil {
		return err
	}
	return l.write(ctx, op, store.RowThread, threadID,
		func(ctx context.Context) error { return l.next.DeleteThread(ctx, threadID) }, l.threadWord(threadID), l.listWord())
}

func (l *shared) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	const op = store.OpAddThreadItem
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.RowItem, w.Item.ID,
		func(ctx context.Context) error { return l.next.AddThreadItem(ctx, threadID, w.Item) }, l.threadWord(threadID))
}

func (l *shared) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	const op = store.OpSaveItem
	w, err := checks.SaveItem(ctx, op, threadID, item)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.RowItem, w.Item.ID,
		func(ctx context.Context) error { return l.next.SaveItem(ctx, threadID, w.Item) }, l.threadWord(threadID))
}

func (l *shared) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	const op = store.OpDeleteThreadItem
	if err := checks.Item(ctx, op, threadID, itemID); err != nil {
		return err
	}
	return l.write(ctx, op, store.RowItem, itemID,
		func(ctx context.Context) error { return l.next.DeleteThreadItem(ctx, threadID, itemID) }, l.threadWord(threadID))
}

func (l *shared) SaveAttachment(ctx context.Context, attachment chat.Attachment) error {
	const op = store.OpSaveAttachment
	w, err := checks.SaveAttachment(ctx, attachment)
	if err != nil {
		return err
	}
	return l.write(ctx, op, store.RowAttachment, w.Attachment.ID,
		func(ctx context.Context) error { return l.next.SaveAttachment(ctx, w.Attachment) }, l.attachmentWord(w.Attachment.ID))
}

func (l *shared) DeleteAttachment(ctx context.Context, attachmentID string) error {
	const op = store.OpDeleteAttachment
	if err := checks.Attachment(ctx, op, attachmentID); err != nil {
		return err
	}
	return l.write(ctx, op, store.RowAttachment, attachmentID,
		func(ctx context.Context) error { return l.next.DeleteAttachment(ctx, attachmentID) }, l.attachmentWord(attachmentID))
}
