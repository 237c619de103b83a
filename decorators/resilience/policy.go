package resilience

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// policy is the Interceptor of one layer.
type policy struct {
	config
	tooLong *timeLimit // the cause by which this layer, and no other, ends an attempt
	breaker breaker
	budget  budget
	places  chan struct{} // of the bulkhead

	retried, timeouts atomic.Int64
	refused           [len(reasons)]atomic.Int64
}

var (
	_ layer.Interceptor   = (*policy)(nil)
	_ layer.StatsReporter = (*policy)(nil)
)

// timeLimit is the cause of an error by the time limit of one layer. Layers around it know the error by it.
type timeLimit struct{ _ byte } // not empty, so that each has an address of its own

func (*timeLimit) Error() string { return "resilience: the time limit of the attempt" }
func (*timeLimit) Unwrap() error { return context.DeadlineExceeded }

// Why an attempt is not made.
const (
	byBreaker = iota
	byBulkhead
	byBudget
)

var reasons = [...]string{byBreaker: "breaker", byBulkhead: "bulkhead", byBudget: "budget"}

// result is the end of an attempt.
type result struct {
	err     error
	refused bool // by this layer
	again   bool // the call may be retried
}

// Intercept implements layer.Interceptor.
func (p *policy) Intercept(ctx context.Context, c layer.Call, next func(context.Context) error) error {
	retries := p.retries
	if callctx.Of(ctx).Retried {
		retries = 0
	} else if retries > 0 {
		ctx = callctx.With(ctx, func(d *callctx.Data) { d.Retried = true })
	}
	last := p.attempt(ctx, c, next)
	if !last.refused {
		p.budget.add(1)
	}
	for n := range retries {
		if !last.again || !p.mayRetry(ctx) {
			break
		}
		r := result{refused: true}
		if wait(ctx, p.pause<<min(n, 10)) {
			r = p.attempt(ctx, c, next)
		}
		if r.refused {
			p.budget.add(tenths) // the token is not spent
			break                // the last attempt's error says more
		}
		p.retried.Add(1)
		last = r
	}
	return last.err
}

// mayRetry reports whether the caller waits, the breaker lets a retry through, and the budget has a token for it.
func (p *policy) mayRetry(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if _, refuses := p.breaker.state(); refuses {
		p.refused[byBreaker].Add(1)
		return false
	}
	if !p.budget.take() {
		p.refused[byBudget].Add(1)
		return false
	}
	return true
}

// wait waits for a random time up to most. It returns false if the caller left.
func wait(ctx context.Context, most time.Duration) bool {
	timer := time.NewTimer(rand.N(min(most, maxPause) + 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// attempt makes one attempt, unless the bulkhead or the breaker refuses it. It gives their permits back, also after a panic.
func (p *policy) attempt(ctx context.Context, c layer.Call, next func(context.Context) error) (r result) {
	if p.bulkhead > 0 {
		select {
		case p.places <- struct{}{}:
			defer func() { <-p.places }()
		default:
			return p.refuse(ctx, c, byBulkhead)
		}
	}
	permit, ok := p.breaker.begin()
	if !ok {
		return p.refuse(ctx, c, byBreaker)
	}
	says := neutral
	defer func() { p.breaker.end(permit, says) }()
	if p.limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.limit, p.tooLong)
		defer cancel()
	}
	r.err = next(ctx)
	switch code := store.CodeOf(r.err); code {
	case store.CodeOK, store.CodeNotFound, store.CodeConflict:
		says = answered
	case store.CodeUnavailable, store.CodeTimeout, store.CodeCanceled, store.CodeInternal:
		own := context.Cause(ctx) == error(p.tooLong)
		_, inner := errors.AsType[*timeLimit](r.err)
		if !own && !inner && code != store.CodeUnavailable {
			break // the caller left, or the base has another fault
		}
		says, r.again = failed, !c.Op.IsWrite() || code == store.CodeUnavailable && errors.Is(r.err, store.ErrNotApplied)
		if own { // a driver may have other words for it
			p.timeouts.Add(1)
			r.err = &store.Error{Op: c.Op, Code: store.CodeTimeout, Cause: errors.Join(p.tooLong, r.err)}
		}
	}
	return r
}

func (p *policy) refuse(ctx context.Context, c layer.Call, by int) result {
	if gone := driver.Done(ctx, c.Op, "", ""); gone != nil { // the contract: a call after the context's end returns its error
		return result{err: gone, refused: true}
	}
	p.refused[by].Add(1)
	why := errors.New("resilience: refused by the " + reasons[by])
	if c.Op.IsWrite() {
		why = errors.Join(store.ErrNotApplied, why)
	}
	return result{err: &store.Error{Op: c.Op, Code: store.CodeUnavailable, Cause: why}, refused: true}
}
