package bench

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"time"
)

// entrant is one of those that are compared.
type entrant struct {
	name string
	// call makes one call of the work, the nth of a worker. It is called by several goroutines.
	call func(worker, n int)
}

// measured is what a call of an entrant costs.
type measured struct {
	call   time.Duration // the median of the turns: of the wall clock, over all workers
	allocs float64       // by one worker
}

// compare measures entrants in turns, each with so many workers on so many processors.
func compare(entrants []entrant, procs, workers int) []measured {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
	results := make([]measured, len(entrants))
	each := make([]int, len(entrants)) // calls of a worker's turn
	for i, e := range entrants {
		each[i] = 1
		for spent := time.Duration(0); spent < at.turn/2; each[i] *= 2 { // and so everything gets warm
			spent = run(e, workers, each[i])
		}
		results[i].allocs = allocs(e, each[i])
	}
	costs := make([][]time.Duration, len(entrants))
	for n := range at.turns {
		runtime.GC()
		for i := range entrants {
			i = (i + n) % len(entrants) // so that nobody always pays for another's garbage
			costs[i] = append(costs[i], run(entrants[i], workers, each[i])/time.Duration(each[i]*workers))
		}
	}
	for i := range entrants {
		results[i].call = median(costs[i])
	}
	return results
}

// run returns how long it takes the workers to make n calls each.
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

// together returns how long it takes so many goroutines to do f, all of which begin at once.
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

// allocs returns how many allocations a call makes.
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
