package limit

import (
	"sync/atomic"
	"time"
)

// rate limits calls of one kind by GCRA, the leaky bucket without a queue. Of an owner it knows only the time at which the
// bucket is empty again. Each call moves that time by interval. It may be at most window ahead.
type rate struct {
	interval, window time.Duration
	table            *table // nil means no limit
}

// bits is the number of bits of a hash that select a cell of a row. Four rows of 1<<15 cells are 1 MiB.
const bits = 15

// table is a count-min table of those times. An owner has a cell in each row, which it shares with others. The owner's own
// time is at most that of its earliest cell, because cells are only ever moved to later times.
type table [4][1 << bits]atomic.Int64

// cell returns the cell in a row of the owner with this hash.
func (t *table) cell(row int, hash uint64) *atomic.Int64 {
	return &t[row][hash>>(row*bits)%(1<<bits)]
}

// take takes one call at the time now, counted from the table's begin. If the owner must wait, it takes nothing and returns how
// long. The caller must hold a lock for the owner: two calls at once could take the same place. Calls of other owners may
// move the same cells.
func (r *rate) take(hash uint64, now time.Duration) (wait time.Duration) {
	if r.table == nil {
		return 0
	}
	empty := r.table.cell(0, hash).Load()
	for row := 1; row < len(r.table); row++ {
		empty = min(empty, r.table.cell(row, hash).Load())
	}
	empty = max(empty, int64(now)) + int64(r.interval)
	if wait = time.Duration(empty) - now - r.window; wait > 0 {
		return wait
	}
	// Only cells that are earlier are moved. Adding to all of them would make the others' estimates worse.
	for row := range r.table {
		c := r.table.cell(row, hash)
		for old := c.Load(); old < empty && !c.CompareAndSwap(old, empty); old = c.Load() {
		}
	}
	return 0
}
