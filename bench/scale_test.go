package bench

import "time"

// scale has the sizes of all measurements.
type scale struct {
	// An entrant is measured in turns: the length of a turn, and their number.
	turn  time.Duration
	turns int

	// For reads and writes: threads that fit into every cache, and items per thread.
	warmThreads, warmItems int

	// For turns of users: each cache has room for turnEntries threads, items and pages, which is half of all threads. A
	// thread is cold after as many turns as there are users.
	turnUsers, turnEntries  int
	turnParts, turnsOfAPart int

	// For hits and memory.
	traceThreads, traceItems, traceReads, traceRounds int
	traceBounds                                       []int // in bytes

	// For stampedes: readers, their number, and the number of those in which the first reader gives up.
	readers                  []int
	stampedes, stampedesLeft int

	// For growth.
	threadSizes []int // items per thread
	ownerSizes  []int // threads per owner
	residents   []int // threads in a cache
	answers     int   // reads beside the collector
	stored      []int // items in memory
	others      []int // threads of other owners
}

var full = scale{
	turn: 2 * time.Millisecond, turns: 150,
	warmThreads: 1000, warmItems: 30,
	turnUsers: 1000, turnEntries: 1000, turnParts: 12, turnsOfAPart: 200,
	traceThreads: 20_000, traceItems: 20, traceReads: 200_000, traceRounds: 3, traceBounds: []int{4 << 20, 16 << 20, 64 << 20},
	readers: []int{64, 1000}, stampedes: 15, stampedesLeft: 5,
	threadSizes: []int{100, 1000, 10_000, 100_000, 1_000_000},
	ownerSizes:  []int{10, 100, 1000, 10_000, 100_000},
	residents:   []int{1000, 10_000, 100_000, 1_000_000}, answers: 2_000_000,
	stored: []int{10_000, 10_000_000},
	others: []int{1000, 1_000_000},
}

// small is the scale of tests, in which everything runs and is checked once.
var small = scale{
	turn: time.Microsecond, turns: 1,
	warmThreads: 200, warmItems: 30,
	turnUsers: 10, turnEntries: 10, turnParts: 2, turnsOfAPart: 50,
	traceThreads: 100, traceItems: 20, traceReads: 500, traceRounds: 1, traceBounds: []int{1 << 18},
	readers: []int{8}, stampedes: 1, stampedesLeft: 1,
	threadSizes: []int{20, 100},
	ownerSizes:  []int{10, 100},
	residents:   []int{10, 100}, answers: 10,
	stored: []int{40, 100},
	others: []int{20, 100},
}

// at is the scale in use.
var at = full
