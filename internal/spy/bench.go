package spy

import (
	"fmt"
	"math"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
)

// InTurns alternates between f, the subject of a benchmark, and ref, its reference. It reports the ratio of their least costs in
// unit, because ratios differ less between machines than times do.
func InTurns(b *testing.B, unit string, f, ref func()) {
	b.ReportAllocs()
	mine, its := Turns(b.Loop, 1000, f, ref)
	b.ReportMetric(float64(mine)/float64(its), unit)
	b.ReportMetric(float64(mine), "ns/call")
	b.ReportMetric(float64(its), "ns/reference")
	b.ReportMetric(testing.AllocsPerRun(1000, f), "allocs/call")
	b.ReportMetric(testing.AllocsPerRun(1000, ref), "allocs/reference")
	b.ReportMetric(0, "ns/op") // hides the time of an iteration, which runs both functions
}

// Turns alternates between n calls of f and n calls of ref, as long as more returns true. It returns the cost of a call of each in
// its shortest turn. A median of a busy machine would measure the machine's scheduler.
func Turns(more func() bool, n int, f, ref func()) (cost, refCost time.Duration) {
	run := func(f func()) time.Duration {
		begin := time.Now()
		for range n {
			f()
		}
		return time.Since(begin) / time.Duration(n)
	}
	cost, refCost = math.MaxInt64, math.MaxInt64
	for more() {
		cost, refCost = min(cost, run(f)), min(refCost, run(ref))
	}
	return cost, refCost
}

// Reference returns the reference R of the project's budgets: a hit of lru.Cache[string, chat.Thread].Get among 1000 entries.
func Reference(tb testing.TB) func() {
	tb.Helper()
	const id = "thr_1a2b3c4d"
	c := testenv.OrPanic(lru.New[string, chat.Thread](1000))
	for i := range 999 {
		c.Add(fmt.Sprintf("thr_%08d", i), chat.Thread{})
	}
	c.Add(id, chat.Thread{ID: id})
	return func() {
		if _, ok := c.Get(id); !ok {
			tb.Fatal("the reference missed")
		}
	}
}
