// Package flight shares one call between concurrent callers with the same key. It adds to x/sync/singleflight what a Store
// needs:
//
//   - A cancelled caller ends only its own wait. The call ends when its last caller has left, or at its time limit.
//   - If the call panics, every caller panics. If it exits its goroutine, every caller gets an error. (With DoChan alone,
//     the process would crash or the callers would hang.)
//   - A caller may ask for a call that has not begun yet.
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

// ErrGoexit is the error of Do if the call exited its goroutine.
var ErrGoexit = errors.New("flight: the shared call exited its goroutine")

// PanicError is the value with which every caller panics if the call panicked.
type PanicError struct {
	Value any
	Stack []byte // stack of the call; the callers' stacks do not show it
}

// Error returns the panic's value and the stack of the call.
func (p *PanicError) Error() string { return fmt.Sprintf("%v\n\n%s", p.Value, p.Stack) }

// Unwrap returns the value if it is an error.
func (p *PanicError) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// Spec describes a call.
type Spec struct {
	// Key identifies the call. Callers with equal keys share it. Build keys from length-prefixed parts.
	Key string
	// Queued joins only a call that has not begun yet. Callers that come during a call share the next one.
	Queued bool
	// Limit is the longest time that the call may take after it has begun. Zero means no limit.
	Limit time.Duration
	// Origin identifies the leader. Followers get it in their Role.
	Origin any
	// Joined is called with the caller's role before the caller waits.
	Joined func(Role)
}

// Role is a caller's part in a call.
type Role struct {
	Follower bool
	Leader   any // the leader's Origin
}

// Group shares calls that return a T. T must be safe to share. The zero Group is ready to use. It is safe for concurrent
// use.
type Group[T any] struct {
	mu    sync.Mutex
	calls singleflight.Group
	// open has the calls that callers may join: exactly the keys in calls.
	open map[string]*shared
	// tail has, for each key with queued calls, the done channel of the last one.
	tail map[string]chan struct{}
}

type shared struct {
	ctx     context.Context
	cancel  context.CancelFunc
	refs    int // waiting callers
	origin  any
	unwatch func() bool     // stops watching ctx; nil before the call has begun
	prev    <-chan struct{} // for queued calls: closed at the end of the previous one
	done    chan struct{}   // for queued calls: closed at the end
	ended   bool
	broken  chan struct{} // closed if the call ends without an answer
	err     error         // the reason; set before broken is closed
}

// Do calls fn once for all callers that share the call, and returns its result. The leader's detach makes the context of fn.
// This context is cancelled when no caller waits any more. If ctx ends first, Do returns its cause at once.
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

// start opens a call. The caller holds g.mu.
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

// begin gives the call its context with the time limit. The end of the context ends the call, even if fn ignores it.
func (g *Group[T]) begin(ctx context.Context, f *shared, spec Spec) {
	queued := f.cancel // for the context of the queued call
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
	f.unwatch = context.AfterFunc(ctx, func() { g.end(f, spec, ctx.Err()) })
}

// shut closes the call for further callers. The caller holds g.mu.
func (g *Group[T]) shut(f *shared, key string) {
	if g.open[key] == f {
		delete(g.open, key)
		g.calls.Forget(key)
	}
}

// leave removes one caller. The call ends with its last caller.
func (g *Group[T]) leave(f *shared, key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.refs--; f.refs == 0 {
		g.shut(f, key)
		f.cancel()
	}
}

// run makes the call, in DoChan's goroutine. DoChan delivers its result, or the PanicError. Any other end goes through
// broken.
func (g *Group[T]) run(f *shared, spec Spec, fn func(context.Context) (T, error)) (v T, err error) {
	if spec.Queued {
		if f.prev != nil {
			<-f.prev // even if all callers have left: two calls of one queue must not run at once
		}
		g.mu.Lock()
		g.shut(f, spec.Key)
		g.begin(f.ctx, f, spec)
		g.mu.Unlock()
	}
	if err := f.ctx.Err(); err != nil { // all callers left while it was queued
		g.end(f, spec, err)
		return v, err
	}
	returned := false
	defer func() {
		f.unwatch()
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

// end ends the call. Only its first call has an effect. With a cause, all waiting callers return it at once.
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
