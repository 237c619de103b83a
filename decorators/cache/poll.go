package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/store/driver"
)

// leasePolls is the length of a lease in intervals between polls. A lease that a poll has begun must last until the next poll
// is answered.
const leasePolls = 2

// lease says until when an entry may answer, on the layer's clock. It counts from the begin of the entry's load, or of a poll whose
// answer is the entry's version. A patched entry keeps the lease. The write met the same version, but perhaps in another epoch.
type lease struct{ until atomic.Int64 }

func (t *lease) end() time.Duration { return time.Duration(t.until.Load()) }

// set moves the end. Only polls do so once t is in the index, and only forward: a poll confirms what was there when it asked.
func (t *lease) set(end time.Duration) { t.until.Store(int64(end)) }

// poller asks the base for the versions of the threads in the cache. Its polls never overlap.
type poller struct {
	base  driver.VersionReader
	every time.Duration
	lease time.Duration

	// Only a poll uses these.
	epoch   string // of the last answer
	known   bool   // there was an answer
	failing bool   // a call has failed since the last poll without a failure

	mu    sync.Mutex // guards the following
	timer *time.Timer
	stop  context.CancelFunc

	answered, failed atomic.Uint64 // calls of the base
	threads          atomic.Uint64 // whose versions were asked for
	took             atomic.Int64  // duration of the last poll
}

func newPoller(base driver.VersionReader, every time.Duration) *poller {
	return &poller{base: base, every: every, lease: leasePolls * every}
}

// leaseFrom returns a lease that begins at begin, or nil if entries need none.
func (l *cached) leaseFrom(begin time.Duration) *lease {
	if l.polls == nil {
		return nil
	}
	t := new(lease)
	t.set(begin + l.polls.lease)
	return t
}

// period numbers the time in steps of a lease. Reads of one period share loads, so none joins a load that began more than a lease
// ago.
func (l *cached) period() int64 {
	if l.polls == nil {
		return 0
	}
	return int64(l.now() / l.polls.lease)
}

// periodEnd returns the time at which period ends.
func (l *cached) periodEnd(period int64) time.Duration {
	return time.Duration(period+1) * l.polls.lease
}

// startPolling starts the first poll after a random part of the interval, so that processes that start together do not poll
// together.
func (l *cached) startPolling() {
	p := l.polls
	jitter := rand.Float64
	if l.cfg.jitter != nil {
		jitter = l.cfg.jitter
	}
	pause := func(share float64) time.Duration { return p.every - time.Duration(jitter()*share*float64(p.every)) }
	ctx, cancel := context.WithCancel(context.Background()) // without a principal and recorders
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop = cancel
	p.timer = time.AfterFunc(pause(1), func() {
		began := l.now()
		defer func() { // after a panic or runtime.Goexit of the base, too
			took := l.now() - began
			p.took.Store(int64(took))
			p.mu.Lock()
			defer p.mu.Unlock()
			if ctx.Err() == nil {
				p.timer.Reset(max(pause(0.1)-took, p.every/10))
			}
		}()
		defer func() {
			if v := recover(); v != nil {
				l.logger().Error("cache: the base panicked in a poll", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			}
		}()
		l.poll(ctx)
	})
}

// close ends the polls. It does not wait for a call of the base.
func (p *poller) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop()
	p.timer.Stop()
}

// poll asks for the versions of all threads that may answer, or could with a new lease.
func (l *cached) poll(ctx context.Context) {
	p := l.polls
	ctx, cancel := context.WithTimeout(ctx, p.lease)
	defer cancel()
	answered, failed := p.answered.Load(), p.failed.Load()
	var b batch
	now := l.now()
	for i := range l.index {
		for n := l.index[i].Load(); n != nil; n = n.next.Load() {
			if e := n.entry.Load(); n.kind == coherence.ThreadCounter && e.version.known && !e.expired(now) {
				b.add(n)
			}
			if len(b.ids) == driver.MaxVersions {
				if l.ask(ctx, &b); ctx.Err() != nil {
					return
				}
				b.clear()
			}
		}
	}
	if len(b.ids) > 0 {
		l.ask(ctx, &b)
	}
	if p.failing && p.answered.Load() > answered && p.failed.Load() == failed {
		p.failing = false
		l.logger().Info("cache: the base answers polls again")
	}
}

// batch is what one call of the base asks for.
type batch struct {
	nodes []*node
	ids   []string
	at    map[string]int // place in ids: a thread has an entry for each principal
}

func (b *batch) add(n *node) {
	b.nodes = append(b.nodes, n)
	if _, ok := b.at[n.id]; ok {
		return
	}
	if b.at == nil {
		b.at = make(map[string]int)
	}
	b.at[n.id] = len(b.ids)
	b.ids = append(b.ids, n.id)
}

func (b *batch) clear() {
	b.nodes, b.ids = b.nodes[:0], b.ids[:0]
	clear(b.at)
}

// ask asks for the versions of a batch, and extends the leases of its entries or drops them.
func (l *cached) ask(ctx context.Context, b *batch) {
	p := l.polls
	p.threads.Add(uint64(len(b.ids)))
	err := errors.New("the base panicked, or ended its goroutine")
	defer func() {
		if err == nil {
			p.answered.Add(1)
			return
		}
		p.failed.Add(1)
		if !p.failing && !l.closed.Load() {
			p.failing = true
			l.logger().Warn("cache: a poll failed: threads that no poll confirms are read from the base", "error", err)
		}
	}()
	asked := l.now() // before the call, because the answer may be as old as that
	epoch, versions, failed := p.base.ThreadVersions(ctx, b.ids)
	if failed == nil && len(versions) != len(b.ids) {
		failed = fmt.Errorf("the base returned %d versions of %d threads", len(versions), len(b.ids))
	}
	if err = failed; err != nil {
		return
	}
	if !p.known || epoch != p.epoch { // the entries may be of another epoch, so their versions say nothing
		p.epoch, p.known = epoch, true
		l.forget()
		return
	}
	for _, n := range b.nodes {
		l.compare(&n.key, versions[b.at[n.id]], asked)
	}
}

// compare compares the present entry of k, which may have come during the poll, with the base's version. The poll began at asked.
func (l *cached) compare(k *key, version uint64, asked time.Duration) {
	e := l.index.get(k)
	switch {
	case e == nil || !e.version.known:
	case asked < e.since && version <= e.version.n:
		// The answer may be from before the entry, and an equal version from another epoch than the write that patched it.
	case version == e.version.n:
		e.lease.set(asked + l.polls.lease)
	case !l.core.Counters.Load(l.core.Counters.Slot(k.kind, k.id)).Idle():
		// A write of this process may have made the version. It patches the entry or drops it.
	default:
		p := place{key: *k}
		l.shard(&p).drop(p.key, e, byPoll)
	}
}
