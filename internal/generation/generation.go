// Package generation keeps generation counters, called counters. By them a layer knows that a write overtook what it holds or is
// loading. A counter stands for all ids that hash to it. It counts, in one atomic number, the writes that began or ended (the
// generation) and the writes in progress.
//
// A value that was read at a counter without writers is true for as long as the counter stays the same. A reader takes the counter
// before it loads, and tags the loaded value with it. The value may be used while its tag equals the counter. Counters are never
// evicted. The table knows no principals: any write increments the counter for all of them.
package generation

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Counter is a generation (40 bits) and a count of writes in progress (24 bits).
type Counter uint64

const (
	writerBits = 24
	generation = 1 << writerBits
	writers    = generation - 1
)

// Idle reports whether no write was in progress.
func (w Counter) Idle() bool { return w&writers == 0 }

// AfterWrite returns the counter that the end of a write leaves behind if it began at w and no other write has begun or ended
// since.
func (w Counter) AfterWrite() Counter { return w + 2*generation }

// Slot is the place of a counter in its table.
type Slot uint64

// Table is a fixed number of counters. It is safe for concurrent use.
type Table struct {
	counters []atomic.Uint64
	seed     maphash.Seed

	mu          sync.Mutex
	closed      bool
	quarantines map[Slot]*quarantine
}

// A quarantine keeps a counter in progress after a write with an unknown outcome, which may still take effect. There is one
// per counter, extended by later ones, so that they can't add up.
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

// Slot returns the place of the counter of an id. Ids of different kinds may be equal.
func (t *Table) Slot(kind byte, id string) Slot {
	h := maphash.String(t.seed, id) ^ uint64(kind)*0x9e3779b97f4a7c15
	return Slot(h & uint64(len(t.counters)-1))
}

// Load returns the counter.
func (t *Table) Load(s Slot) Counter { return Counter(t.counters[s].Load()) }

// Begin tells that a write begins, and returns the counter before it.
func (t *Table) Begin(s Slot) Counter {
	return Counter(t.counters[s].Add(generation+1) - (generation + 1))
}

// End tells that a write that began has ended and will have no further effect.
func (t *Table) End(s Slot) { t.counters[s].Add(generation - 1) }

// EndUnknown tells that a write that began has ended, but may still take effect within d. Until then it counts as in progress.
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
		t.End(s) // the quarantine's own count stays
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

// Quarantined returns how many counters wait for a write with an unknown outcome.
func (t *Table) Quarantined() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.quarantines)
}

// Bump tells that the ids of the counter were changed other than by a write that began here.
func (t *Table) Bump(s Slot) { t.counters[s].Add(generation) }

// BumpAll bumps every counter.
func (t *Table) BumpAll() {
	for i := range t.counters {
		t.counters[i].Add(generation)
	}
}

// Close ends all quarantines and stops their timers. The counters go on to work.
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
