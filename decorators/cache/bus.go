package cache

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
)

// publishTimeout bounds how long a write waits for the bus.
const publishTimeout = 5 * time.Second

// newOrigin names a cache among all that may share a bus.
func newOrigin() string { return rand.Text() }

// announced runs a write, stamped, and tells the bus of it before it returns. A write that ended unknown is told without a
// number, as it may still take effect after this cache's own counters have settled. A definite failure changed nothing.
func (l *cached) announced(ctx context.Context, k key, write func(context.Context) (definite bool, err error)) (err error) {
	if l.cfg.bus == nil {
		_, err = write(ctx)
		return err
	}
	n := l.writes.Add(1)<<slotBits | mark(l.core.Counters.Slot(k.kind, k.id))
	change := bus.Change{Origin: l.origin, Write: n}
	if k.kind == coherence.ThreadCounter {
		change.ThreadID = k.id
	} else {
		change.AttachmentID = k.id
	}
	definite := false // so it stays on a panic
	defer func() {
		if definite && err != nil {
			return
		}
		if !definite {
			l.unsure.add(n)
			change.Write = 0
			defer l.remind(change)
		}
		l.publish(ctx, change)
	}()
	definite, err = write(bus.WithStamp(ctx, bus.Stamp{Origin: l.origin, Write: n}))
	return err
}

// remindEvery is the time between two announcements of one write that ended unknown.
const remindEvery = time.Second

// reminders are the announcements to come, of one row at a time however many writes of it end unknown.
type reminders struct {
	mu      sync.Mutex
	closed  bool
	pending map[bus.Change]*reminder
}

type reminder struct {
	until time.Time // the write can have no further effect
	timer *time.Timer
}

// remind tells of a write that ended unknown again and again, until it can have no further effect, and then once more. A cache
// that was cut off at the first time has held nothing back, and may load what was before the write.
func (l *cached) remind(c bus.Change) {
	r := &l.reminders
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return // and so perhaps the bus; the others have their TTL
	}
	until := time.Now().Add(l.core.Hold())
	if p := r.pending[c]; p != nil {
		p.until = until
		return
	}
	if r.pending == nil {
		r.pending = make(map[bus.Change]*reminder)
	}
	p := &reminder{until: until}
	p.timer = time.AfterFunc(remindEvery, func() { l.remindAgain(c, p) })
	r.pending[c] = p
}

func (l *cached) remindAgain(c bus.Change, p *reminder) {
	r := &l.reminders
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	told, over := c, !time.Now().Before(p.until)
	if over {
		delete(r.pending, c)
		told.Origin = "" // by now it has happened, or never will
	}
	r.mu.Unlock()
	l.publish(context.Background(), told)
	if over {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		p.timer.Reset(remindEvery)
	}
}

// close ends the waiting.
func (r *reminders) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, p := range r.pending {
		p.timer.Stop()
	}
	clear(r.pending)
}

// publish tells the bus of a change, whoever has left meanwhile.
func (l *cached) publish(ctx context.Context, c bus.Change) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	if l.cfg.bus.Publish(ctx, c) != nil {
		l.stats.unsent.Add(1)
	}
}

func (l *cached) subscribe(b bus.Bus) {
	l.lease, _ = b.(bus.Leaser)
	l.stop = b.Subscribe(context.Background(), l.heed, l.connected)
}

// heed forgets what a change made untrue. incrementing the counters is what counts: loads under way must not be stored either.
func (l *cached) heed(c bus.Change) {
	if l.own(c) {
		return // the write incremented the counters itself, and may have patched
	}
	if c.All {
		l.core.Counters.BumpAll()
	}
	changed := l.core.Counters.Bump
	if c.Origin != "" && c.Write == 0 { // it may still take effect, and nothing says whether an attempt was left behind
		changed = func(s generation.Slot) {
			l.core.Counters.Begin(s)
			l.core.Counters.EndUnknown(s, l.core.Hold())
		}
	}
	if c.ThreadID != "" {
		changed(l.core.Counters.Slot(coherence.ThreadCounter, c.ThreadID))
	}
	if c.AttachmentID != "" {
		changed(l.core.Counters.Slot(coherence.AttachmentCounter, c.AttachmentID))
	}
}

// own reports whether a change is a write of this cache's that incremented all its counters at the right time. A write that ended unknown
// is not, nor is what a layer beneath wrote beside it under its stamp.
func (l *cached) own(c bus.Change) bool {
	if c.Origin != l.origin || c.Write == 0 || c.All || l.unsure.has(c.Write) {
		return false
	}
	moved := c.Write & (1<<slotBits - 1)
	return (c.ThreadID == "" || mark(l.core.Counters.Slot(coherence.ThreadCounter, c.ThreadID)) == moved) &&
		(c.AttachmentID == "" || mark(l.core.Counters.Slot(coherence.AttachmentCounter, c.AttachmentID)) == moved)
}

// The number of a write has in its lower bits which counter it moved: no table has more counters than countersPerEntry * mostEntries.
const slotBits = 28

func mark(s generation.Slot) uint64 { return uint64(s) & (1<<slotBits - 1) }

func (l *cached) connected(yes bool) {
	l.state.Lock()
	defer l.state.Unlock()
	if !yes || l.closed.Load() {
		l.serving.Store(false)
		return
	}
	l.core.Counters.BumpAll()
	for _, s := range l.shards {
		s.flush()
	}
	l.serving.Store(true)
}

// numbers is a set of numbers of writes, for as long as there are few: a full one forgets them, and has all up to the
// highest. It is safe for concurrent use.
type numbers struct {
	mu   sync.Mutex
	upTo uint64
	set  map[uint64]struct{}
}

const maxNumbers = 1024

func (n *numbers) add(w uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil {
		n.set = make(map[uint64]struct{})
	}
	n.set[w] = struct{}{}
	if len(n.set) > maxNumbers {
		for w := range n.set {
			n.upTo = max(n.upTo, w)
		}
		clear(n.set)
	}
}

func (n *numbers) has(w uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.set[w]
	return ok || w <= n.upTo
}
