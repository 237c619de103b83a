package metrics

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/chatstore/chatstore/internal/stripe"
)

// counter is one of many that processors do not share. The library's counter keeps the exemplar.
type counter struct {
	prometheus.Counter
	counts *stripe.Counters
	index  int
}

// exemplar keeps an exemplar for a counted event.
func (c *counter) exemplar(labels prometheus.Labels) {
	c.Counter.(prometheus.ExemplarAdder).AddWithExemplar(1, labels)
}

// Write writes the library's counter with the value of c.
func (c *counter) Write(out *dto.Metric) error {
	if err := c.Counter.Write(out); err != nil {
		return err
	}
	out.Counter.Value = new(float64(c.counts.Load(c.index)))
	return nil
}

// The resolution of the native histograms. Schema 3 has eight buckets for each power of two, which is a factor of 1.09.
const (
	nativeFactor  = 1.1
	nativeSchema  = 3
	nativeBuckets = 160 // the most in a scrape
)

// scale divides the integers from 0 to [math.MaxInt64] into cells. All values of a cell belong to the same buckets, classic and
// native. So one addition counts a value for both.
type scale struct {
	unit   float64 // how many make one of the exported unit
	bounds []int64 // the upper bounds of the cells, rising
	keys   []int   // the cells' native buckets
	first  [64]int // the first cell with values of that many bits
}

// newScale returns the scale for these classic buckets, and for the native ones if native is set.
func newScale(unit float64, classic []float64, native bool) *scale {
	s := &scale{unit: unit, bounds: []int64{0, math.MaxInt64}}
	bounds := slices.Clone(classic)
	if native {
		for key := firstKey; nativeBound(key) < s.value(math.MaxInt64); key++ {
			bounds = append(bounds, nativeBound(key))
		}
	}
	for _, bound := range bounds {
		// The last value in the bucket. The search compares as the library does, so rounding cannot move a value.
		low, high := int64(0), int64(math.MaxInt64)
		for low < high {
			if middle := high - (high-low)/2; s.value(middle) <= bound {
				low = middle
			} else {
				high = middle - 1
			}
		}
		s.bounds = append(s.bounds, low)
	}
	slices.Sort(s.bounds)
	s.bounds = slices.Compact(s.bounds)
	key := firstKey
	for _, b := range s.bounds {
		for nativeBound(key) < s.value(b) {
			key++
		}
		s.keys = append(s.keys, key)
	}
	for n := range s.first {
		s.first[n], _ = slices.BinarySearch(s.bounds, int64(uint64(1)<<n>>1))
	}
	return s
}

// value converts v to the exported unit.
func (s *scale) value(v int64) float64 { return float64(v) / s.unit }

// cell returns the index of v's cell. Negative values are in the cell of 0.
func (s *scale) cell(v int64) int {
	v = max(v, 0)
	i := s.first[bits.Len64(uint64(v))&63]
	for v > s.bounds[i] {
		i++
	}
	return i
}

// firstKey is the native bucket below the one of a nanosecond.
const firstKey = -30 << nativeSchema

// nativeBound returns the upper bound of the native bucket key of [nativeSchema], which is 2^(key/8).
func nativeBound(key int) float64 {
	const perOctave = 1 << nativeSchema
	return math.Ldexp(math.Exp2(float64(key&(perOctave-1))/perOctave), key>>nativeSchema)
}

// histogram counts what it observes in a scale of cells that processors do not share. The library's histogram keeps the exemplars.
type histogram struct {
	prometheus.Histogram
	scale *scale
	// One counter for each cell, then one for the sum. The first observation makes them, because they take 4 KiB a stripe.
	counts atomic.Pointer[stripe.Counters]
}

func (h *histogram) observe(v int64) {
	c := h.counts.Load()
	if c == nil {
		h.counts.CompareAndSwap(nil, stripe.New(len(h.scale.bounds)+1))
		c = h.counts.Load()
	}
	// Write reads in the opposite order. So the sum has no value that is not counted.
	c.Add(h.scale.cell(v), 1)
	c.Add(len(h.scale.bounds), uint64(max(v, 0)))
}

// exemplar keeps an exemplar for an observed value.
func (h *histogram) exemplar(v int64, labels prometheus.Labels) {
	h.Histogram.(prometheus.ExemplarObserver).ObserveWithExemplar(h.scale.value(v), labels)
}

// Write writes the library's histogram with the counts and the sum of h.
func (h *histogram) Write(out *dto.Metric) error {
	if err := h.Histogram.Write(out); err != nil {
		return err
	}
	his := out.Histogram
	counts := cmp.Or(h.counts.Load(), &stripe.Counters{})
	sum := float64(counts.Load(len(h.scale.bounds))) / h.scale.unit
	var count, zero uint64
	native := map[int]int64{}
	classic := his.Bucket // those with a bound that is not reached
	for i, bound := range h.scale.bounds {
		for ; len(classic) > 0 && classic[0].GetUpperBound() < h.scale.value(bound); classic = classic[1:] {
			classic[0].CumulativeCount = new(count)
		}
		n := counts.Load(i)
		if n == 0 {
			continue
		}
		count += n
		if bound == 0 {
			zero = n
		} else {
			native[h.scale.keys[i]] += int64(n)
		}
	}
	for _, b := range classic {
		b.CumulativeCount = new(count)
	}
	his.SampleCount, his.SampleSum = new(count), new(sum)
	if his.Schema == nil {
		return nil // no native histogram
	}
	schema := int32(nativeSchema)
	for ; len(native) > nativeBuckets; schema-- {
		native = halve(native)
	}
	m, err := prometheus.NewConstNativeHistogram(noDesc, count, sum, native, nil, zero, schema, his.GetZeroThreshold(), time.Time{})
	if err != nil {
		return err
	}
	var encoded dto.Metric
	if err := m.Write(&encoded); err != nil {
		return err
	}
	his.Schema, his.ZeroCount = encoded.Histogram.Schema, encoded.Histogram.ZeroCount
	his.PositiveSpan, his.PositiveDelta = encoded.Histogram.PositiveSpan, encoded.Histogram.PositiveDelta
	return nil
}

var noDesc = prometheus.NewDesc("unnamed", "", nil, nil)

// halve returns the counts of the next lower schema, whose buckets are two of these.
func halve(native map[int]int64) map[int]int64 {
	half := make(map[int]int64, len(native))
	for key, n := range native {
		half[(key+1)>>1] += n
	}
	return half
}
