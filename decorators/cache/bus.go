package cache

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
)

// publishTimeout bounds how long a write waits for the bus.
const publishTimeout = 5 * time.Second

// newOrigin returns a name for a cache that is unique among all caches on a bus.
func newOrigin() string { return rand.Text() }

// announce publishes the change of write n, before it returns to its caller. If the write's outcome is unknown, as after a
// panic, the change has no number: the write may take effect after this cache's own counters have settled. After a definite
// error nothing has changed, and nothing is published.
func (l *cached) announce(ctx context.Context, k key, n uint64, w *coherence.Write, err error) {
	definite, pending := w.Outcome()
	definite = definite && len(pending) == 0
	if definite && err != nil {
		return
	}
	change := bus.Change{Origin: l.origin, Write: n}
	if k.kind == coherence.ThreadCounter {
		change.ThreadID = k.id
	} else {
		change.AttachmentID = k.id
	}
	if !definite {
		l.unsure.add(n)
		change.Write = 0
		defer l.remind(change, pending)
	}
	l.publish(ctx, change)
}

// remindEvery is the time between two announcements of a write with an unknown outcome.
const remindEvery = time.Second

// reminders are the pending announcements. A row has one, however many of its writes have an unknown outcome.
type reminders struct {
	mu      sync.Mutex
	closed  bool
	pending map[bus.Change]*reminder
}

type reminder struct {
	until time.Time         // from then on a write whose end the base does not report can have no further effect
	ended []<-chan struct{} // of writes whose end the base reports
	timer *time.Timer
}

// over reports whether no write can have a further effect.
func (p *reminder) over() bool {
	p.ended = slices.DeleteFunc(p.ended, func(ended <-chan struct{}) bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	return len(p.ended) == 0 && !time.Now().Before(p.until)
}

// remind announces a write with an unknown outcome every second until it can have no further effect, and then once more. A
// cache that was disconnected at the first announcement has not held the row back, and may have loaded it as it was before
// the write.
func (l *cached) remind(c bus.Change, ended []<-chan struct{}) {
	r := &l.reminders
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return // the bus may be closed too: other caches fall back on their TTL
	}
	until := time.Now().Add(l.core.Hold())
	if p := r.pending[c]; p != nil {
		p.until, p.ended = until, append(p.ended, ended...)
		return
	}
	if r.pending == nil {
		r.pending = make(map[bus.Change]*reminder)
	}
	p := &reminder{until: until, ended: ended}
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
	change, over := c, p.over()
	if over {
		delete(r.pending, c)
		change.Origin = "" // the write has happened by now, or never will
	}
	r.mu.Unlock()
	l.publish(context.Background(), change)
	if over {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		p.timer.Reset(remindEvery)
	}
}

// close stops all reminders.
func (r *reminders) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for _, p := range r.pending {
		p.timer.Stop()
	}
	clear(r.pending)
}

// publish publishes a change, even if the caller's context has ended.
func (l *cached) publish(ctx context.Context, c bus.Change) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	if l.cfg.bus.Publish(ctx, c) != nil {
		l.stats.unsent.Add(1)
	}
}

func (l *cached) subscribe(b bus.Bus) {
	if l.polls == nil { // else entries have leases of their own
		l.lease, _ = b.(bus.Leaser)
	}
	l.stop = b.Subscribe(context.Background(), l.invalidate, l.connected)
}

// invalidate increments the counters of the rows that a change names. Dropping their entries would not be enough: loads under
// way must not be stored either.
func (l *cached) invalidate(c bus.Change) {
	if l.own(c) {
		return // the write incremented the counters itself, and may have patched the entry
	}
	if c.All {
		l.core.Counters.BumpAll()
	}
	changed := l.core.Counters.Bump
	if c.Origin != "" && c.Write == 0 { // the outcome is unknown, and an earlier attempt may still take effect
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

// own reports whether c is a write of this cache, and the write incremented the counters of all rows that c names. It is
// false for a write with an unknown outcome, and for other rows that a layer beneath wrote under the same stamp.
func (l *cached) own(c bus.Change) bool {
	if c.Origin != l.origin || c.Write == 0 || c.All || l.unsure.has(c.Write) {
		return false
	}
	moved := c.Write & (1<<slotBits - 1)
	return (c.ThreadID == "" || mark(l.core.Counters.Slot(coherence.ThreadCounter, c.ThreadID)) == moved) &&
		(c.AttachmentID == "" || mark(l.core.Counters.Slot(coherence.AttachmentCounter, c.AttachmentID)) == moved)
}

// slotBits is how many of the lower bits of a write's number name the counter that it incremented. No table has more counters
// than countersPerEntry * mostEntries.
const slotBits = 28

func mark(s generation.Slot) uint64 { return uint64(s) & (1<<slotBits - 1) }

func (l *cached) connected(yes bool) {
	l.state.Lock()
	defer l.state.Unlock()
	if !yes || l.closed.Load() {
		l.serving.Store(l.polls != nil && !l.closed.Load())
		return
	}
	l.forget()
	l.serving.Store(true)
}

// forget drops all entries and all loads under way.
func (l *cached) forget() {
	l.core.Counters.BumpAll()
	for _, s := range l.shards {
		s.flush()
	}
}

// numbers is a set of numbers of writes. When it has more than maxNumbers it forgets them, and from then on contains every
// number up to the highest of them. It is safe for concurrent use.
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
