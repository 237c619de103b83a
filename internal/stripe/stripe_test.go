package stripe_test

import (
	"sync"
	"testing"

	"github.com/chatstore/chatstore/internal/stripe"
)

// Goroutines add to different copies. No addition may be lost, or counted by another counter.
func TestEveryAdditionIsCounted(t *testing.T) {
	const counters, goroutines, rounds = 20, 64, 100
	c := stripe.New(counters)
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range rounds {
				for i := range counters {
					c.Add(i, uint64(i))
				}
			}
		})
	}
	all.Wait()
	for i := range counters {
		if n := c.Load(i); n != uint64(i)*goroutines*rounds {
			t.Errorf("counter %d is %d, want %d", i, n, i*goroutines*rounds)
		}
	}
}

// BenchmarkAdd adds to one counter from all processors. Its time per addition must not grow with their number (-cpu 1,2).
func BenchmarkAdd(b *testing.B) {
	c := stripe.New(1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Add(0, 1)
		}
	})
}
