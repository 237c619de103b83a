// Package mirror tries a second store under the real load of the first.
//
// Use it before you move to another base, such as PostgreSQL or a store of your own. The first store answers every call. In
// the background, the layer makes the same call on the second store, compares the answers, and counts and reports divergences:
//
//	s := store.Wrap(first, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), mirror.New(second))
//
// It is no migration: dual writing does not move a store. Concurrent writes can reach the second store in another order, and
// some do not reach it. Never serve from a store that a mirror has filled.
//
// Put the layer directly around the first base. Above a cache it compares cached answers. Above encryption it saves plaintext
// in the second store. Put the guard above it; the second store needs none.
//
// # Trials
//
// A call of the second store is a trial. If it fails, hangs or panics, no call of the first store fails, changes or waits.
// Trials wait in bounded queues; a full queue drops the call. Only successful writes are tried, those of a thread in the
// order in which they returned. Their context has the caller's values, such as the principal and the save mode, but not its end,
// and not the condition of [store.IfVersion]. An update of a row that was never copied is not_found. Only the first store
// generates ids.
//
// Equal answers have the same code and the same page: rows byte for byte, owners, order, HasMore and After. For writes only
// codes are compared. Reads find what a write did wrong. A read that differs is repeated on both stores. It counts if it
// still differs and no write of the thread was waiting meanwhile. False alarms remain: another process's writes on their way,
// rows that were never copied, dropped or skipped writes, and attachments that a driver.AttachmentSwapper has changed.
//
// The layer is a [layer.StatsReporter]: the gauge chatstore_mirror_queued and chatstore_mirror_calls_total{kind, result}, where
// the kind is read or write. The results are:
//
//	equal      the second store gave the same answer
//	different  it gave another answer
//	failed     it gave no answer
//	dropped    not tried: the queue was full, or the layer was closed
//	skipped    a write with an unknown outcome at the first store, a read
//	           without an answer there, or one that differed during writes
package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// The defaults of the options.
const (
	DefaultWorkers   = 8
	DefaultQueue     = 128
	DefaultTimeLimit = 10 * time.Second
)

type config struct {
	reads           float64
	writes          bool
	workers, length int
	limit           time.Duration
	report          func(Divergence)
}

// Option configures New.
type Option func(*config)

// WithReads sets the share of reads that are tried, from 0 to 1. The default is 1. A read that differs is made again on both
// stores, so it costs the first store another read. WithReads panics if the rate is not in this range.
func WithReads(rate float64) Option {
	must(rate >= 0 && rate <= 1, "WithReads: the rate is not between 0 and 1")
	return func(c *config) { c.reads = rate }
}

// WithWrites sets whether writes are tried. The default is true. Use false if something else fills the second store. Rows that it
// has not brought yet then count as divergences.
func WithWrites(on bool) Option { return func(c *config) { c.writes = on } }

// WithWorkers sets how many goroutines make trials; the default is DefaultWorkers. All trials of a thread run on one worker.
// One more goroutine repeats reads of threads that were being written to. WithWorkers panics unless n is positive.
func WithWorkers(n int) Option {
	must(n > 0, "WithWorkers: the number is not positive")
	return func(c *config) { c.workers = n }
}

// WithQueue sets how many trials can wait for each worker; the default is DefaultQueue. A waiting read keeps its answer, such
// as a page, in memory. WithQueue panics unless n is positive.
func WithQueue(n int) Option {
	must(n > 0, "WithQueue: the number is not positive")
	return func(c *config) { c.length = n }
}

// WithTimeLimit limits each trial, and the time that Close waits for the queues. The default is DefaultTimeLimit. A trial that
// ignores its context occupies its worker until it returns, and later trials of that worker are dropped. WithTimeLimit panics
// unless d is positive.
func WithTimeLimit(d time.Duration) Option {
	must(d > 0, "WithTimeLimit: the time is not positive")
	return func(c *config) { c.limit = d }
}

// WithReport calls report for every divergence. The calls come from the workers: a slow report causes dropped trials. It must
// be safe for concurrent use. A panic in it is ignored. WithReport panics if report is nil.
func WithReport(report func(Divergence)) Option {
	must(report != nil, "WithReport: the function is nil: leave the option out")
	return func(c *config) { c.report = report }
}

// Divergence is a trial in which the second store gave another answer than the first, or none. It contains no content.
type Divergence struct {
	Call          layer.Call
	First, Second store.Code
	// Field is what differs. It is "code" if First and Second differ. Otherwise it is a place in the answer, such as "title" or
	// "data[3].owner". The number of rows is "data". A part of a row without a name here is "json".
	Field string
}

func must(ok bool, sentence string) {
	if !ok {
		panic("mirror." + sentence)
	}
}

// New returns the layer as a Middleware. The second store stays its caller's: [store.Close] of the stack closes the layer and
// the first store, but not the second. Close the stack first, because the layer then waits for its trials. Capabilities are
// those of the first store, except that EraseOwner of a driver.Eraser is [errors.ErrUnsupported]: erase the owner in each of the
// two stores. New panics if second is nil, and its Middleware around a guard.
func New(second store.Store, opts ...Option) store.Middleware {
	must(second != nil, "New: the second store is nil: leave the layer out")
	c := config{reads: 1, writes: true, workers: DefaultWorkers, length: DefaultQueue, limit: DefaultTimeLimit}
	for _, o := range opts {
		o(&c)
	}
	return func(next store.Store) store.Store {
		must(!layer.Guarded(next), "New: there is a guard in the first store, such as authz, and the second store would miss the owners "+
			"that it sets: put the guard before the mirror in store.Wrap")
		s := newMirrored(next, second, c)
		if _, ok := store.As[driver.Eraser](next); ok {
			return &erasing{s}
		}
		return s
	}
}

var (
	_ store.Store         = (*mirrored)(nil)
	_ store.Unwrapper     = (*mirrored)(nil)
	_ store.Named         = (*mirrored)(nil)
	_ layer.StatsReporter = (*mirrored)(nil)
)

// Unwrap returns the first store.
func (s *mirrored) Unwrap() store.Store { return s.next }

// LayerName returns "mirror".
func (s *mirrored) LayerName() string { return "mirror" }

// erasing is a mirror of a first store that can erase an owner.
type erasing struct{ *mirrored }

// EraseOwner returns an error: the first store alone must not be erased in silence.
func (s *erasing) EraseOwner(context.Context, chat.Owner) (driver.Erased, error) {
	return driver.Erased{}, fmt.Errorf("mirror: erase the owner in each of the two stores: %w: %w", errors.ErrUnsupported, store.ErrNotApplied)
}

func (s *mirrored) GenerateThreadID(ctx context.Context) string { return s.next.GenerateThreadID(ctx) }

func (s *mirrored) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.next.GenerateItemID(ctx, kind, thread)
}

func (s *mirrored) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	return read(ctx, s, layer.Call{Op: store.OpLoadThread, ThreadID: threadID}, field[chat.Thread],
		func(ctx context.Context, of store.Store) (chat.Thread, error) { return of.LoadThread(ctx, threadID) })
}

func (s *mirrored) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	return read(ctx, s, layer.Call{Op: store.OpLoadThreads, Order: q.Order, HasCursor: q.After != "", Limit: q.Limit}, pageField[chat.Thread],
		func(ctx context.Context, of store.Store) (store.Page[chat.Thread], error) {
			return of.LoadThreads(ctx, q)
		})
}

func (s *mirrored) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	c := layer.Call{Op: store.OpLoadThreadItems, ThreadID: threadID, Order: q.Order, HasCursor: q.After != "", Limit: q.Limit}
	return read(ctx, s, c, pageField[chat.Item],
		func(ctx context.Context, of store.Store) (store.Page[chat.Item], error) {
			return of.LoadThreadItems(ctx, threadID, q)
		})
}

func (s *mirrored) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	return read(ctx, s, layer.Call{Op: store.OpLoadItem, ThreadID: threadID, ItemID: itemID}, field[chat.Item],
		func(ctx context.Context, of store.Store) (chat.Item, error) {
			return of.LoadItem(ctx, threadID, itemID)
		})
}

func (s *mirrored) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	return read(ctx, s, layer.Call{Op: store.OpLoadAttachment, AttachmentID: attachmentID}, field[chat.Attachment],
		func(ctx context.Context, of store.Store) (chat.Attachment, error) {
			return of.LoadAttachment(ctx, attachmentID)
		})
}

func (s *mirrored) SaveThread(ctx context.Context, t chat.Thread) error {
	return s.write(ctx, layer.Call{Op: store.OpSaveThread, ThreadID: t.ID},
		func(ctx context.Context, of store.Store) error { return of.SaveThread(ctx, t) })
}

func (s *mirrored) DeleteThread(ctx context.Context, threadID string) error {
	return s.write(ctx, layer.Call{Op: store.OpDeleteThread, ThreadID: threadID},
		func(ctx context.Context, of store.Store) error { return of.DeleteThread(ctx, threadID) })
}

func (s *mirrored) AddThreadItem(ctx context.Context, threadID string, it chat.Item) error {
	return s.write(ctx, layer.Call{Op: store.OpAddThreadItem, ThreadID: threadID, ItemID: it.ID, ItemType: it.Type()},
		func(ctx context.Context, of store.Store) error { return of.AddThreadItem(ctx, threadID, it) })
}

func (s *mirrored) SaveItem(ctx context.Context, threadID string, it chat.Item) error {
	return s.write(ctx, layer.Call{Op: store.OpSaveItem, ThreadID: threadID, ItemID: it.ID, ItemType: it.Type()},
		func(ctx context.Context, of store.Store) error { return of.SaveItem(ctx, threadID, it) })
}

func (s *mirrored) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	return s.write(ctx, layer.Call{Op: store.OpDeleteThreadItem, ThreadID: threadID, ItemID: itemID},
		func(ctx context.Context, of store.Store) error { return of.DeleteThreadItem(ctx, threadID, itemID) })
}

func (s *mirrored) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	return s.write(ctx, layer.Call{Op: store.OpSaveAttachment, AttachmentID: a.ID},
		func(ctx context.Context, of store.Store) error { return of.SaveAttachment(ctx, a) })
}

func (s *mirrored) DeleteAttachment(ctx context.Context, attachmentID string) error {
	return s.write(ctx, layer.Call{Op: store.OpDeleteAttachment, AttachmentID: attachmentID},
		func(ctx context.Context, of store.Store) error { return of.DeleteAttachment(ctx, attachmentID) })
}
