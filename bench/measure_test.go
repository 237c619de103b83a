package bench

import (
	"cmp"
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"time"
)

// entrant is one of the compared candidates.
type entrant struct {
	name string
	// call makes the nth call of a worker. It is called by several goroutines. n grows over all turns.
	call func(worker, n int)
}

// measured is the cost of one call of an entrant.
type measured struct {
	call   float64 // nanoseconds of wall time per call, over all workers, in the shortest turn
	allocs float64 // allocations per call, with one worker
}

// compare measures entrants in short alternating turns, with the given numbers of processors and workers. It takes the
// shortest turn, because other work on the machine can only make a turn longer. The collector also runs in few turns.
func compare(entrants []entrant, procs, workers int) []measured {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	results := make([]measured, len(entrants))
	each := make([]int, len(entrants)) // calls per worker and turn
	for i, e := range entrants {
		each[i] = 1
		for spent := time.Duration(0); spent < at.turn/2; each[i] *= 2 { // this also warms everything up
			spent = run(e, workers, 0, each[i])
		}
		results[i] = measured{call: math.Inf(1), allocs: allocs(e, each[i])}
	}
	for n := range at.turns {
		for i := range entrants {
			i = (i + n) % len(entrants) // rotate, so that no entrant always pays for the garbage of another
			took := run(entrants[i], workers, n*each[i], each[i])
			results[i].call = min(results[i].call, float64(took)/float64(each[i]*workers))
		}
	}
	return results
}

// run returns how long the workers take to make n calls each, from the given call on.
func run(e entrant, workers, from, n int) time.Duration {
	work := func(w int) {
		for i := range n {
			e.call(w, from+i)
		}
	}
	if workers == 1 {
		begin := time.Now()
		work(0)
		return time.Since(begin)
	}
	return together(workers, work)
}

// together starts n goroutines that run f at once, and returns how long they take.
func together(n int, f func(worker int)) time.Duration {
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for w := range n {
		done.Go(func() {
			ready.Done()
			<-start
			f(w)
		})
	}
	ready.Wait()
	begin := time.Now()
	close(start)
	done.Wait()
	return time.Since(begin)
}

// allocs returns the number of allocations per call.
func allocs(e entrant, n int) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		e.call(0, i)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}

func median[N cmp.Ordered](d []N) N {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

// collector has figures of the garbage collector since the start of the program.
type collector struct {
	cycles    uint64
	cpu, busy float64 // seconds of all processors: of the collector, and of the whole program
	pauses    *metrics.Float64Histogram
}

// collections collects all garbage, and returns the figures until then. The runtime updates them with each collection.
func collections() collector {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"}, {Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(samples)
	return collector{samples[0].Value.Uint64(), samples[1].Value.Float64(), samples[2].Value.Float64() - samples[3].Value.Float64(),
		samples[4].Value.Float64Histogram()}
}

// longestPause returns the longest time since before in which the collector stopped all goroutines.
func (c collector) longestPause(before collector) (longest time.Duration) {
	for i, n := range c.pauses.Counts {
		if n > before.pauses.Counts[i] {
			longest = time.Duration(c.pauses.Buckets[i+1] * float64(time.Second))
		}
	}
	return longest
}
