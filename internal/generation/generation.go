// Package generation has generation counters. A layer uses them to find out whether a write has overtaken a value that it
// holds or is loading. A counter covers all ids that hash to it. It is one atomic number with two parts: the generation,
// which counts beginnings and ends of writes, and the number of writes in progress.
//
// A reader notes the counter before it loads a value, and tags the value with it. If the counter had no write in progress,
// the value is current for as long as the counter equals the tag. Counters are never evicted. They do not depend on
// principals: every write increments the counter for all of them.
package generation

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Counter is the value of a counter: a generation (40 bits) and the number of writes in progress (24 bits).
type Counter uint64

const (
	writerBits = 24
	generation = 1 << writerBits
	writers    = generation - 1
)

// Idle reports whether no write is in progress.
func (c Counter) Idle() bool { return c&writers == 0 }

// AfterWrite returns the counter after the end of a write that began at c, if no other write has begun or ended in between.
func (c Counter) AfterWrite() Counter { return c + 2*generation }

// Slot is the index of a counter in its Table.
type Slot uint64

// Table has a fixed number of counters. It is safe for concurrent use.
type Table struct {
	counters []atomic.Uint64
	seed     maphash.Seed

	mu          sync.Mutex
	closed      bool
	quarantines map[Slot]*quarantine
}

// A quarantine keeps a write in progress after its outcome became unknown, because it may still take effect. Each counter
// has at most one. Later writes extend it, so that quarantines do not add up.
type quarantine struct {
	until time.Time
	timer *time.Timer
}

// New returns a table of at least n counters.
func New(n int) *Table {
	return &Table{
		counters:    make([]atomic.Uint64, 1<<bits.Len(uint(max(n, 1)-1))),
		seed:        maphash.MakeSeed(),
		quarantines: make(map[Slot]*quarantine),
	}
}

// Slot returns the slot of the counter for an id. The same id may exist in several kinds.
func (t *Table) Slot(kind byte, id string) Slot {
	h := maphash.String(t.seed, id) ^ uint64(kind)*0x9e3779b97f4a7c15
	return Slot(h & uint64(len(t.counters)-1))
}

// Load returns the counter at s.
func (t *Table) Load(s Slot) Counter { return Counter(t.counters[s].Load()) }

// Begin begins a write. It returns the counter before the write.
func (t *Table) Begin(s Slot) Counter {
	return Counter(t.counters[s].Add(generation+1) - (generation + 1))
}

// End ends a write that will have no further effect.
func (t *Table) End(s Slot) { t.counters[s].Add(generation - 1) }

// EndUnknown ends a write that may still take effect within d. It counts as in progress for that time, its quarantine.
func (t *Table) EndUnknown(s Slot, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d <= 0 || t.closed {
		t.End(s)
		return
	}
	until := time.Now().Add(d)
	if q := t.quarantines[s]; q != nil {
		if until.After(q.until) {
			q.until = until
		}
		t.End(s) // the quarantine already counts as one write in progress
		return
	}
	q := &quarantine{until: until}
	q.timer = time.AfterFunc(d, func() { t.release(s, q) })
	t.quarantines[s] = q
}

func (t *Table) release(s Slot, q *quarantine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.quarantines[s] != q {
		return // closed
	}
	if rest := time.Until(q.until); rest > 0 {
		q.timer.Reset(rest)
		return
	}
	delete(t.quarantines, s)
	t.End(s)
}

// Quarantined returns the number of counters with a quarantine.
func (t *Table) Quarantined() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.quarantines)
}

// Bump records a change that was not a write of this table, such as one by another process.
func (t *Table) Bump(s Slot) { t.counters[s].Add(generation) }

// BumpAll bumps every counter.
func (t *Table) BumpAll() {
	for i := range t.counters {
		t.counters[i].Add(generation)
	}
}

// Close ends all quarantines and stops their timers. The counters still work afterwards, but without new quarantines.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for s, q := range t.quarantines {
		q.timer.Stop()
		t.End(s)
	}
	clear(t.quarantines)
}
