package spy

import (
	"slices"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chatstore/chatstore/chat"
)

// InTurns runs f, the subject of a benchmark, and ref, its reference, in turns. It reports the ratio of their medians in unit:
// times differ between machines, ratios hardly.
func InTurns(b *testing.B, unit string, f, ref func()) {
	const turn = 1000
	var fs, refs []time.Duration
	b.ReportAllocs()
	run := func(f func()) time.Duration {
		begin := time.Now()
		for range turn {
			f()
		}
		return time.Since(begin) / turn
	}
	for b.Loop() {
		fs = append(fs, run(f))
		b.StopTimer()
		refs = append(refs, run(ref))
		b.StartTimer()
	}
	slices.Sort(fs)
	slices.Sort(refs)
	mine, its := fs[len(fs)/2], refs[len(refs)/2]
	b.ReportMetric(float64(mine)/float64(its), unit)
	b.ReportMetric(float64(mine), "ns/call")
	b.ReportMetric(float64(its), "ns/reference")
	b.ReportMetric(testing.AllocsPerRun(1000, f), "allocs/call")
	b.ReportMetric(testing.AllocsPerRun(1000, ref), "allocs/reference")
	b.ReportMetric(0, "ns/op") // of a turn: of no use
}

// Reference returns one hit of lru.Cache[string, chat.Thread].Get, R in the project's budgets.
func Reference(b *testing.B) func() {
	b.Helper()
	c := Must(lru.New[string, chat.Thread](1000))
	c.Add("thr_1a2b3c4d", chat.Thread{ID: "thr_1a2b3c4d"})
	return func() {
		if _, ok := c.Get("thr_1a2b3c4d"); !ok {
			b.Fatal("the reference missed")
		}
	}
}
