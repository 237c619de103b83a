// Package stripe has counters that many processors increment at once. A counter in one word would move from processor to
// processor with every increment.
package stripe

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"unsafe"
)

// maxStripes bounds the copies of a counter.
const maxStripes = 64

// line is the size in words of the memory that processors own as a unit. It is two cache lines, because processors fetch them
// in pairs.
const line = 16

// Counters is a fixed number of counters, each with several copies in lines of their own. A goroutine adds to one copy. Counters
// is safe for concurrent use.
type Counters struct {
	cells []atomic.Uint64 // the first copies of all counters, then the second ones, and so on
	width int             // of a copy of all counters
	shift uint8           // leaves the bits of a stripe's index
}

// New returns n counters. It makes more copies than the program has processors ([runtime.GOMAXPROCS]), but at most 64.
func New(n int) *Counters {
	stripes := min(bits.Len(uint(runtime.GOMAXPROCS(0)-1))+2, bits.Len(maxStripes-1))
	width := (n + line - 1) / line * line
	return &Counters{cells: make([]atomic.Uint64, width<<stripes), width: width, shift: uint8(64 - stripes)}
}

// Add adds n to the counter i.
func (c *Counters) Add(i int, n uint64) {
	// The address of its stack chooses a goroutine's copy. Any other copy would be right, too.
	stack := uint64(uintptr(unsafe.Pointer(&i))) >> 11 // a stack has at least 2 KiB
	stripe := stack * 0x9e3779b97f4a7c15 >> (c.shift & 63)
	c.cells[int(stripe)*c.width+i].Add(n)
}

// Load returns the sum of all that was added to the counter i. Additions under way may be in it or not.
func (c *Counters) Load(i int) uint64 {
	var sum uint64
	for ; i < len(c.cells); i += c.width {
		sum += c.cells[i].Load()
	}
	return sum
}
