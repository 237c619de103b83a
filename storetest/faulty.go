package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// Faulty wraps a Store to fail, delay, panic or lose answers on chosen calls, and counts the calls that reach it. Without a
// fault it passes everything on unchanged. It is for tests of what lies above a Store:
//
//	f := storetest.NewFaulty(memstore.New())
//	f.Inject(storetest.Fault{Op: store.OpSaveItem, Skip: 1, Times: 1, Do: storetest.FailAfter(store.ErrUnavailable)})
//	s := store.Wrap(f, cache.New()) // the second SaveItem is applied, and its answer lost
//
// Which calls a fault hits depends on their number only, never on a clock or on chance. A Faulty is safe for concurrent use.
type Faulty struct {
	next    store.Store
	longest time.Duration
	counts  [store.NumOps]atomic.Int64

	mu     sync.Mutex
	faults []*injected // replaced, never changed
}

var (
	_ store.Store         = (*Faulty)(nil)
	_ store.Unwrapper     = (*Faulty)(nil)
	_ store.Named         = (*Faulty)(nil)
	_ driver.WriteBounder = (*Faulty)(nil)
)

// Fault is what goes wrong with which calls.
type Fault struct {
	Op   store.Op              // of this op; zero: of any
	When func(layer.Call) bool // of which it is true; nil: any. It may be called from several goroutines at once

	Skip  int // the first of these calls that are left alone
	Times int // how many calls after those the fault hits; zero: all

	// Do is the fault itself: [Fail], [FailAfter], [Panic], [PanicAfter], [Goexit], [GoexitAfter], [Delay], [Late.Hold], or
	// your own, which may call next, to go on with the call, any number of times. It returns the call's error; nil without
	// a next that succeeded is the zero answer.
	Do layer.InterceptorFunc
}

type injected struct {
	Fault
	seen atomic.Int64
}

// hits counts a call, if it is one of the fault's, and reports whether the fault hits it.
func (f *injected) hits(c layer.Call) bool {
	if f.Op != 0 && f.Op != c.Op || f.When != nil && !f.When(c) {
		return false
	}
	n := f.seen.Add(1) - int64(f.Skip)
	return n > 0 && (f.Times == 0 || n <= int64(f.Times))
}

// FaultyOption changes what [NewFaulty] makes.
type FaultyOption func(*Faulty)

// WithLongestWrite sets what the Faulty says as a [store.WriteBounder]; without it, what the Store beneath says, or else a
// minute. A test that applies writes late (see [Late]) must say how late, or layers that believe the Store are deceived.
func WithLongestWrite(d time.Duration) FaultyOption { return func(f *Faulty) { f.longest = d } }

// NewFaulty returns a Faulty around next, without a fault. It panics if next is nil.
func NewFaulty(next store.Store, opts ...FaultyOption) *Faulty {
	if next == nil {
		panic("storetest.NewFaulty: next is nil: pass the Store to be wrapped")
	}
	f := &Faulty{next: next, longest: time.Minute}
	if b, ok := store.As[driver.WriteBounder](next); ok {
		f.longest = b.LongestWrite()
	}
	for _, o := range opts {
		o(f)
	}
	return f
}

// Inject adds a fault. Where several hit a call, it is the one injected first that acts; each counts for itself the calls
// that its Op and When choose. Inject panics without a Do, and on negative numbers.
func (f *Faulty) Inject(fault Fault) {
	if fault.Do == nil {
		panic("storetest: Inject of a Fault without Do: say what goes wrong, such as storetest.Fail(err)")
	}
	if fault.Skip < 0 || fault.Times < 0 {
		panic(fmt.Sprintf("storetest: Inject of a Fault with Skip %d and Times %d: neither can be negative", fault.Skip, fault.Times))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(slices.Clip(f.faults), &injected{Fault: fault})
}

// Reset takes all faults away and sets the counts to zero. What is stored stays.
func (f *Faulty) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
	for i := range f.counts {
		f.counts[i].Store(0)
	}
}

// Calls returns how many calls of op have reached f, those that a fault hit included. The generators are not counted.
func (f *Faulty) Calls(op store.Op) int {
	if int(op) >= len(f.counts) {
		return 0
	}
	return int(f.counts[op].Load())
}

// Reads returns how many calls that read have reached f.
func (f *Faulty) Reads() int { return f.count(false) }

// Writes returns how many calls that write have reached f.
func (f *Faulty) Writes() int { return f.count(true) }

// Total returns how many calls have reached f.
func (f *Faulty) Total() int { return f.Reads() + f.Writes() }

func (f *Faulty) count(writes bool) (n int) {
	for _, op := range store.Ops() {
		if op.IsWrite() == writes {
			n += f.Calls(op)
		}
	}
	return n
}

// Unwrap returns the Store beneath.
func (f *Faulty) Unwrap() store.Store { return f.next }

// LayerName returns "faulty".
func (f *Faulty) LayerName() string { return "faulty" }

// LongestWrite returns what [WithLongestWrite] describes.
func (f *Faulty) LongestWrite() time.Duration { return f.longest }

// The faults.

// lost is err, or what a lost connection is.
func lost(err error) error {
	if err == nil {
		return store.ErrUnavailable
	}
	return err
}

// Fail fails the call with err, or with [store.ErrUnavailable] if that is nil, instead of making it.
func Fail(err error) layer.InterceptorFunc {
	return func(context.Context, layer.Call, func(context.Context) error) error { return lost(err) }
}

// FailAfter makes the call and then fails it with err, or with [store.ErrUnavailable] if that is nil: what was written is
// written, and the caller cannot know.
func FailAfter(err error) layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		_ = next(ctx)
		return lost(err)
	}
}

// Panic panics with v instead of making the call.
func Panic(v any) layer.InterceptorFunc {
	return func(context.Context, layer.Call, func(context.Context) error) error { panic(v) }
}

// PanicAfter makes the call and then panics with v.
func PanicAfter(v any) layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		_ = next(ctx)
		panic(v)
	}
}

// Goexit ends the goroutine, as runtime.Goexit and a failed t.Fatal do, instead of making the call.
func Goexit() layer.InterceptorFunc {
	return func(context.Context, layer.Call, func(context.Context) error) error {
		runtime.Goexit()
		return nil
	}
}

// GoexitAfter makes the call and then ends the goroutine.
func GoexitAfter() layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		_ = next(ctx)
		runtime.Goexit()
		return nil
	}
}

// Delay calls wait and then makes the call; if wait returns an error, it is the call's, and the call is not made.
func Delay(wait func(context.Context) error) layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if err := wait(ctx); err != nil {
			return err
		}
		return next(ctx)
	}
}

// Until returns a wait for [Delay], until release is closed or has something to receive. If the context ends first, it
// returns the context's error.
func Until(release <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Late holds calls back until after their callers have got an error: writes whose outcome nobody knows, and that come
// true behind everybody's back. The zero Late is ready, and safe for concurrent use. See [WithLongestWrite].
//
//	var late storetest.Late
//	f.Inject(storetest.Fault{Op: store.OpSaveThread, Times: 1, Do: late.Hold(nil)})
//	err := s.SaveThread(ctx, thread) // store.ErrUnavailable, and nothing is written
//	err = late.Apply()               // now it is
type Late struct {
	mu   sync.Mutex
	held []func() error
}

// Hold is the fault that fails a call with err, or with [store.ErrUnavailable] if that is nil, and keeps it for Apply.
func (l *Late) Hold(err error) layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		// Neither the caller's cancellation nor its recorder outlive the call.
		ctx = callctx.WithoutVersionRecorder(context.WithoutCancel(ctx))
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = append(l.held, func() error { return next(ctx) })
		return lost(err)
	}
}

// Apply makes the calls held so far, in the order in which they came, and returns their errors, joined. They are not
// counted again.
func (l *Late) Apply() error {
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()
	var errs []error
	for _, call := range held {
		errs = append(errs, call())
	}
	return errors.Join(errs...)
}

// The Store. The faults do not lie in a [store.Intercept], which does not let a call go on after it has returned: a late
// write does.

// through makes one call, with the fault that hits it, if any.
func through[T any](ctx context.Context, f *Faulty, c layer.Call, call func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	f.counts[c.Op].Add(1)
	faults := f.faults
	f.mu.Unlock()
	var fault *injected
	for _, candidate := range faults {
		if candidate.hits(c) && fault == nil {
			fault = candidate
		}
	}
	if fault == nil {
		return call(ctx)
	}
	var (
		mu     sync.Mutex
		answer T
	)
	err := fault.Do(ctx, c, func(ctx context.Context) error {
		v, err := call(ctx)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			answer = v
		}
		return err
	})
	if err != nil {
		var zero T
		return zero, err
	}
	mu.Lock()
	defer mu.Unlock()
	return answer, nil
}

func (f *Faulty) write(ctx context.Context, c layer.Call, call func(context.Context) error) error {
	_, err := through(ctx, f, c, func(ctx context.Context) (none, error) { return none{}, call(ctx) })
	return err
}

// GenerateThreadID passes through.
func (f *Faulty) GenerateThreadID(ctx context.Context) string { return f.next.GenerateThreadID(ctx) }

// GenerateItemID passes through.
func (f *Faulty) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return f.next.GenerateItemID(ctx, kind, thread)
}

// LoadThread is the Store's beneath, but for faults; so are the other eleven.
func (f *Faulty) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	return through(ctx, f, layer.Call{Op: store.OpLoadThread, ThreadID: threadID},
		func(ctx context.Context) (chat.Thread, error) { return f.next.LoadThread(ctx, threadID) })
}

// SaveThread is described at LoadThread.
func (f *Faulty) SaveThread(ctx context.Context, thread chat.Thread) error {
	return f.write(ctx, layer.Call{Op: store.OpSaveThread, ThreadID: thread.ID},
		func(ctx context.Context) error { return f.next.SaveThread(ctx, thread) })
}

// DeleteThread is described at LoadThread.
func (f *Faulty) DeleteThread(ctx context.Context, threadID string) error {
	return f.write(ctx, layer.Call{Op: store.OpDeleteThread, ThreadID: threadID},
		func(ctx context.Context) error { return f.next.DeleteThread(ctx, threadID) })
}

// LoadThreads is described at LoadThread.
func (f *Faulty) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	return through(ctx, f, pageCall(store.OpLoadThreads, "", q.PageQuery),
		func(ctx context.Context) (store.Page[chat.Thread], error) { return f.next.LoadThreads(ctx, q) })
}

// LoadThreadItems is described at LoadThread.
func (f *Faulty) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	return through(ctx, f, pageCall(store.OpLoadThreadItems, threadID, q),
		func(ctx context.Context) (store.Page[chat.Item], error) {
			return f.next.LoadThreadItems(ctx, threadID, q)
		})
}

// AddThreadItem is described at LoadThread.
func (f *Faulty) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return f.write(ctx, itemCall(store.OpAddThreadItem, threadID, item),
		func(ctx context.Context) error { return f.next.AddThreadItem(ctx, threadID, item) })
}

// SaveItem is described at LoadThread.
func (f *Faulty) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return f.write(ctx, itemCall(store.OpSaveItem, threadID, item),
		func(ctx context.Context) error { return f.next.SaveItem(ctx, threadID, item) })
}

// LoadItem is described at LoadThread.
func (f *Faulty) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	return through(ctx, f, layer.Call{Op: store.OpLoadItem, ThreadID: threadID, ItemID: itemID},
		func(ctx context.Context) (chat.Item, error) { return f.next.LoadItem(ctx, threadID, itemID) })
}

// DeleteThreadItem is described at LoadThread.
func (f *Faulty) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	return f.write(ctx, layer.Call{Op: store.OpDeleteThreadItem, ThreadID: threadID, ItemID: itemID},
		func(ctx context.Context) error { return f.next.DeleteThreadItem(ctx, threadID, itemID) })
}

// SaveAttachment is described at LoadThread.
func (f *Faulty) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	return f.write(ctx, layer.Call{Op: store.OpSaveAttachment, AttachmentID: a.ID},
		func(ctx context.Context) error { return f.next.SaveAttachment(ctx, a) })
}

// LoadAttachment is described at LoadThread.
func (f *Faulty) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	return through(ctx, f, layer.Call{Op: store.OpLoadAttachment, AttachmentID: attachmentID},
		func(ctx context.Context) (chat.Attachment, error) { return f.next.LoadAttachment(ctx, attachmentID) })
}

// DeleteAttachment is described at LoadThread.
func (f *Faulty) DeleteAttachment(ctx context.Context, attachmentID string) error {
	return f.write(ctx, layer.Call{Op: store.OpDeleteAttachment, AttachmentID: attachmentID},
		func(ctx context.Context) error { return f.next.DeleteAttachment(ctx, attachmentID) })
}

func pageCall(op store.Op, threadID string, q store.PageQuery) layer.Call {
	return layer.Call{Op: op, ThreadID: threadID, Order: q.Order, HasCursor: q.After != "", Limit: q.Limit}
}

func itemCall(op store.Op, threadID string, it chat.Item) layer.Call {
	return layer.Call{Op: op, ThreadID: threadID, ItemID: it.ID, ItemType: it.Type()}
}
