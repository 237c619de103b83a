// Package singleflight lets identical concurrent reads share one call of the base.
//
// Use it where many callers read the same rows at once and nothing is cached. A stack with package cache does not need it:
// the cache shares its own loads. The layer keeps no rows once a call has ended. Put it inside of authz.
//
//	s := store.Wrap(base, singleflight.New())
//
// Sharing changes no answer:
//   - Callers share a call only if they have the same arguments and the same principal (owner and roles).
//   - A read that begins after a write through this layer has returned sees that write.
//   - Each caller keeps its own cancellation and deadline.
//   - A read may miss another process's write that was made after the shared call began.
//   - Reads under [store.WithFresh] do not share calls.
//   - Every caller hears the thread version of the answer that it got ([store.WithVersions]).
//
// If the base panics in a shared call, every waiting caller panics with an error. The text of the error has the panic's value
// and the stack of the call. It unwraps to the value if that is an error. If the call ends its goroutine (runtime.Goexit),
// callers get CodeInternal. If it reaches [WithLoadTimeout], they get CodeTimeout.
//
// The layer is a [layer.StatsReporter]. It counts the callers of shared calls by their role, leader or follower:
// chatstore_flights_total{operation, role}.
package singleflight

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// DefaultLoadTimeout is the time limit of a shared call if [WithLoadTimeout] sets no other.
const DefaultLoadTimeout = 30 * time.Second

// counters is the number of generation counters. It is large enough that a write to one thread rarely keeps readers of
// another thread from sharing a call.
const counters = 1 << 14

type config struct {
	loadTimeout time.Duration
	quarantine  time.Duration
}

// Option configures New.
type Option func(*config)

// WithLoadTimeout limits a shared call to d, regardless of its callers' deadlines; the default is DefaultLoadTimeout. With
// 0, a call is cancelled only when its last caller has gone. If a call reaches the limit, its callers get
// context.DeadlineExceeded with CodeTimeout. WithLoadTimeout panics if d is negative.
func WithLoadTimeout(d time.Duration) Option {
	must(d >= 0, "WithLoadTimeout: the time is negative: use 0 for no limit")
	return func(c *config) { c.loadTimeout = d }
}

// WithQuarantine sets how long a write with an unknown outcome may still take effect. For that time, the quarantine, readers
// of its thread share only calls that have not begun yet. The default is the bound that the base states
// ([driver.WriteBounder]), or one minute if it states none. If the base states a bound, the larger of that and d counts.
// A write reported by [driver.ReportPending] is held back until it ends, however long that is. WithQuarantine panics if d is
// negative.
func WithQuarantine(d time.Duration) Option {
	must(d >= 0, "WithQuarantine: the time is negative: use 0 where a write never outlives its call")
	return func(c *config) { c.quarantine = d }
}

func must(ok bool, sentence string) {
	if !ok {
		panic("singleflight." + sentence)
	}
}

// New returns the layer as a Middleware. The Middleware panics if the Store that it wraps has a guard, such as authz.
func New(opts ...Option) store.Middleware {
	c := config{loadTimeout: DefaultLoadTimeout, quarantine: -1}
	for _, o := range opts {
		o(&c)
	}
	return func(next store.Store) store.Store {
		must(!layer.Guarded(next), "New: around a guard, such as authz, a read could join a call that began before access was revoked: "+
			"put the guard before singleflight in store.Wrap")
		l := &shared{next: next}
		l.core.Counters = generation.New(counters)
		l.core.Limit = c.loadTimeout
		l.core.Quarantine = coherence.Quarantine(next, c.quarantine)
		return l
	}
}

var checks = driver.Checks{Versions: true}

// shared is a Store whose reads share calls of the base.
type shared struct {
	next   store.Store
	core   coherence.Core
	closed atomic.Bool

	thread     coherence.Group[string, chat.Thread]
	threads    coherence.Group[store.ThreadQuery, store.Page[chat.Thread]]
	item       coherence.Group[itemArgs, chat.Item]
	items      coherence.Group[itemsArgs, store.Page[chat.Item]]
	attachment coherence.Group[string, chat.Attachment]
}

type itemArgs struct{ thread, item string }

type itemsArgs struct {
	thread string
	query  store.PageQuery
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

// Close makes all later calls go to the base. Calls under way end as usual.
func (l *shared) Close() error {
	l.closed.Store(true)
	l.core.Counters.Close()
	return nil
}

func read[K comparable, T any](ctx context.Context, l *shared, g *coherence.Group[K, T], slot generation.Slot, r coherence.Read[K],
	load func(context.Context) (T, error)) (T, error) {
	h := layer.HintsFor(ctx, r.Op)
	if h.Fresh() || l.closed.Load() {
		return load(ctx)
	}
	r.Counter = l.core.Counters.Load(slot)
	a, err := coherence.Share(ctx, &l.core, g, h, r, func(ctx context.Context, a *coherence.Answer[T]) (err error) {
		a.Value, err = load(ctx)
		return err
	})
	coherence.Forward(h, a.Reports())
	return a.Value, err
}

func (l *shared) threadCounter(id string) generation.Slot {
	return l.core.Counters.Slot(coherence.ThreadCounter, id)
}

func (l *shared) attachmentCounter(id string) generation.Slot {
	return l.core.Counters.Slot(coherence.AttachmentCounter, id)
}

func (l *shared) listCounter() generation.Slot {
	return l.core.Counters.Slot(coherence.ListCounter, "")
}

// write makes a write. It counts as in progress at all of the counters until it can have no further effect.
func (l *shared) write(ctx context.Context, call func(context.Context) error, counters ...generation.Slot) error {
	return l.core.NewWrite(ctx, counters...).Make(func(ctx context.Context, _ generation.Counter) error { return call(ctx) })
}

func (l *shared) GenerateThreadID(ctx context.Context) string { return l.next.GenerateThreadID(ctx) }

func (l *shared) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return l.next.GenerateItemID(ctx, kind, thread)
}

func (l *shared) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	if err := checks.Thread(ctx, store.OpLoadThread, threadID); err != nil {
		return chat.Thread{}, err
	}
	r := coherence.Read[string]{Op: store.OpLoadThread, Kind: store.RowThread, ID: threadID, Args: threadID}
	return read(ctx, l, &l.thread, l.threadCounter(threadID), r, func(ctx context.Context) (chat.Thread, error) {
		return l.next.LoadThread(ctx, threadID)
	})
}

func (l *shared) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	q, err := checks.Threads(ctx, q)
	if err != nil {
		return store.Page[chat.Thread]{}, err
	}
	r := coherence.Read[store.ThreadQuery]{Op: store.OpLoadThreads, Kind: store.RowThread, ID: q.After, Args: q}
	p, err := read(ctx, l, &l.threads, l.listCounter(), r, func(ctx context.Context) (store.Page[chat.Thread], error) {
		return l.next.LoadThreads(ctx, q)
	})
	p.Data = slices.Clone(p.Data) // other callers share the slice
	return p, err
}

func (l *shared) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	q, err := checks.Items(ctx, threadID, q)
	if err != nil {
		return store.Page[chat.Item]{}, err
	}
	r := coherence.Read[itemsArgs]{Op: store.OpLoadThreadItems, Kind: store.RowThread, ID: threadID, Args: itemsArgs{threadID, q}}
	p, err := read(ctx, l, &l.items, l.threadCounter(threadID), r, func(ctx context.Context) (store.Page[chat.Item], error) {
		return l.next.LoadThreadItems(ctx, threadID, q)
	})
	p.Data = slices.Clone(p.Data) // other callers share the slice
	return p, err
}

func (l *shared) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	if err := checks.Item(ctx, store.OpLoadItem, threadID, itemID); err != nil {
		return chat.Item{}, err
	}
	r := coherence.Read[itemArgs]{Op: store.OpLoadItem, Kind: store.RowItem, ID: itemID, Args: itemArgs{threadID, itemID}}
	return read(ctx, l, &l.item, l.threadCounter(threadID), r, func(ctx context.Context) (chat.Item, error) {
		return l.next.LoadItem(ctx, threadID, itemID)
	})
}

func (l *shared) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	if err := checks.Attachment(ctx, store.OpLoadAttachment, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	r := coherence.Read[string]{Op: store.OpLoadAttachment, Kind: store.RowAttachment, ID: attachmentID, Args: attachmentID}
	return read(ctx, l, &l.attachment, l.attachmentCounter(attachmentID), r, func(ctx context.Context) (chat.Attachment, error) {
		return l.next.LoadAttachment(ctx, attachmentID)
	})
}

func (l *shared) SaveThread(ctx context.Context, thread chat.Thread) error {
	w, err := checks.SaveThread(ctx, thread)
	if err != nil {
		return err
	}
	return l.write(ctx, func(ctx context.Context) error { return l.next.SaveThread(ctx, w.Thread) },
		l.threadCounter(w.Thread.ID), l.listCounter())
}

func (l *shared) DeleteThread(ctx context.Context, threadID string) error {
	if _, err := checks.DeleteThread(ctx, threadID); err != nil {
		return err
	}
	return l.write(ctx, func(ctx context.Context) error { return l.next.DeleteThread(ctx, threadID) },
		l.threadCounter(threadID), l.listCounter())
}

func (l *shared) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	w, err := checks.SaveItem(ctx, store.OpAddThreadItem, threadID, item)
	if err != nil {
		return err
	}
	return l.write(ctx, func(ctx context.Context) error { return l.next.AddThreadItem(ctx, threadID, w.Item) },
		l.threadCounter(threadID))
}

func (l *shared) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	w, err := checks.SaveItem(ctx, store.OpSaveItem, threadID, item)
	if err != nil {
		return err
	}
	return l.write(ctx, func(ctx context.Context) error { return l.next.SaveItem(ctx, threadID, w.Item) },
		l.threadCounter(threadID))
}

func (l *shared) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	if _, err := checks.DeleteItem(ctx, threadID, itemID); err != nil {
		return err
	}
	return l.write(ctx, func(ctx context.Context) error { return l.next.DeleteThreadItem(ctx, threadID, itemID) },
		l.threadCounter(threadID))
}

func (l *shared) SaveAttachment(ctx context.Context, attachment chat.Attachment) error {
	w, err := checks.SaveAttachment(ctx, attachment)
	if err != nil {
		return err
	}
	return l.write(ctx, func(ctx context.Context) error { return l.next.SaveAttachment(ctx, w.Attachment) },
		l.attachmentCounter(w.Attachment.ID))
}

func (l *shared) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := checks.Attachment(ctx, store.OpDeleteAttachment, attachmentID); err != nil {
		return err
	}
	return l.write(ctx, func(ctx context.Context) error { return l.next.DeleteAttachment(ctx, attachmentID) },
		l.attachmentCounter(attachmentID))
}
