package bench

import "time"

// scale is how much there is of everything.
type scale struct {
	// An entrant is measured so long at a time, and so often.
	turn  time.Duration
	turns int

	// Reads and writes: threads, all of which every cache has room for, and items of each.
	warmThreads, warmItems int

	// Turns of users. A cache has room for so many threads, and as many items, and pages: half of all threads. A thread is cold
	// after as many turns as there are users.
	turnUsers, turnEntries  int
	turnParts, turnsOfAPart int

	// Hits and memory.
	traceThreads, traceItems, traceReads, traceRounds int
	traceBounds                                       []int // in bytes

	// Stampedes, and how many of those in which the first gives up.
	readers       []int
	stampedesLeft int

	// Growth.
	threadSizes []int // items
	ownerSizes  []int // threads
	residents   []int // threads in a cache
	others      []int // threads of others
}

var full = scale{
	turn: 20 * time.Millisecond, turns: 15,
	warmThreads: 1000, warmItems: 30,
	turnUsers: 1000, turnEntries: 1000, turnParts: 12, turnsOfAPart: 200,
	traceThreads: 20_000, traceItems: 20, traceReads: 200_000, traceRounds: 3, traceBounds: []int{4 << 20, 16 << 20, 64 << 20},
	readers: []int{64, 1000}, stampedesLeft: 5,
	threadSizes: []int{100, 1000, 10_000, 100_000, 1_000_000},
	ownerSizes:  []int{10, 100, 1000, 10_000, 100_000},
	residents:   []int{1000, 10_000, 100_000, 1_000_000},
	others:      []int{1000, 1_000_000},
}

// small is for tests: enough for all there is to be done and checked once.
var small = scale{
	turn: time.Microsecond, turns: 1,
	warmThreads: 200, warmItems: 30,
	turnUsers: 10, turnEntries: 10, turnParts: 2, turnsOfAPart: 50,
	traceThreads: 100, traceItems: 20, traceReads: 500, traceRounds: 1, traceBounds: []int{1 << 18},
	readers: []int{8}, stampedesLeft: 1,
	threadSizes: []int{20, 100},
	ownerSizes:  []int{10, 100},
	residents:   []int{10, 100},
	others:      []int{20, 100},
}

// at is the scale in force.
var at = full
