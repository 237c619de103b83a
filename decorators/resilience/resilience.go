// Package resilience protects callers from a base that is slow or unavailable, and the base from its callers. It has a time
// limit, retries, a circuit breaker and a bulkhead.
//
// Use it for a base on a network. A base in the same process does not need it.
//
//	s := store.Wrap(base, tracing.New(), authz.New(authz.OwnerOnly()), cache.New(), resilience.New())
//
// Put it around the base, beneath all other layers but a mirror. Beneath the cache, hits are answered while the breaker is open, and a
// shared load is retried once for all of its callers. Metrics and tracing above it see a call with all of its attempts.
//
//   - A read is retried if the base is unavailable or the time limit ended an attempt, while the caller waits.
//   - A write is retried only if the base is unavailable and the write was certainly not applied ([store.ErrNotApplied]).
//   - Retries add at most 10 % to the calls of the base, and 10 more after a quiet time. Each follows a random pause.
//   - Of two such layers in a stack only the outer one retries, also after a time limit of the inner one. If the base retries too,
//     switch one of both off.
//   - The layer waits for every attempt and returns its result, also after the caller has left. So a write that succeeded is
//     never reported as cancelled.
//   - The breaker counts unavailable and the layer's own time limit as failures, and ok, not_found and conflict as answers.
//     It ignores other codes: one bad row must not open it, and a base may refuse arguments without its backend.
//   - An attempt that the breaker or the bulkhead refuses is CodeUnavailable at once, and a write wraps [store.ErrNotApplied].
//
// The layer is a [layer.StatsReporter]:
//
//	chatstore_resilience_retries_total          attempts after the first
//	chatstore_resilience_timeouts_total         attempts that the time limit ended
//	chatstore_resilience_refused_total{reason}  attempts not made: breaker, bulkhead, or budget (a retry)
//	chatstore_resilience_breaker_open           1 while the breaker is open or half-open
package resilience

import (
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// The defaults of the options. By default there is no bulkhead, because its size depends on the base.
const (
	DefaultTimeLimit   = 10 * time.Second
	DefaultRetries     = 2
	DefaultPause       = 50 * time.Millisecond
	DefaultFailures    = 10
	DefaultBreakerOpen = 5 * time.Second
)

// maxPause is the upper bound of all pauses before retries.
const maxPause = time.Second

type config struct {
	limit    time.Duration
	retries  int
	pause    time.Duration
	failures int
	open     time.Duration
	bulkhead int
}

// Option configures New.
type Option func(*config)

// WithTimeLimit ends the context of each attempt after d; the default is DefaultTimeLimit. The caller then gets CodeTimeout,
// and the outcome of a write is unknown unless the base says ErrNotApplied. The layer waits for a base that ignores its
// context. With 0 there is no limit. WithTimeLimit panics if d is negative.
func WithTimeLimit(d time.Duration) Option {
	must(d >= 0, "WithTimeLimit: the time is negative: use 0 for no limit")
	return func(c *config) { c.limit = d }
}

// WithRetries sets how often a call is retried, and the upper bound of the pause before its first retry. The bound doubles
// with each retry, up to one second; the pause is random. The defaults are DefaultRetries and DefaultPause. With n 0 there
// are no retries. WithRetries panics if n or pause is negative.
func WithRetries(n int, pause time.Duration) Option {
	must(n >= 0 && pause >= 0, "WithRetries: the number or the pause is negative: use 0 for no retries")
	return func(c *config) { c.retries, c.pause = n, min(pause, maxPause) }
}

// WithBreaker opens the breaker after failures failed attempts, if they are at least half of the counted attempts. The
// counts are halved every 10 s. After the time open, one attempt is let through as a probe, and the breaker closes if the
// base answers it. The defaults are DefaultFailures and DefaultBreakerOpen. With 0 failures there is no breaker. WithBreaker
// panics if failures is negative, or if open is not positive while there is a breaker.
func WithBreaker(failures int, open time.Duration) Option {
	must(failures >= 0, "WithBreaker: the number of failures is negative: use 0 for no breaker")
	must(failures == 0 || open > 0, "WithBreaker: the time is not positive: it is how long an open breaker spares the base")
	return func(c *config) { c.failures, c.open = failures, open }
}

// WithBulkhead refuses an attempt at once while that many attempts are in progress. With 0, the default, there is no
// bulkhead. WithBulkhead panics if attempts is negative.
func WithBulkhead(attempts int) Option {
	must(attempts >= 0, "WithBulkhead: the number is negative: use 0 for no bulkhead")
	return func(c *config) { c.bulkhead = attempts }
}

func must(ok bool, sentence string) {
	if !ok {
		panic("resilience." + sentence)
	}
}

// New returns the layer as a Middleware. Without options it has the defaults; each option replaces one of them. Each wrapped
// Store has its own breaker, bulkhead and retry budget.
func New(opts ...Option) store.Middleware {
	c := config{DefaultTimeLimit, DefaultRetries, DefaultPause, DefaultFailures, DefaultBreakerOpen, 0}
	for _, o := range opts {
		o(&c)
	}
	return func(next store.Store) store.Store {
		p := &policy{config: c, breaker: breaker{threshold: c.failures, pause: c.open}, places: make(chan struct{}, c.bulkhead)}
		p.tooLong = new(timeLimit)
		return layer.Intercept("resilience", p)(next)
	}
}

// AppendStats implements [layer.StatsReporter].
func (p *policy) AppendStats(dst []layer.Stat) []layer.Stat {
	const prefix = "chatstore_resilience_"
	dst = append(dst,
		layer.Stat{Name: prefix + "retries_total", Help: "Attempts after the first.", Counter: true, Value: float64(p.retried.Load())},
		layer.Stat{Name: prefix + "timeouts_total", Help: "Attempts that the time limit ended.", Counter: true, Value: float64(p.timeouts.Load())})
	for i, name := range reasons {
		dst = append(dst, layer.Stat{Name: prefix + "refused_total", Help: "Attempts that were not made.", Counter: true,
			Labels: [3]layer.Label{{Name: "reason", Value: name}}, Value: float64(p.refused[i].Load())})
	}
	open := layer.Stat{Name: prefix + "breaker_open", Help: "Whether the breaker is open or half-open."}
	if is, _ := p.breaker.state(); is {
		open.Value = 1
	}
	return append(dst, open)
}
