// Package faulty makes a Store fail, delay, panic or lose answers on chosen calls, and counts the calls that reach it. Use
// it to test a layer above a Store, such as a cache or a retry:
//
//	f := faulty.New(memstore.New())
//	f.Inject(faulty.Fault{Op: store.OpSaveItem, Skip: 1, Times: 1, Do: faulty.FailAfter(store.ErrUnavailable)})
//	s := store.Wrap(f, cache.New()) // the second SaveItem is applied, but its answer is lost
//
// Among the matching calls, a fault chooses by their number only, never by a clock or by chance. A Store of this package
// allocates on every call, so do not measure speed through it.
package faulty

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// Store passes every call on to another Store, except the calls that a fault hits. It is safe for concurrent use.
type Store struct {
	calls
	next    store.Store
	longest time.Duration
	counts  [store.NumOps]atomic.Int64

	mu     sync.Mutex
	faults []*injected // copied on write
}

type calls = store.Store

var (
	_ store.Store         = (*Store)(nil)
	_ store.Unwrapper     = (*Store)(nil)
	_ store.Named         = (*Store)(nil)
	_ driver.WriteBounder = (*Store)(nil)
)

// Fault says which calls go wrong, and how.
type Fault struct {
	Op   store.Op              // the op of the calls; zero means every op
	When func(layer.Call) bool // chooses calls; nil means every call. It must be safe for concurrent use

	Skip  int // how many of these calls pass first
	Times int // how many of the calls after that are hit; zero means all

	// Do is what happens: [Fail], [FailAfter], [Panic], [PanicAfter], [Goexit], [GoexitAfter], [Delay], [Late.Hold], or your
	// own function. It may call next, which makes the call, any number of times. Its error is the error of the call. If it
	// returns nil and no next succeeded, the caller gets a zero value.
	Do layer.InterceptorFunc
}

type injected struct {
	Fault
	seen atomic.Int64
}

// hits counts a matching call and reports whether the fault hits it.
func (f *injected) hits(c layer.Call) bool {
	if f.Op != 0 && f.Op != c.Op || f.When != nil && !f.When(c) {
		return false
	}
	n := f.seen.Add(1) - int64(f.Skip)
	return n > 0 && (f.Times == 0 || n <= int64(f.Times))
}

// Option configures a [Store].
type Option func(*Store)

// WithLongestWrite sets LongestWrite, which makes the Store a [driver.WriteBounder]. The default is the value of the Store
// beneath, or a minute if that reports none. A test that applies writes late (see [Late]) must set a duration that covers
// them. Layers above rely on it.
func WithLongestWrite(d time.Duration) Option { return func(f *Store) { f.longest = d } }

// New returns a Store around next, without faults. It panics if next is nil.
func New(next store.Store, opts ...Option) *Store {
	if next == nil {
		panic("faulty.New: next is nil: pass the Store to be wrapped")
	}
	f := &Store{next: next, longest: time.Minute}
	f.calls = layer.Observe("faulty", describer{})(&call.Store{IDs: next, Do: f.through})
	if b, ok := store.As[driver.WriteBounder](next); ok {
		f.longest = b.LongestWrite()
	}
	for _, o := range opts {
		o(f)
	}
	return f
}

// Inject adds a fault. If several faults match a call, the one injected first acts. Each fault counts its own matching
// calls. Inject panics if Do is nil, or if Skip or Times is negative.
func (f *Store) Inject(fault Fault) {
	if fault.Do == nil {
		panic("faulty: Inject: the Fault has no Do: set it to a fault such as faulty.Fail(err)")
	}
	if fault.Skip < 0 || fault.Times < 0 {
		panic(fmt.Sprintf("faulty: Inject: Skip is %d and Times is %d: neither may be negative", fault.Skip, fault.Times))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(slices.Clip(f.faults), &injected{Fault: fault})
}

// Reset removes all faults and sets the counts to zero. Stored rows stay.
func (f *Store) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
	for i := range f.counts {
		f.counts[i].Store(0)
	}
}

// Calls returns how many calls of op have reached f, including those that a fault hit. The generators are not counted.
func (f *Store) Calls(op store.Op) int {
	if int(op) >= len(f.counts) {
		return 0
	}
	return int(f.counts[op].Load())
}

// Reads returns how many reading calls have reached f.
func (f *Store) Reads() int { return f.count(false) }

// Writes returns how many writing calls have reached f.
func (f *Store) Writes() int { return f.count(true) }

// Total returns how many calls have reached f, reads and writes.
func (f *Store) Total() int { return f.Reads() + f.Writes() }

func (f *Store) count(writes bool) (n int) {
	for _, op := range store.Ops() {
		if op.IsWrite() == writes {
			n += f.Calls(op)
		}
	}
	return n
}

// Unwrap returns the Store beneath.
func (f *Store) Unwrap() store.Store { return f.next }

// LayerName returns "faulty".
func (f *Store) LayerName() string { return "faulty" }

// LongestWrite returns the duration described at [WithLongestWrite].
func (f *Store) LongestWrite() time.Duration { return f.longest }

// lost returns err, or the error of a lost connection.
func lost(err error) error {
	if err == nil {
		return store.ErrUnavailable
	}
	return err
}

// Fail fails the call with err instead of making it. A nil err means [store.ErrUnavailable].
func Fail(err error) layer.InterceptorFunc {
	return func(context.Context, layer.Call, func(context.Context) error) error { return lost(err) }
}

// FailAfter makes the call and then fails it with err, so a write is applied and its caller cannot know. A nil err means
// [store.ErrUnavailable].
func FailAfter(err error) layer.InterceptorFunc { return after(Fail(err)) }

// Panic panics with v instead of making the call.
func Panic(v any) layer.InterceptorFunc {
	return func(context.Context, layer.Call, func(context.Context) error) error { panic(v) }
}

// PanicAfter makes the call and then panics with v.
func PanicAfter(v any) layer.InterceptorFunc { return after(Panic(v)) }

// Goexit ends the goroutine instead of making the call, as runtime.Goexit and a failed t.Fatal do.
func Goexit() layer.InterceptorFunc {
	return func(context.Context, layer.Call, func(context.Context) error) error {
		runtime.Goexit()
		return nil
	}
}

// GoexitAfter makes the call and then ends the goroutine.
func GoexitAfter() layer.InterceptorFunc { return after(Goexit()) }

// after makes the call before the fault.
func after(fault layer.InterceptorFunc) layer.InterceptorFunc {
	return func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		_ = next(ctx)
		return fault(ctx, c, next)
	}
}

// Delay calls wait and then makes the call. If wait returns an error, the call fails with it and is not made.
func Delay(wait func(context.Context) error) layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if err := wait(ctx); err != nil {
			return err
		}
		return next(ctx)
	}
}

// Until returns a wait function for [Delay]. It waits until release is closed or delivers a value. If the context ends
// first, it returns the context's error.
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

// Late fails calls and applies them later: their callers got an error, and their outcome is unknown. The zero Late is ready
// for use and safe for concurrent use. See [WithLongestWrite].
//
//	var late faulty.Late
//	f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: late.Hold(nil)})
//	err := s.SaveThread(ctx, thread) // store.ErrUnavailable, and nothing is written
//	err = late.Apply()               // now the thread is written
type Late struct {
	mu   sync.Mutex
	held []func() error
}

// Hold returns a fault, for [Fault.Do], that fails a call with err and keeps the call for Apply. A nil err means [store.ErrUnavailable].
func (l *Late) Hold(err error) layer.InterceptorFunc {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		// The held call must outlive the caller's cancellation, and must not report to its version recorder.
		ctx = callctx.WithoutVersionRecorder(context.WithoutCancel(ctx))
		l.mu.Lock()
		defer l.mu.Unlock()
		l.held = append(l.held, func() error { return next(ctx) })
		return lost(err)
	}
}

// Apply makes the calls that were held so far, in order, and returns their joined errors. It does not count them again.
func (l *Late) Apply() error {
	l.mu.Lock()
	held := l.held
	l.held = nil
	l.mu.Unlock()
	var errs []error
	for _, apply := range held {
		errs = append(errs, apply())
	}
	return errors.Join(errs...)
}

// through makes one call, with the fault that hits it, if any. It is not a [layer.Intercept], because there a call cannot
// continue after it has returned. A late write must.
func (f *Store) through(ctx context.Context, c call.Call) call.Answer {
	described, _ := ctx.Value(callKey{}).(layer.Call)
	f.mu.Lock()
	f.counts[c.Op].Add(1)
	faults := f.faults
	f.mu.Unlock()
	var fault *injected
	for _, candidate := range faults {
		if candidate.hits(described) && fault == nil {
			fault = candidate
		}
	}
	if fault == nil {
		return c.Make(ctx, f.next)
	}
	var (
		mu     sync.Mutex
		answer call.Answer
	)
	err := fault.Do(ctx, described, func(ctx context.Context) error {
		a := c.Make(ctx, f.next)
		if a.Err == nil {
			mu.Lock()
			defer mu.Unlock()
			answer = a
		}
		return a.Err
	})
	if err != nil {
		return call.Answer{Err: err}
	}
	mu.Lock()
	defer mu.Unlock()
	return answer
}

type callKey struct{}

// describer stores the layer.Call of each call in its context.
type describer struct{}

func (describer) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	return context.WithValue(ctx, callKey{}, c), nil
}

func (describer) End(context.Context, layer.Call, layer.Result, any) {}
