// Package flight shares one call between concurrent callers with the same key:
//
//   - A cancelled caller ends only its own wait. The call ends when its last caller has left, or at its time limit.
//   - If the call panics, every caller panics. If it exits its goroutine, every caller gets an error.
//   - A caller may ask for a call that has not begun yet.
package flight

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
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
type Spec[K comparable] struct {
	// Key identifies the call. Callers with equal keys share it.
	Key K
	// Queued joins only a call that has not begun yet. Callers that come during a call share the next one.
	Queued bool
	// Limit is the longest time that the call may take after it has begun. Zero means no limit.
	Limit time.Duration
	// Origin identifies the leader. Followers get it in their Role.
	Origin any
}

// Role is a caller's part in a call.
type Role struct {
	Follower bool
	Leader   any // the leader's Origin
}

// Group shares calls with keys of type K that return a T. T must be safe to share. The zero Group is ready to use. It is safe
// for concurrent use.
type Group[K comparable, T any] struct {
	mu sync.Mutex
	// open has the calls that callers may join. A call that nobody waits for any more stays until fn returns.
	open map[K]*call[T]
	// tail has, for each key with queued calls, a channel that is closed when the context of the last one ends.
	tail map[K]chan struct{}
}

type call[T any] struct {
	ctx     context.Context // ends when the call ends for its callers
	cancel  context.CancelFunc
	waiting int // callers
	origin  any

	answered atomic.Bool // v, err and panicked are set
	v        T
	err      error
	panicked *PanicError
}

// Do calls fn once for all callers that share the call, and returns its result. The context of fn has the values of the first
// caller's context. It is cancelled when no caller waits any more. Do calls joined before it waits. If ctx ends first, Do
// returns its cause at once.
func (g *Group[K, T]) Do(ctx context.Context, spec Spec[K], joined func(Role),
	fn func(context.Context) (T, error)) (T, error) {
	g.mu.Lock()
	c := g.open[spec.Key]
	follows := c != nil && c.ctx.Err() == nil // a call may ignore its context and go on
	if !follows {
		c = g.start(context.WithoutCancel(ctx), spec, fn)
	}
	c.waiting++
	g.mu.Unlock()

	joined(Role{Follower: follows, Leader: c.origin})
	var zero T
	select {
	case <-c.ctx.Done():
	case <-ctx.Done():
		g.leave(c)
		return zero, context.Cause(ctx)
	}
	switch {
	case !c.answered.Load(): // at the time limit
		return zero, context.Cause(c.ctx)
	case c.panicked != nil:
		panic(c.panicked)
	}
	return c.v, c.err
}

// start opens a call. The caller holds g.mu.
func (g *Group[K, T]) start(ctx context.Context, spec Spec[K], fn func(context.Context) (T, error)) *call[T] {
	if g.open == nil {
		g.open = make(map[K]*call[T])
		g.tail = make(map[K]chan struct{})
	}
	c := &call[T]{origin: spec.Origin}
	g.open[spec.Key] = c
	if spec.Queued {
		g.enqueue(ctx, c, spec, fn)
		return c
	}
	c.ctx, c.cancel = limited(ctx, spec.Limit)
	go g.run(c.ctx, c, spec.Key, fn)
	return c
}

func limited(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit > 0 {
		return context.WithTimeout(ctx, limit)
	}
	return context.WithCancel(ctx)
}

// enqueue makes the call after the previous one of its key. The caller holds g.mu.
func (g *Group[K, T]) enqueue(ctx context.Context, c *call[T], spec Spec[K], fn func(context.Context) (T, error)) {
	ended := make(chan struct{})
	prev := g.tail[spec.Key]
	g.tail[spec.Key] = ended
	queued, end := context.WithCancelCause(ctx)
	c.ctx, c.cancel = queued, func() { end(nil) }
	go func() {
		if prev != nil {
			<-prev // even if all callers have left: only calls that ignore their contexts may run at once
		}
		g.mu.Lock()
		g.shut(c, spec.Key)
		g.mu.Unlock()
		ctx, cancel := limited(queued, spec.Limit)
		defer cancel()
		context.AfterFunc(ctx, func() { // at the time limit, too, even if fn ignores it
			end(ctx.Err())
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.tail[spec.Key] == ended {
				delete(g.tail, spec.Key)
			}
			close(ended)
		})
		if ctx.Err() == nil { // else all callers left while it was queued
			g.run(ctx, c, spec.Key, fn)
		}
	}()
}

// run makes the call.
func (g *Group[K, T]) run(ctx context.Context, c *call[T], key K, fn func(context.Context) (T, error)) {
	returned := false
	defer func() {
		if r := recover(); r != nil {
			c.panicked = &PanicError{Value: r, Stack: debug.Stack()}
		} else if !returned {
			c.err = ErrGoexit
		}
		g.mu.Lock()
		g.shut(c, key)
		g.mu.Unlock()
		c.answered.Store(true)
		c.cancel()
	}()
	c.v, c.err = fn(ctx)
	returned = true
}

// shut closes the call for further callers. The caller holds g.mu.
func (g *Group[K, T]) shut(c *call[T], key K) {
	if g.open[key] == c {
		delete(g.open, key)
	}
}

// leave removes one caller. The call ends with its last caller.
func (g *Group[K, T]) leave(c *call[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.waiting--; c.waiting == 0 {
		c.cancel() // from now on nobody joins it
	}
}
