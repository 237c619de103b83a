// Package flight lets concurrent callers with one key share a call. It adds to x/sync/singleflight what a shared call of a Store
// needs:
//
//   - Cancelling one caller ends the wait of that caller only. The call ends when its last caller has left, or at its own
//     time limit.
//   - If the call panics, every caller panics. If it exits its goroutine, every caller gets an error. (Bare DoChan would kill
//     the process or hang.)
//   - A caller may insist on a call that has not begun yet.
package flight

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// ErrGoexit is what callers get when the call ended its goroutine.
var ErrGoexit = errors.New("flight: the shared call exited its goroutine")

// PanicError is what callers panic with when the call panicked.
type PanicError struct {
	Value any
	Stack []byte // of the call, which the callers' stacks do not show
}

// Error returns the panic's value and the stack of the call.
func (p *PanicError) Error() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Stack) }

// Unwrap returns the value if it is an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Spec says which call is wanted.
type Spec struct {
	// Key names the call. Equal keys are equal calls: build it from length-prefixed parts.
	Key string
	// Queued joins only a call that has not begun yet. While one is under way, those who come wait together for the next.
	Queued bool
	// Limit is the longest the call may take once begun. Zero: as long as somebody waits.
	Limit time.Duration
	// Origin is what followers learn of the leader.
	Origin any
	// Joined is told the caller's role before it waits.
	Joined func(Role)
}

// Role says how a caller took part.
type Role struct {
	Follower bool
	Leader   any // the leader's Origin
}

// Group shares calls that return a T, which must be safe to share. The zero Group is ready. It is safe for concurrent use.
type Group[T any] struct {
	mu    sync.Mutex
	calls singleflight.Group
	// open has the calls that may be joined. A key is in it exactly as long as it is in calls.
	open map[string]*shared
	// tail has, for each key of queued calls, the end of the last one in the queue.
	tail map[string]chan struct{}
}

type shared struct {
	ctx    context.Context
	cancel context.CancelFunc
	refs   int // callers that wait
	origin any
	heeded func() bool     // stops watching ctx; nil before the call has begun
	prev   <-chan struct{} // queued: the end of the call before
	done   chan struct{}   // queued: closed at the end
	ended  bool
	broken chan struct{} // closed at an end without an answer
	err    error         // why: set before broken is closed
}

// Do returns what fn returns, called once for all callers that share the call. fn gets a context with the values of detach
// (the leader's), which is cancelled when nobody waits any more. When ctx ends first, Do returns its cause at once.
func (g *Group[T]) Do(ctx context.Context, spec Spec, detach func(context.Context) context.Context,
	fn func(context.Context) (T, error)) (T, error) {
	g.mu.Lock()
	f, joined := g.open[spec.Key]
	if !joined {
		f = g.start(detach(ctx), spec)
	}
	f.refs++
	answer := g.calls.DoChan(spec.Key, func() (any, error) { return g.run(f, spec, fn) })
	g.mu.Unlock()

	if spec.Joined != nil {
		spec.Joined(Role{Follower: joined, Leader: f.origin})
	}
	select {
	case r := <-answer:
		if p, ok := errors.AsType[*PanicError](r.Err); ok {
			panic(p)
		}
		v, _ := r.Val.(T)
		return v, r.Err
	case <-f.broken:
		var zero T
		return zero, f.err
	case <-ctx.Done():
		g.leave(f, spec.Key)
		var zero T
		return zero, context.Cause(ctx)
	}
}

// start opens a call. g.mu is held.
func (g *Group[T]) start(ctx context.Context, spec Spec) *shared {
	if g.open == nil {
		g.open = make(map[string]*shared)
		g.tail = make(map[string]chan struct{})
	}
	f := &shared{origin: spec.Origin, broken: make(chan struct{})}
	if spec.Queued {
		f.ctx, f.cancel = context.WithCancel(ctx)
		f.done = make(chan struct{})
		if prev, ok := g.tail[spec.Key]; ok {
			f.prev = prev
		}
		g.tail[spec.Key] = f.done
	} else {
		g.begin(ctx, f, spec)
	}
	g.open[spec.Key] = f
	return f
}

// begin gives the call its context, with the time limit, and sees to it that its end ends the call, even if fn does not heed it.
func (g *Group[T]) begin(ctx context.Context, f *shared, spec Spec) {
	queued := f.cancel // of ctx, where the call was queued
	if spec.Limit > 0 {
		f.ctx, f.cancel = context.WithTimeout(ctx, spec.Limit)
	} else {
		f.ctx, f.cancel = context.WithCancel(ctx)
	}
	if queued != nil {
		stop := f.cancel
		f.cancel = func() { stop(); queued() }
	}
	ctx = f.ctx
	f.heeded = context.AfterFunc(ctx, func() { g.end(f, spec, ctx.Err()) })
}

// shut makes the call one that cannot be joined. g.mu is held.
func (g *Group[T]) shut(f *shared, key string) {
	if g.open[key] == f {
		delete(g.open, key)
		g.calls.Forget(key)
	}
}

// leave takes one caller away, and ends the call with the last.
func (g *Group[T]) leave(f *shared, key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.refs--; f.refs == 0 {
		g.shut(f, key)
		f.cancel()
	}
}

// run is the call, in the goroutine that DoChan made for it. DoChan delivers what it returns, which may be a panic; the rest
// goes by way of broken.
func (g *Group[T]) run(f *shared, spec Spec, fn func(context.Context) (T, error)) (v T, err error) {
	if spec.Queued {
		if f.prev != nil {
			<-f.prev // also when nobody waits any more, so that two of one queue are never under way at once
		}
		g.mu.Lock()
		g.shut(f, spec.Key)
		g.begin(f.ctx, f, spec)
		g.mu.Unlock()
	}
	if err := f.ctx.Err(); err != nil { // everybody left while it was queued
		g.end(f, spec, err)
		return v, err
	}
	returned := false
	defer func() {
		f.heeded()
		if r := recover(); r != nil {
			err = &PanicError{Value: r, Stack: debug.Stack()}
		} else if !returned {
			g.end(f, spec, ErrGoexit)
		}
		g.end(f, spec, nil)
	}()
	v, err = fn(f.ctx)
	returned = true
	return v, err
}

// end ends the call, once. With a cause, its callers are told at once that there will be no answer.
func (g *Group[T]) end(f *shared, spec Spec, cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.ended {
		return
	}
	f.ended = true
	g.shut(f, spec.Key)
	f.cancel()
	if cause != nil {
		f.err = cause
		close(f.broken)
	}
	if spec.Queued {
		if g.tail[spec.Key] == f.done {
			delete(g.tail, spec.Key)
		}
		close(f.done)
	}
}
