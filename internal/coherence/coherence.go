// Package coherence is what the cache and the singleflight layer have in common: shared reads that never predate their caller's
// start, and writes that invalidate them. See packages generation and flight for the two halves.
package coherence

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/flight"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// The kinds of counters.
const (
	ThreadCounter byte = iota
	AttachmentCounter
	ListCounter // one for all listings of threads
)

// defaultQuarantine is how long a write with an unknown outcome is held to be possible where neither the user nor the base
// says anything.
const defaultQuarantine = time.Minute

// Quarantine returns how long the counter of a write with an unknown outcome stays in progress over base: as long as the base needs
// ([driver.WriteBounder]), and at least as long as the user asked for. If asked is negative, the user said nothing.
func Quarantine(base store.Store, asked time.Duration) time.Duration {
	bound, known := store.As[driver.WriteBounder](base)
	switch {
	case known:
		return max(bound.LongestWrite(), asked, 0)
	case asked >= 0:
		return asked
	}
	return defaultQuarantine
}

// Core coordinates the reads and writes of one layer. Its exported fields are set before its first use.
type Core struct {
	Counters   *generation.Table
	Limit      time.Duration // of a shared call
	Quarantine time.Duration // of a write with an unknown outcome

	shared atomic.Bool
	roles  [store.NumOps][len(roleNames)]atomic.Uint64
}

// The roles in a shared call.
const (
	leader = iota
	follower
)

var roleNames = [...]string{leader: "leader", follower: "follower"}

// Share makes principals share one partition from now on.
func (c *Core) Share() { c.shared.Store(true) }

// Partition returns the partition of a call: the principal's, or one for all where principals share.
func (c *Core) Partition(h layer.Hints) layer.Partition {
	if c.shared.Load() {
		return layer.Partition{}
	}
	return h.Partition()
}

// detach makes the context of a shared call.
func (c *Core) detach(ctx context.Context) context.Context { return c.Unnamed(callctx.Detached(ctx)) }

// Unnamed returns ctx without its principal where principals share: what depends on one must fail closed rather than answer
// all with what one of them may see. Every load that may be stored or shared is made in it.
func (c *Core) Unnamed(ctx context.Context) context.Context {
	if c.shared.Load() {
		return callctx.WithoutPrincipal(ctx)
	}
	return ctx
}

// Write runs a write of the counter's ids. It keeps the counter in progress until the write has ended or, if its outcome is unknown,
// until its quarantine is over. before is the counter before the write. definite says whether the outcome is known.
func (c *Core) Write(ctx context.Context, s generation.Slot,
	call func(ctx context.Context, before generation.Counter) error) (definite bool, err error) {
	var unsettled atomic.Bool
	before := c.Counters.Begin(s)
	defer func() {
		switch {
		case definite:
			c.Counters.End(s)
		case unsettled.Load(): // what was left behind may need longer than the base to notice
			c.Counters.EndUnknown(s, c.Hold())
		default: // or it panicked
			c.Counters.EndUnknown(s, c.Quarantine)
		}
	}()
	err = call(callctx.WithUnsettledRecorder(ctx, func() {
		unsettled.Store(true)
		layer.ReportUnsettled(ctx)
	}), before)
	definite = store.IsDefinite(err) && !unsettled.Load()
	return definite, err
}

// Hold returns the longest that a write with an unknown outcome is held back for.
func (c *Core) Hold() time.Duration { return max(c.Quarantine, defaultQuarantine) }

// Report is one version report of the base.
type Report struct {
	ThreadID      string
	Before, After uint64
}

// Recorder collects version reports. It is safe for concurrent use.
type Recorder struct {
	mu      sync.Mutex
	reports []Report
}

// Listen returns a context whose calls report to r.
func (r *Recorder) Listen(ctx context.Context) context.Context {
	return callctx.WithVersionRecorder(ctx, func(id string, before, after uint64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reports = append(r.reports, Report{id, before, after})
	})
}

// Reports returns what was reported so far.
func (r *Recorder) Reports() []Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports
}

// Only returns the report of threadID, if there is exactly one report and it is that.
func Only(reports []Report, threadID string) (r Report, ok bool) {
	if len(reports) != 1 || reports[0].ThreadID != threadID {
		return Report{}, false
	}
	return reports[0], true
}

// Forward gives the reports to the recorder that the caller has in its context.
func Forward(h layer.Hints, reports []Report) {
	for _, r := range reports {
		h.ReportVersion(r.ThreadID, r.Before, r.After)
	}
}

// Answer is what a read returned, and the versions it reported. It is passed by pointer: the goroutine of a shared call
// begins with a small stack, and large values in its frames would make it grow.
type Answer[T any] struct {
	Value   T
	Reports []Report
}

// Read says which read is wanted.
type Read struct {
	Op      store.Op
	Kind    string // of the row in errors
	ID      string // of the row in errors
	Slot    generation.Slot
	Counter generation.Counter // at Slot, loaded when the read began
	Args    []string           // what, besides the op, tells it from other reads
}

// Share answers r by a call of load that it may share with identical reads: a call that began at the same counter or, while a write
// is in progress, one that has not begun yet. load gets a context of its own. The answer is shared: it must not be changed.
func Share[T any](ctx context.Context, c *Core, g *flight.Group[*Answer[T]], h layer.Hints, r Read,
	load func(context.Context) (*Answer[T], error)) (*Answer[T], error) {
	spec := flight.Spec{
		Key:    key(c.Partition(h), r),
		Queued: !r.Counter.Idle(),
		Limit:  c.Limit,
		Origin: h.Notes.Origin(),
		Joined: func(role flight.Role) {
			i := leader
			if role.Follower {
				i = follower
			}
			c.roles[r.Op][i].Add(1)
			h.Notes.SetFlight(roleNames[i], role.Leader)
		},
	}
	a, err := g.Do(ctx, spec, c.detach, load)
	if a == nil {
		a = new(Answer[T])
	}
	if err != nil {
		return a, classify(ctx, r, err)
	}
	return a, nil
}

// Direct calls load and collects its version reports. The answer is never nil.
func Direct[T any](ctx context.Context, load func(context.Context) (T, error)) (*Answer[T], error) {
	var rec Recorder
	a := new(Answer[T])
	var err error
	a.Value, err = load(rec.Listen(ctx))
	a.Reports = rec.Reports()
	return a, err
}

// classify makes the errors that arise in sharing, and not beneath it, errors of a Store.
func classify(ctx context.Context, r Read, err error) error {
	if _, ok := errors.AsType[*store.Error](err); ok {
		return err
	}
	if gone := driver.Done(ctx, r.Op, r.Kind, r.ID); gone != nil {
		return gone
	}
	if errors.Is(err, flight.ErrGoexit) || errors.Is(err, context.DeadlineExceeded) {
		return &store.Error{Op: r.Op, Kind: r.Kind, ID: r.ID, Code: store.CodeOf(err), Cause: err}
	}
	return err
}

// key joins length-prefixed parts: no two different reads have one key, whatever their ids contain. A read at a counter
// without writers has the counter in its key; the others queue behind one another whatever the counter.
func key(p layer.Partition, r Read) string {
	b := make([]byte, 0, 128)
	part := func(s string) {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	if r.Counter.Idle() {
		b = strconv.AppendUint(b, uint64(r.Counter), 16)
	}
	b = append(b, '|')
	part(p.Key())
	for _, a := range r.Args {
		part(a)
	}
	return string(b)
}

// AppendStats appends how often callers led and followed, for ops.
func (c *Core) AppendStats(dst []layer.Stat, ops ...store.Op) []layer.Stat {
	for _, op := range ops {
		for i, role := range roleNames {
			dst = append(dst, layer.Stat{
				Name: "chatstore_flights_total", Help: "Reads by their part in a shared call.", Counter: true,
				Labels: [3]layer.Label{{Name: "operation", Value: op.String()}, {Name: "role", Value: role}},
				Value:  float64(c.roles[op][i].Load()),
			})
		}
	}
	return dst
}
