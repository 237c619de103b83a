// Package coherence is the common part of the cache and the singleflight layer: shared reads that never predate their
// caller's start, and writes that invalidate them. Packages generation and flight are its two halves.
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

// defaultQuarantine is the quarantine if neither the user nor the base sets one.
const defaultQuarantine = time.Minute

// Quarantine returns how long a write with an unknown outcome counts as in progress. It is the base's limit
// ([driver.WriteBounder]) or the user's, whichever is longer. A negative asked means that the user set none.
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

// Core coordinates the reads and writes of one layer. Set its exported fields before its first use.
type Core struct {
	Counters   *generation.Table
	Limit      time.Duration // longest shared load; 0 for no limit
	Quarantine time.Duration // after a write with an unknown outcome

	shared atomic.Bool
	roles  [store.NumOps][len(roleNames)]atomic.Uint64
}

// The roles in a shared load.
const (
	leader = iota
	follower
)

var roleNames = [...]string{leader: "leader", follower: "follower"}

// Share makes all principals use one partition from now on.
func (c *Core) Share() { c.shared.Store(true) }

// Partition returns the partition for a call: that of its principal, or the zero one if principals share.
func (c *Core) Partition(h layer.Hints) layer.Partition {
	if c.shared.Load() {
		return layer.Partition{}
	}
	return h.Partition()
}

// detach returns the context for a shared load.
func (c *Core) detach(ctx context.Context) context.Context { return c.Unnamed(callctx.Detached(ctx)) }

// Unnamed returns ctx without its principal if principals share. A lower layer that depends on the principal then fails
// closed, instead of giving all callers what one of them may see. Every load that may be stored or shared uses Unnamed.
func (c *Core) Unnamed(ctx context.Context) context.Context {
	if c.shared.Load() {
		return callctx.WithoutPrincipal(ctx)
	}
	return ctx
}

// Write makes a write of the ids of s. It counts as in progress until it has ended or, if its outcome is unknown, until its
// quarantine has ended. Its call gets the counter before the write. The result definite reports whether the outcome is
// known.
func (c *Core) Write(ctx context.Context, s generation.Slot,
	call func(ctx context.Context, before generation.Counter) error) (definite bool, err error) {
	var unsettled atomic.Bool
	before := c.Counters.Begin(s)
	defer func() {
		switch {
		case definite:
			c.Counters.End(s)
		case unsettled.Load(): // an abandoned attempt may take longer than the base's limit
			c.Counters.EndUnknown(s, c.Hold())
		default: // also after a panic
			c.Counters.EndUnknown(s, c.Quarantine)
		}
	}()
	err = call(callctx.WithUnsettledRecorder(ctx, func(ended <-chan struct{}) {
		if ended == nil {
			unsettled.Store(true)
			layer.ReportUnsettled(ctx)
			return
		}
		// The base knows when the write ends. It counts as in progress until then, also beyond the quarantine.
		driver.ReportPending(ctx, ended)
		c.Counters.Begin(s)
		go func() {
			<-ended
			c.Counters.End(s)
		}()
	}), before)
	definite = store.IsDefinite(err) && !unsettled.Load()
	return definite, err
}

// Hold returns the longest quarantine of this layer.
func (c *Core) Hold() time.Duration { return max(c.Quarantine, defaultQuarantine) }

// Report is one report of a thread's versions.
type Report struct {
	ThreadID      string
	Before, After uint64
}

// Recorder collects version reports. It is safe for concurrent use.
type Recorder struct {
	mu      sync.Mutex
	reports []Report
}

// Listen returns a context in which r collects the reports.
func (r *Recorder) Listen(ctx context.Context) context.Context {
	return callctx.WithVersionRecorder(ctx, func(id string, before, after uint64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reports = append(r.reports, Report{id, before, after})
	})
}

// Reports returns the reports so far.
func (r *Recorder) Reports() []Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reports
}

// Only returns the report for threadID. ok is false unless it is the only one. A layer beneath may repeat a read: equal reports
// of reads count as one.
func Only(reports []Report, threadID string) (r Report, ok bool) {
	if len(reports) == 0 || reports[0].ThreadID != threadID {
		return Report{}, false
	}
	r = reports[0]
	for _, other := range reports[1:] {
		if other != r || r.Before != r.After {
			return Report{}, false
		}
	}
	return r, true
}

// Forward passes the reports on to the caller's recorder.
func Forward(h layer.Hints, reports []Report) {
	for _, r := range reports {
		h.ReportVersion(r.ThreadID, r.Before, r.After)
	}
}

// Answer is the result of a read with its version reports. It is passed by pointer, because large values would make the
// small stack of a shared load's goroutine grow.
type Answer[T any] struct {
	Value   T
	Reports []Report
}

// Read describes a read that may be shared.
type Read struct {
	Op      store.Op
	Kind    string // kind of row, for errors
	ID      string // id of the row, for errors
	Slot    generation.Slot
	Counter generation.Counter // of Slot, when the read began
	Args    []string           // distinguish it from other reads of the same op
}

// Share answers r with load, which identical concurrent reads share. It joins a load that began at the same counter. While a
// write is in progress, it joins only a load that has not begun. load gets a detached context. The answer is shared and must
// not be changed.
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

// Direct calls load and collects its version reports. It never returns a nil Answer.
func Direct[T any](ctx context.Context, load func(context.Context) (T, error)) (*Answer[T], error) {
	var rec Recorder
	a := new(Answer[T])
	var err error
	a.Value, err = load(rec.Listen(ctx))
	a.Reports = rec.Reports()
	return a, err
}

// classify turns errors of the sharing itself into errors of a Store.
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

// key joins the parts with their lengths, so that different reads have different keys. If no write is in progress, the
// counter is part of the key. Otherwise reads queue together, whatever their counter is.
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

// AppendStats appends the numbers of leaders and followers, for each of ops.
func (c *Core) AppendStats(dst []layer.Stat, ops ...store.Op) []layer.Stat {
	for _, op := range ops {
		for i, role := range roleNames {
			dst = append(dst, layer.Stat{
				Name: "chatstore_flights_total", Help: "Reads by their role in a shared load.", Counter: true,
				Labels: [3]layer.Label{{Name: "operation", Value: op.String()}, {Name: "role", Value: role}},
				Value:  float64(c.roles[op][i].Load()),
			})
		}
	}
	return dst
}
