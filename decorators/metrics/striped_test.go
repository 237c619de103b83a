package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
)

// content is what a histogram exports, without exemplars and times.
type content struct {
	Count     uint64
	Sum       float64
	Classic   map[float64]uint64
	Schema    int32
	Zero      uint64
	Threshold float64
	Spans     [][2]int64
	Deltas    []int64
}

func contentOf(h *dto.Histogram) content {
	c := content{
		Count: h.GetSampleCount(), Sum: h.GetSampleSum(), Classic: map[float64]uint64{}, Schema: h.GetSchema(),
		Zero: h.GetZeroCount(), Threshold: h.GetZeroThreshold(), Deltas: h.GetPositiveDelta(),
	}
	for _, b := range h.Bucket {
		c.Classic[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	for _, s := range h.PositiveSpan {
		c.Spans = append(c.Spans, [2]int64{int64(s.GetOffset()), int64(s.GetLength())})
	}
	return c
}

// native returns the sum of the native buckets and the number of the populated ones.
func (c content) native() (sum uint64, populated int) {
	sum = c.Zero
	var n int64
	for _, d := range c.Deltas {
		if n += d; n > 0 {
			populated++
		}
		sum += uint64(n)
	}
	return sum, populated
}

// equalsLibrary compares h with a histogram of the library that observed the same values. The library's sum has rounding errors.
func equalsLibrary(t *testing.T, reference prometheus.Histogram, h *dto.Histogram) {
	t.Helper()
	var m dto.Metric
	must(t, reference.Write(&m))
	if diff := cmp.Diff(contentOf(m.Histogram), contentOf(h), cmpopts.EquateApprox(1e-12, 0)); diff != "" {
		t.Fatalf("not as the library (-library +here):\n%s", diff)
	}
}

// boundaries returns the durations around every bound of a native bucket, and around the classic bounds.
func boundaries(classic []float64) (all []time.Duration) {
	for key := -240; key <= 200; key++ {
		classic = append(classic, math.Exp2(float64(key)/8))
	}
	for _, bound := range classic {
		for i := range 5 {
			all = append(all, max(0, time.Duration(bound*1e9)+time.Duration(i-2)))
		}
	}
	return all
}

func TestDurationsAreInTheLibrarysBuckets(t *testing.T) {
	defaults := []float64{.00005, .00025, .001, .005, .01, .05, .1, .5, 1, 5, 10}
	// many returns durations of all magnitudes up to the greatest.
	many := func(n int, greatest time.Duration) (all []time.Duration) {
		random := rand.New(rand.NewPCG(1, 2))
		for range n {
			all = append(all, time.Duration(math.Exp2(random.Float64()*math.Log2(float64(greatest)))))
		}
		return all
	}
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		classic   []float64
		durations []time.Duration
		wider     bool // the library doubles the width of the buckets, too
	}{
		"zero":                {defaults, []time.Duration{0, 0, 1}, false},
		"bounds":              {defaults, boundaries(defaults), true},
		"fast calls":          {defaults, many(2000, time.Millisecond), false},
		"calls of all speeds": {defaults, many(2000, time.Hour), true},
		"very long calls":     {defaults, many(300, year/2), true},
		"the longest call":    {defaults, []time.Duration{250 * year}, false},
		"odd bounds":          {[]float64{1e-12, 1.5e-9, 1e-7, .3, 1e12, math.Inf(1)}, many(500, time.Second), true},
		"no classic bounds":   {nil, many(500, time.Second), true},
		"a bound between two": {[]float64{2.5e-9}, []time.Duration{2, 3, 2, 3, 3}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var took time.Duration
				s, reg := open(t, &spy.Base{Forget: true, Do: func(context.Context, store.Op) error {
					time.Sleep(took)
					return nil
				}}, metrics.WithBuckets(c.classic...))
				reference := prometheus.NewHistogram(prometheus.HistogramOpts{
					Name: "reference", Buckets: c.classic, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
				})
				equalsLibrary(t, reference, histogram(t, reg, "load_thread", "ok"))
				for i, d := range c.durations {
					took = d
					_ = spy.CallOp(t.Context(), s, store.OpLoadThread)
					reference.Observe(float64(took) / float64(time.Second))
					if i%100 == 0 {
						equalsLibrary(t, reference, histogram(t, reg, "load_thread", "ok"))
					}
				}
				h := histogram(t, reg, "load_thread", "ok")
				equalsLibrary(t, reference, h)
				if wider := h.GetSchema() < 3; wider != c.wider {
					t.Errorf("the schema is %d", h.GetSchema())
				}
				if _, n := contentOf(h).native(); n > 160 {
					t.Errorf("%d native buckets", n)
				}
			})
		})
	}
}

// pages is a base with pages of n rows. It cannot load a single thread.
type pages struct {
	store.Store
	n int
}

func (p *pages) LoadThreads(context.Context, store.ThreadQuery) (store.Page[chat.Thread], error) {
	return store.Page[chat.Thread]{Data: make([]chat.Thread, p.n)}, nil
}

func (p *pages) LoadThread(context.Context, string) (chat.Thread, error) {
	return chat.Thread{}, errors.New("fails")
}

func TestRowsAreInTheLibrarysBuckets(t *testing.T) {
	base := &pages{}
	s, reg := open(t, base)
	reference := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "reference", Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
	})
	for base.n = range 1100 {
		_, err := s.LoadThreads(t.Context(), store.ThreadQuery{})
		must(t, err)
		reference.Observe(float64(base.n))
	}
	for _, m := range family(t, reg, "chatstore_page_items").GetMetric() {
		if hasLabel(m, "operation", "load_threads") {
			equalsLibrary(t, reference, m.GetHistogram())
		}
	}
}

// An exemplar is in the bucket that counts its call, though the library chooses the bucket of the exemplar.
func TestExemplarsAreInTheBucketsOfTheirCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s, reg := open(t, &spy.Base{Do: func(context.Context, store.Op) error {
			time.Sleep(1_000_095_866) // Duration.Seconds rounds this up
			return nil
		}}, metrics.WithBuckets(.5, 1, 1.000095866, 2))
		const calls = 3
		for range calls {
			_ = spy.CallOp(span(t.Context(), trace.FlagsSampled), s, store.OpLoadThread)
		}
		h := histogram(t, reg, "load_thread", "ok")
		for _, b := range h.Bucket {
			if here := b.GetUpperBound() == 1.000095866; (b.Exemplar != nil) != here {
				t.Errorf("bucket %v: exemplar %v", b.GetUpperBound(), b.Exemplar)
			}
		}
		if len(h.Exemplars) != calls || h.GetSampleCount() != calls {
			t.Errorf("%d calls, %d native exemplars, want %d", h.GetSampleCount(), len(h.Exemplars), calls)
		}
		if !h.GetCreatedTimestamp().AsTime().Equal(began) {
			t.Errorf("the histogram was created at %v, want %v", h.GetCreatedTimestamp().AsTime(), began)
		}
		for _, m := range family(t, reg, "chatstore_operations_total").GetMetric() {
			if !m.GetCounter().GetCreatedTimestamp().AsTime().Equal(began) {
				t.Fatalf("the counter was created at %v, want %v", m.GetCounter().GetCreatedTimestamp().AsTime(), began)
			}
		}
	})
}

// In each scrape the buckets of a histogram add up to its count. No count is lower than in the scrape before. In the end every call
// is counted.
func TestScrapesDuringCallsAreConsistent(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	// All calls leave an exemplar behind the last bound. So the scrape has an explicit bucket +Inf.
	s := store.Wrap(&spy.Base{Forget: true}, newLayer(t, reg, metrics.WithSlow(0), metrics.WithBuckets(1e-10)))
	ctx := span(t.Context(), trace.FlagsSampled)
	const callers, rounds = 4, 100
	var calls, scrapes sync.WaitGroup
	done := make(chan struct{})
	for range callers {
		calls.Go(func() {
			for range rounds {
				for _, op := range store.Ops() {
					_ = spy.CallOp(ctx, s, op)
				}
			}
		})
	}
	scrapes.Go(func() {
		last := map[string]float64{}
		for over := false; !over; {
			select {
			case <-done:
				over = true // one more scrape
			default:
			}
			checkScrape(t, reg, last)
		}
		for _, op := range store.Ops() {
			for _, series := range []string{"chatstore_operations_total ok", "chatstore_operation_duration_seconds ok"} {
				if n := last[series+" "+op.String()]; n != callers*rounds {
					t.Errorf("%s %s is %v, want %d", series, op, n, callers*rounds)
				}
			}
		}
	})
	calls.Wait()
	close(done)
	scrapes.Wait()
}

// A scrape reads several counters while calls change them. It must not see the end of a call without its beginning, or the rows of
// a page without the page.
func TestScrapesReadCountersInTheRightOrder(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(64)) // more stripes make a scrape slower
	s, reg := open(t, &pages{n: 1})
	var calls sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	calls.Go(func() {
		for ctx.Err() == nil {
			_, _ = s.LoadThreads(ctx, store.ThreadQuery{})
			_, _ = s.LoadThread(ctx, "")
		}
	})
	for range 100 {
		families, err := reg.Gather()
		must(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				if n := m.Gauge.GetValue(); n < 0 {
					t.Errorf("%v calls are in flight", n)
				}
				if h := m.Histogram; f.GetName() == "chatstore_page_items" && h.GetSampleSum() > float64(h.GetSampleCount()) {
					t.Errorf("%d pages of one row have %v rows", h.GetSampleCount(), h.GetSampleSum())
				}
			}
		}
	}
	stop()
	calls.Wait()
}

// checkScrape compares the counts of a scrape with each other and with those of the last one.
func checkScrape(t *testing.T, reg prometheus.Gatherer, last map[string]float64) {
	families, err := reg.Gather()
	if err != nil {
		t.Error(err)
	}
	rises := func(name string, n float64) {
		if n < last[name] {
			t.Errorf("%s fell from %v to %v", name, last[name], n)
		}
		last[name] = n
	}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, label := range []string{"status", "code", "operation"} {
				for _, l := range m.Label {
					if l.GetName() == label {
						name += " " + l.GetValue()
					}
				}
			}
			switch {
			case m.Counter != nil:
				rises(name, m.Counter.GetValue())
			case f.GetName() == "chatstore_operations_in_flight":
				if n := m.Gauge.GetValue(); n < 0 {
					t.Errorf("%s is %v", name, n)
				}
			case m.Histogram != nil:
				c := contentOf(m.Histogram)
				rises(name, float64(c.Count))
				rises(name+" sum", c.Sum)
				for bound, n := range c.Classic {
					rises(fmt.Sprint(name, " ", bound), float64(n))
				}
				if n, ok := c.Classic[math.Inf(1)]; ok && n != c.Count {
					t.Errorf("%s: %d in the bucket +Inf, the count is %d", name, n, c.Count)
				}
				if n, _ := c.native(); m.Histogram.Schema != nil && n != c.Count {
					t.Errorf("%s: %d in the native buckets, the count is %d", name, n, c.Count)
				}
			}
		}
	}
}
