// Package limit bounds the calls of each owner: reads and writes per second, and calls in flight.
//
// Use it so that one user, or a client in a loop, cannot use up the backend. Put it inside of tracing and metrics, which then
// count the refused calls with the code limited, and outside of authz and cache:
//
//	s := store.Wrap(base, limit.New(limit.WithReads(50, 100), limit.WithWrites(10, 20), limit.WithInFlight(8)),
//		authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
//
// Do not use it for a limit across processes: each process counts for itself, so n processes allow up to n times as much. Put
// a shared limiter in front for that. It does not bound the sum of all owners either. Beneath a cache whose entries are shared
// between principals (authz.ShareBelow), loads have no principal, and the limit of one caller would fail others: there the
// layer panics.
//
// The owner is that of the principal in the context; roles make no difference. All callers without a principal that can own
// rows share one set of limits, as if they were one owner.
//
// A refused call ends with [store.ErrLimited], and nothing beneath is called. A refused write also wraps
// [store.ErrNotApplied]. The RetryAfter of the [*store.Error] is the time until a call is possible again. It is zero for calls
// in flight, because their end is not known. Refused calls do not count against the limits. Calls that fail or are cancelled
// do. The calls that generate ids are not limited.
//
// # Memory
//
// The rates take 1 MiB each, for any number of owners. So nobody can push an owner out by calling as many others. A table of
// this size estimates when an owner may call again. The estimate is never too early: an owner makes at most its burst and its
// rate. It can be too late, if other owners that have used up their burst share all four cells of an owner. With that many of
// them at one moment, this happens to one in so many other owners:
//
//	 1,000    1,300,000
//	 5,000        2,500
//	10,000          210
//
// Such an owner shares the rate of those others while they call as fast as they may. Which owners share cells is random in
// each process, so nobody can choose whom to hit. Reads and writes have tables of their own. Calls in flight are counted
// exactly, in memory that grows with their number only.
//
// The layer is a [layer.StatsReporter]: chatstore_limit_refused_total{kind}, with the kinds reads, writes and in_flight.
package limit

import (
	"context"
	"errors"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

const (
	reads = iota
	writes
	inFlight
	kinds
)

var (
	names = [kinds]string{"reads", "writes", "in_flight"}
	// causes are for logs.
	causes = [kinds]error{errors.New("limit: the owner reads too fast"), errors.New("limit: the owner writes too fast"),
		errors.New("limit: the owner has too many calls in flight")}
)

type config struct {
	rates    [inFlight]rate
	inFlight int
}

// Option configures New.
type Option func(*config)

// WithReads allows each owner perSecond reads per second on average, and burst reads at once. Without it, reads have no rate.
// WithReads panics if perSecond is not positive, if burst is less than 1, or if burst reads at that rate take over a year.
func WithReads(perSecond float64, burst int) Option {
	r := newRate("WithReads", perSecond, burst)
	return func(c *config) { c.rates[reads] = r }
}

// WithWrites is WithReads for writes.
func WithWrites(perSecond float64, burst int) Option {
	r := newRate("WithWrites", perSecond, burst)
	return func(c *config) { c.rates[writes] = r }
}

// WithInFlight allows each owner n calls at the same time, reads and writes together. Without it, there is no such limit.
// WithInFlight panics if n is less than 1.
func WithInFlight(n int) Option {
	must(n >= 1, "WithInFlight: the number is less than 1: leave the option out for no limit")
	return func(c *config) { c.inFlight = n }
}

func newRate(option string, perSecond float64, burst int) rate {
	const year = 365 * 24 * time.Hour
	must(perSecond > 0, option+": the rate is not positive: leave the option out for no limit")
	must(burst >= 1, option+": the burst is less than 1: it is the number of calls that may come at once")
	interval := max(1, math.Ceil(float64(time.Second)/perSecond))
	must(interval*float64(burst) <= float64(year),
		option+": the burst takes over a year to come back: use a smaller burst or a higher rate")
	return rate{interval: time.Duration(interval), window: time.Duration(interval) * time.Duration(burst)}
}

func must(ok bool, sentence string) {
	if !ok {
		panic("limit." + sentence)
	}
}

// New returns the layer as a Middleware. Each stack that it is part of has limits of its own. New panics if no limit is set.
func New(opts ...Option) store.Middleware {
	var c config
	for _, o := range opts {
		o(&c)
	}
	must(c != config{}, "New: there is no limit: use WithReads, WithWrites or WithInFlight, or leave the layer out")
	return func(next store.Store) store.Store {
		l := &limited{next: next, rates: c.rates, inFlight: c.inFlight, seed: maphash.MakeSeed(), start: time.Now()}
		for i := range l.rates {
			if l.rates[i].interval > 0 {
				l.rates[i].table = new(table)
			}
		}
		l.Store = next
		if l.inFlight > 0 {
			for i := range l.stripes {
				l.stripes[i].inFlight = make(map[chat.Owner]int)
			}
			l.Store = layer.Observe("limit", (*leaving)(l))(l.Store)
		}
		l.Store = layer.Admit("limit", l.admit)(l.Store)
		return l
	}
}

// limited is a Store with limits.
type limited struct {
	store.Store // asks admit before every call: the layer of layer.Admit, around that of layer.Observe, around next
	next        store.Store
	rates       [inFlight]rate
	inFlight    int
	seed        maphash.Seed
	start       time.Time
	stripes     [256]stripe
	refused     [kinds]atomic.Uint64
}

// stripe has the owners of some hashes. Calls of one owner are admitted one after the other.
type stripe struct {
	sync.Mutex
	inFlight map[chat.Owner]int // of the owners that have calls in flight now
}

var (
	_ store.Store         = (*limited)(nil)
	_ store.Unwrapper     = (*limited)(nil)
	_ store.Named         = (*limited)(nil)
	_ layer.Sharer        = (*limited)(nil)
	_ layer.StatsReporter = (*limited)(nil)
	_ layer.Observer      = (*leaving)(nil)
)

func (l *limited) Unwrap() store.Store { return l.next }
func (l *limited) LayerName() string   { return "limit" }

// ShareBetweenPrincipals panics: shared loads have no principal, so all owners would share one limit.
func (l *limited) ShareBetweenPrincipals() {
	panic("limit.New: beneath a guard that shares between principals, such as authz with ShareBelow, all callers would share " +
		"one limit: put limit before the guard in store.Wrap")
}

func (l *limited) AppendStats(dst []layer.Stat) []layer.Stat {
	for kind, name := range names {
		dst = append(dst, layer.Stat{Name: "chatstore_limit_refused_total", Help: "Calls refused by a limit of their owner.",
			Counter: true, Labels: [3]layer.Label{{Name: "kind", Value: name}}, Value: float64(l.refused[kind].Load())})
	}
	return dst
}

// admit takes what the call needs, or returns an error and takes nothing.
func (l *limited) admit(ctx context.Context, c layer.Call) error {
	kind := reads
	if c.Op.IsWrite() {
		kind = writes
	}
	owner, hash, s := l.find(ctx, c.Op)
	var wait time.Duration
	s.Lock()
	if l.inFlight > 0 && s.inFlight[owner] >= l.inFlight {
		kind = inFlight
	} else if wait = l.rates[kind].take(hash, time.Since(l.start)); wait == 0 {
		if l.inFlight > 0 {
			s.inFlight[owner]++
		}
		s.Unlock()
		return nil
	}
	s.Unlock()
	l.refused[kind].Add(1)
	return &store.Error{Code: store.CodeLimited, RetryAfter: wait, Cause: causes[kind]}
}

// find returns the owner that ctx's calls count for, its hash and its stripe. The zero Owner stands for all callers that can
// own no row.
func (l *limited) find(ctx context.Context, op store.Op) (owner chat.Owner, hash uint64, s *stripe) {
	if p, ok := layer.HintsFor(ctx, op).Owner(); ok {
		owner = p.Owner
	}
	hash = maphash.Comparable(l.seed, owner)
	return owner, hash, &l.stripes[hash%uint64(len(l.stripes))]
}

// leaving observes the admitted calls, and gives back their place in flight, also after a panic.
type leaving limited

// Begin implements [layer.Observer].
func (l *leaving) Begin(ctx context.Context, _ layer.Call) (context.Context, any) { return ctx, l }

// End implements [layer.Observer].
func (l *leaving) End(ctx context.Context, c layer.Call, _ layer.Result, _ any) {
	owner, _, s := (*limited)(l).find(ctx, c.Op)
	s.Lock()
	defer s.Unlock()
	if s.inFlight[owner]--; s.inFlight[owner] == 0 {
		delete(s.inFlight, owner)
	}
}
