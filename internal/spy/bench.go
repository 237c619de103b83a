package spy

import (
	"slices"
	"testing"
	"time"
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
