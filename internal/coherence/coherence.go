// Package coherence is the common part of the cache and the singleflight layer: shared reads that never predate their
// caller's start, and writes that invalidate them. Packages generation and flight are its two halves.
package coherence

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/bus"
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
	_      [64]byte // misses write roles, and every read uses what is around it
	roles  [store.NumOps][len(roleNames)]atomic.Uint64
	_      [64]byte
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

// Unnamed returns ctx without its principal if principals share. A lower layer that depends on the principal then fails
// closed, instead of giving all callers what one of them may see. Every load that may be stored uses Unnamed, and a
// shared load uses detach.
func (c *Core) Unnamed(ctx context.Context) context.Context {
	if c.shared.Load() {
		return callctx.WithoutPrincipal(ctx)
	}
	return ctx
}

// Write is a write of one or more rows. It is a Recorder, so that one allocation has the context of the call and all that is
// reported about the call. Version reports go to the caller's recorder, unless Listen is called.
type Write struct {
	Recorder
	core  *Core
	slots []generation.Slot
	array [2]generation.Slot        // of slots, which are rarely more
	outer callctx.UnsettledRecorder // hears of unknown outcomes too; may be nil

	definite  bool
	unsettled atomic.Bool
	pending   []<-chan struct{} // guarded by Recorder.mu
}

// NewWrite prepares a write of the ids of slots.
func (c *Core) NewWrite(ctx context.Context, slots ...generation.Slot) *Write {
	w := &Write{core: c}
	w.slots = append(w.array[:0], slots...)
	w.ctx = callctx.Copy(ctx)
	w.outer, w.ctx.Data.Unsettled = w.ctx.Data.Unsettled, w
	return w
}

// Stamp sets the stamp of the call. It must be called before Make.
func (w *Write) Stamp(s bus.Stamp) { w.ctx.Data.Stamp = callctx.Stamp(s) }

// Make makes the write. It counts as in progress until it has ended or, if its outcome is unknown, until its quarantine has
// ended. The call gets the first counter as it was before the write.
func (w *Write) Make(call func(ctx context.Context, before generation.Counter) error) error {
	before := w.core.Counters.Begin(w.slots[0])
	for _, s := range w.slots[1:] {
		w.core.Counters.Begin(s)
	}
	defer w.end()
	err := call(&w.ctx, before)
	w.definite = store.IsDefinite(err) && !w.unsettled.Load()
	return err
}

// Outcome reports whether the outcome of the write is known. After a panic it is not. pending has the channels that the base
// reported with driver.ReportPending.
func (w *Write) Outcome() (definite bool, pending []<-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.definite, w.pending
}

// end ends the write at its counters, also after a panic.
func (w *Write) end() {
	for _, s := range w.slots {
		switch {
		case w.definite:
			w.core.Counters.End(s)
		case w.unsettled.Load(): // an abandoned attempt may take longer than the base's limit
			w.core.Counters.EndUnknown(s, w.core.Hold())
		default:
			w.core.Counters.EndUnknown(s, w.core.Quarantine)
		}
	}
}

// RecordUnsettled implements callctx.UnsettledRecorder.
func (w *Write) RecordUnsettled(ended <-chan struct{}) {
	if w.outer != nil {
		w.outer.RecordUnsettled(ended)
	}
	if ended == nil {
		w.unsettled.Store(true)
		return
	}
	w.mu.Lock()
	w.pending = append(w.pending, ended)
	w.mu.Unlock()
	// The base knows when the write ends. It counts as in progress until then, also beyond the quarantine.
	for _, s := range w.slots {
		w.core.Counters.Begin(s)
	}
	go func() {
		<-ended
		for _, s := range w.slots {
			w.core.Counters.End(s)
		}
	}()
}

// Hold returns the longest quarantine of this layer.
func (c *Core) Hold() time.Duration { return max(c.Quarantine, defaultQuarantine) }

// Report is one report of a thread's versions.
type Report struct {
	ThreadID      string
	Before, After uint64
}

// Recorder collects version reports. It contains the context of the call, so that both take one allocation. It is safe for
// concurrent use.
type Recorder struct {
	ctx callctx.Ctx

	mu      sync.Mutex
	reports []Report
	array   [1]Report // of reports, which are rarely more
}

// Listen returns a context in which r collects the reports. It may be called once.
func (r *Recorder) Listen(ctx context.Context) context.Context {
	if ctx != &r.ctx { // a Write has copied it
		r.ctx = callctx.Copy(ctx)
	}
	r.ctx.Data.Versions = r
	return &r.ctx
}

// detach is Listen for a shared load of c. The context has nothing of the caller but its principal, and not even that if
// principals share.
func (r *Recorder) detach(ctx context.Context, c *Core) context.Context {
	r.ctx = callctx.Copy(ctx)
	r.ctx.Data.Detach()
	if c.shared.Load() {
		r.ctx.Data.DropPrincipal()
	}
	r.ctx.Data.Versions = r
	return &r.ctx
}

// RecordVersion implements callctx.VersionRecorder.
func (r *Recorder) RecordVersion(threadID string, before, after uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reports == nil {
		r.reports = r.array[:0]
	}
	r.reports = append(r.reports, Report{threadID, before, after})
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
	Recorder
	Value T
}

// Read describes a read that may be shared.
type Read[K comparable] struct {
	Op      store.Op
	Kind    string             // kind of row, for errors
	ID      string             // id of the row, for errors
	Counter generation.Counter // of the row, when the read began
	Period  int64              // reads of different periods share no load; 0 where the age of a load does not matter
	Args    K                  // distinguish it from other reads of the same op
}

// Group shares the loads of reads of one op.
type Group[K comparable, T any] = flight.Group[key[K], *Answer[T]]

// key identifies a load. If no write is in progress, the counter and the period are part of it. Otherwise reads of all counters and
// periods queue together, for a load that has not begun.
type key[K comparable] struct {
	partition layer.Partition
	queued    bool
	counter   generation.Counter
	period    int64
	args      K
}

func keyOf[K comparable](p layer.Partition, r Read[K]) key[K] {
	if r.Counter.Idle() {
		return key[K]{partition: p, counter: r.Counter, period: r.Period, args: r.Args}
	}
	return key[K]{partition: p, queued: true, args: r.Args}
}

// Share answers r with load, which identical concurrent reads share. It joins a load that began at the same counter. While a
// write is in progress, it joins only a load that has not begun. load fills the Answer that it gets, which also collects the
// reports. Its context is detached from the caller. The answer is shared and must not be changed.
func Share[K comparable, T any](ctx context.Context, c *Core, g *Group[K, T], h layer.Hints, r Read[K],
	load func(context.Context, *Answer[T]) error) (*Answer[T], error) {
	k := keyOf(c.Partition(h), r)
	spec := flight.Spec[key[K]]{Key: k, Queued: k.queued, Limit: c.Limit, Origin: h.Notes.Origin()}
	joined := func(role flight.Role) {
		i := leader
		if role.Follower {
			i = follower
		}
		c.roles[r.Op][i].Add(1)
		h.Notes.SetFlight(roleNames[i], role.Leader)
	}
	a, err := g.Do(ctx, spec, joined, func(ctx context.Context) (*Answer[T], error) {
		a := new(Answer[T])
		return a, load(a.detach(ctx, c), a)
	})
	if a == nil {
		a = new(Answer[T])
	}
	if err != nil {
		return a, classify(ctx, r.Op, r.Kind, r.ID, err)
	}
	return a, nil
}

// classify turns errors of the sharing itself into errors of a Store.
func classify(ctx context.Context, op store.Op, kind, id string, err error) error {
	if _, ok := errors.AsType[*store.Error](err); ok {
		return err
	}
	if gone := driver.Done(ctx, op, kind, id); gone != nil {
		return gone
	}
	if errors.Is(err, flight.ErrGoexit) || errors.Is(err, context.DeadlineExceeded) {
		return &store.Error{Op: op, Kind: kind, ID: id, Code: store.CodeOf(err), Cause: err}
	}
	return err
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
