// Package faulty makes a Store fail, delay, panic or lose answers on chosen calls, and counts the calls that reach it. It is
// for tests of what lies above a Store, such as a cache or a retry:
//
//	f := faulty.New(memstore.New())
//	f.Inject(faulty.Fault{Op: store.OpSaveItem, Skip: 1, Times: 1, Do: faulty.FailAfter(store.ErrUnavailable)})
//	s := store.Wrap(f, cache.New()) // the second SaveItem is applied, and its answer lost
//
// Which calls a fault hits depends on their number only, never on a clock or on chance. It allocates on every call, so do not
// measure speed through it.
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

// Store passes all calls on to another, but for those that a fault hits. It is safe for concurrent use.
type Store struct {
	calls
	next    store.Store
	longest time.Duration
	counts  [store.NumOps]atomic.Int64

	mu     sync.Mutex
	faults []*injected // replaced, never changed
}

type calls = store.Store

var (
	_ store.Store         = (*Store)(nil)
	_ store.Unwrapper     = (*Store)(nil)
	_ store.Named         = (*Store)(nil)
	_ driver.WriteBounder = (*Store)(nil)
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

// Option changes what [New] makes.
type Option func(*Store)

// WithLongestWrite sets what the Store says as a [driver.WriteBounder]; without it, what the one beneath says, or else a
// minute. A test that applies writes late (see [Late]) must say how late, or layers that believe the Store are deceived.
func WithLongestWrite(d time.Duration) Option { return func(f *Store) { f.longest = d } }

// New returns a Store around next, without a fault. It panics if next is nil.
func New(next store.Store, opts ...Option) *Store {
	if next == nil {
		panic("faulty.New: next is nil: pass the Store to be wrapped")
	}
	f := &Store{next: next, longest: time.Minute}
	f.calls = layer.Observe("faulty", teller{})(&call.Store{IDs: next, Do: f.through})
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
func (f *Store) Inject(fault Fault) {
	if fault.Do == nil {
		panic("faulty: Inject of a Fault without Do: say what goes wrong, such as faulty.Fail(err)")
	}
	if fault.Skip < 0 || fault.Times < 0 {
		panic(fmt.Sprintf("faulty: Inject of a Fault with Skip %d and Times %d: neither can be negative", fault.Skip, fault.Times))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(slices.Clip(f.faults), &injected{Fault: fault})
}

// Reset takes all faults away and sets the counts to zero. What is stored stays.
func (f *Store) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
	for i := range f.counts {
		f.counts[i].Store(0)
	}
}

// Calls returns how many calls of op have reached f, those that a fault hit included. The generators are not counted.
func (f *Store) Calls(op store.Op) int {
	if int(op) >= len(f.counts) {
		return 0
	}
	return int(f.counts[op].Load())
}

// Reads returns how many calls that read have reached f.
func (f *Store) Reads() int { return f.count(false) }

// Writes returns how many calls that write have reached f.
func (f *Store) Writes() int { return f.count(true) }

// Total returns how many calls have reached f.
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

// LongestWrite returns what [WithLongestWrite] describes.
func (f *Store) LongestWrite() time.Duration { return f.longest }

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
func FailAfter(err error) layer.InterceptorFunc { return after(Fail(err)) }

// Panic panics with v instead of making the call.
func Panic(v any) layer.InterceptorFunc {
	return func(context.Context, layer.Call, func(context.Context) error) error { panic(v) }
}

// PanicAfter makes the call and then panics with v.
func PanicAfter(v any) layer.InterceptorFunc { return after(Panic(v)) }

// Goexit ends the goroutine, as runtime.Goexit and a failed t.Fatal do, instead of making the call.
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
//	var late faulty.Late
//	f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: late.Hold(nil)})
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
	for _, apply := range held {
		errs = append(errs, apply())
	}
	return errors.Join(errs...)
}

// through makes one call, with the fault that hits it, if any. It does not lie in a [layer.Intercept], which does not let a
// call go on after it has returned: a late write does.
func (f *Store) through(ctx context.Context, c call.Call) call.Answer {
	told, _ := ctx.Value(toldKey{}).(layer.Call)
	f.mu.Lock()
	f.counts[c.Op].Add(1)
	faults := f.faults
	f.mu.Unlock()
	var fault *injected
	for _, candidate := range faults {
		if candidate.hits(told) && fault == nil {
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
	err := fault.Do(ctx, told, func(ctx context.Context) error {
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

type toldKey struct{}

// teller has the calls described as every layer does.
type teller struct{}

func (teller) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	return context.WithValue(ctx, toldKey{}, c), nil
}

func (teller) End(context.Context, layer.Call, layer.Result, any) {}
