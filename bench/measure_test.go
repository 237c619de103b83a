package bench

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"time"
)

// entrant is one of the compared candidates.
type entrant struct {
	name string
	// call makes the nth call of a worker. It is called by several goroutines.
	call func(worker, n int)
}

// measured is the cost of one call of an entrant.
type measured struct {
	call   time.Duration // median of the turns: wall time per call, over all workers
	allocs float64       // allocations per call, with one worker
}

// compare measures entrants in alternating turns, with the given numbers of processors and workers.
func compare(entrants []entrant, procs, workers int) []measured {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	results := make([]measured, len(entrants))
	each := make([]int, len(entrants)) // calls per worker and turn
	for i, e := range entrants {
		each[i] = 1
		for spent := time.Duration(0); spent < at.turn/2; each[i] *= 2 { // this also warms everything up
			spent = run(e, workers, each[i])
		}
		results[i].allocs = allocs(e, each[i])
	}
	costs := make([][]time.Duration, len(entrants))
	for n := range at.turns {
		runtime.GC()
		for i := range entrants {
			i = (i + n) % len(entrants) // rotate, so that no entrant always pays for the garbage of another
			costs[i] = append(costs[i], run(entrants[i], workers, each[i])/time.Duration(each[i]*workers))
		}
	}
	for i := range entrants {
		results[i].call = median(costs[i])
	}
	return results
}

// run returns how long the workers take to make n calls each.
func run(e entrant, workers, n int) time.Duration {
	if workers == 1 {
		begin := time.Now()
		for i := range n {
			e.call(0, i)
		}
		return time.Since(begin)
	}
	return together(workers, func(w int) {
		for i := range n {
			e.call(w, i)
		}
	})
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
