// Package metrics counts and times every call of a Store for Prometheus.
//
// Put one layer outside of a cache, which sees the callers' calls, and one beneath it, which sees the calls of the backend:
//
//	outer, err := metrics.New(reg, metrics.WithLayer("outer"))
//	inner, err := metrics.New(reg, metrics.WithLayer("inner"))
//	s := store.Wrap(base, outer, authz.New(authz.OwnerOnly()), cache.New(), inner)
//	defer store.Close(s) // unregisters both
//
// Do not use it to follow one call through the layers: package tracing does that. With a tracing layer outside, exemplars lead
// from errors and slow calls to their traces.
//
// Every series of a layer has the constant labels store and layer, and exists from the start, at zero:
//
//	chatstore_operation_duration_seconds{operation, status}  histogram, classic and native; status is ok or error
//	chatstore_operations_total{operation, code}              counter; code is a store.Code: ok, not_found, …
//	chatstore_operations_in_flight{operation}                gauge: calls in progress
//	chatstore_page_items{operation}                          histogram: rows per returned page
//	chatstore_stats_dropped                                  gauge: see below
//
// The codes canceled, timeout, unavailable, internal and panic have the status error. All others have the status ok: not_found,
// for example, is an answer and no failure.
//
// # Statistics of other layers
//
// A metrics layer also exports the statistics of the layers beneath it, down to the base and through every barrier (see
// [layer.StatsReporter]). Package cache, for example, reports chatstore_cache_requests_total{kind, result}. If two layers report
// the same series, their sum is exported.
//
// The layer leaves out the following statistics, because they would make a scrape fail or a linter complain. The gauge
// chatstore_stats_dropped counts them:
//
//   - a name, a label or a text that Prometheus does not allow
//   - a label named store, layer, le or quantile
//   - a counter whose name does not end in _total, or a gauge whose name does
//   - a name that ends in _count, _sum or _bucket, or that the registry has with other labels or another help text
//   - a series that was not reported when the layer wrapped its Store
//   - the statistics of a reporter that panics
//
// With the default buckets a layer has 521 series of its own, and fewer than 600 with those of the other decorators. No id, owner
// or error text is a label, so this number does not grow. A call allocates nothing unless it leaves an exemplar or is the first of
// its operation and status. A layer takes up to 0.8 MB with 2 processors, and 6 MB with 64.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/internal/stripe"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// The defaults of the options.
const (
	DefaultStore = "default"
	DefaultLayer = "store"
	DefaultSlow  = 100 * time.Millisecond
)

type config struct {
	store, layer string
	buckets      []float64
	slow         time.Duration
}

// Option changes what New makes.
type Option func(*config)

// WithStore sets the constant label store, which tells apart the stacks of one program. The default is [DefaultStore].
// WithStore panics if the name is empty or not valid UTF-8.
func WithStore(name string) Option {
	checkLabel("WithStore", name)
	return func(c *config) { c.store = name }
}

// WithLayer sets the constant label layer, which tells apart the metrics layers of one stack. The default is [DefaultLayer].
// WithLayer panics if the name is empty or not valid UTF-8.
func WithLayer(name string) Option {
	checkLabel("WithLayer", name)
	return func(c *config) { c.layer = name }
}

func checkLabel(option, name string) {
	if name == "" {
		panic("metrics." + option + ": the name is empty: leave the option out for the default")
	}
	if !utf8.ValidString(name) {
		panic("metrics." + option + ": the name is not valid UTF-8")
	}
}

// WithBuckets sets the upper bounds of the classic duration buckets, in seconds. The default is .00005, .00025, .001, .005, .01,
// .05, .1, .5, 1, 5, 10. A read from a cache takes less than the first. Each bound costs 24 series. Without bounds only the native
// histogram is exported. WithBuckets panics unless the bounds are above zero and rise.
//
// The native histogram has eight buckets for each power of two. While more than 160 of them have counts, their width doubles. It
// stays so until the layer is closed, because histograms are never reset.
func WithBuckets(seconds ...float64) Option {
	seconds = slices.Clone(seconds)
	for i, b := range seconds {
		// !(b > 0) also refuses NaN.
		if !(b > 0) || i > 0 && b <= seconds[i-1] {
			panic(fmt.Sprintf("metrics.WithBuckets: the bounds must be above zero and rise: %v", seconds))
		}
	}
	return func(c *config) { c.buckets = seconds }
}

// WithSlow sets the duration from which a call counts as slow. The default is [DefaultSlow]. Within a sampled span, slow calls
// and calls with the status error leave the trace_id as an exemplar. WithSlow panics if d is negative.
func WithSlow(d time.Duration) Option {
	if d < 0 {
		panic("metrics.WithSlow: the duration is negative: use 0 for every call")
	}
	return func(c *config) { c.slow = d }
}

// New registers the metrics with reg and returns the layer that feeds them. With a nil reg it registers nothing. The layer wraps
// one Store; wrapping a second one panics.
//
// Closing the layer with [store.Close] unregisters its metrics. Calls then pass through uncounted. A layer that has not wrapped a
// Store cannot be closed and stays registered. So call New after everything else that can fail.
//
// Calls do not wait for each other or for a scrape. A scrape may miss calls that end meanwhile. In each scrape the count of a
// histogram equals the sum of its buckets.
//
// New returns an error and registers nothing if reg has a layer with the same store and layer labels, or refuses the metrics.
func New(reg prometheus.Registerer, opts ...Option) (store.Middleware, error) {
	c := config{
		store: DefaultStore, layer: DefaultLayer, slow: DefaultSlow,
		buckets: []float64{.00005, .00025, .001, .005, .01, .05, .1, .5, 1, 5, 10},
	}
	for _, o := range opts {
		o(&c)
	}
	m := newMeter(&c, reg)
	if reg != nil {
		if err := reg.Register(m); err != nil {
			if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
				return nil, fmt.Errorf("metrics.New: the registry already has a layer with store=%q and layer=%q: "+
					"choose another name with WithStore or WithLayer", c.store, c.layer)
			}
			return nil, fmt.Errorf("metrics.New: store=%q, layer=%q: %w", c.store, c.layer, err)
		}
	}
	name := "metrics"
	if c.layer != DefaultLayer {
		name = "metrics(" + c.layer + ")"
	}
	observe := layer.Observe(name, m)
	return func(next store.Store) store.Store {
		m.wrap(next)
		return observe(next)
	}, nil
}

// The statuses of a call.
const (
	statusOK = iota
	statusError
	numStatuses
)

var statusNames = [numStatuses]string{"ok", "error"}

// statusOf follows the package comment. Dashboards and alerts depend on it.
func statusOf(c store.Code) int {
	switch c {
	case store.CodeCanceled, store.CodeTimeout, store.CodeUnavailable, store.CodeInternal, store.CodePanic:
		return statusError
	}
	return statusOK
}

// meter is the Observer and the Collector of a layer. The metrics of each op are looked up once, not in every call.
type meter struct {
	ops      [store.NumOps]bound
	slow     time.Duration
	vecs     []prometheus.Collector // describe all metrics except inFlight
	inFlight *prometheus.Desc
	dropped  prometheus.GaugeFunc
	constant prometheus.Labels
	reg      prometheus.Registerer
	wrapped  atomic.Bool
	closed   atomic.Bool
	stats    atomic.Pointer[stats] // set and registered by wrap, which is the first to know the layers beneath
}

var (
	_ layer.Observer       = (*meter)(nil)
	_ prometheus.Collector = (*meter)(nil)
)

// bound has the metrics of one op. Begin returns a pointer to it as its state.
type bound struct {
	counts   *stripe.Counters // finished calls by code, then the begun ones
	calls    [store.NumCodes]counter
	duration [numStatuses]histogram
	items    *histogram // nil unless the op returns a page
}

// begun is the index of the begun calls in a bound's counts.
const begun = store.NumCodes

func newMeter(c *config, reg prometheus.Registerer) *meter {
	constant := prometheus.Labels{"store": c.store, "layer": c.layer}
	m := &meter{slow: c.slow, constant: constant, reg: reg}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "chatstore_operation_duration_seconds", Help: "Durations of calls, by operation and status.",
		ConstLabels: constant, Buckets: c.buckets, NativeHistogramBucketFactor: nativeFactor,
	}, []string{"operation", "status"})
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chatstore_operations_total", Help: "Finished calls, by operation and code.", ConstLabels: constant,
	}, []string{"operation", "code"})
	m.inFlight = prometheus.NewDesc(
		"chatstore_operations_in_flight", "Calls in progress, by operation.", []string{"operation"}, constant)
	rows := []float64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}
	items := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "chatstore_page_items", Help: "Rows per returned page, by operation.", ConstLabels: constant, Buckets: rows,
	}, []string{"operation"})
	m.dropped = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "chatstore_stats_dropped", Help: "Statistics of the layers beneath that were left out.", ConstLabels: constant,
	}, func() float64 {
		if s := m.stats.Load(); s != nil {
			return float64(s.dropped.Load())
		}
		return 0
	})
	m.vecs = []prometheus.Collector{duration, calls, items, m.dropped}

	seconds, numbers := newScale(float64(time.Second), c.buckets, true), newScale(1, rows, false)
	for _, op := range store.Ops() {
		b, operation := &m.ops[op], op.String()
		b.counts = stripe.New(store.NumCodes + 1)
		for code := range b.calls {
			b.calls[code] = counter{calls.WithLabelValues(operation, store.Code(code).String()), b.counts, code}
		}
		for status, name := range statusNames {
			b.duration[status].Histogram = duration.WithLabelValues(operation, name).(prometheus.Histogram)
			b.duration[status].scale = seconds
		}
	}
	for _, op := range [...]store.Op{store.OpLoadThreads, store.OpLoadThreadItems} {
		m.ops[op].items = &histogram{Histogram: items.WithLabelValues(op.String()).(prometheus.Histogram), scale: numbers}
	}
	return m
}

// Begin counts the call as in flight.
func (m *meter) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	if m.closed.Load() {
		return ctx, nil
	}
	b := &m.ops[c.Op]
	b.counts.Add(begun, 1)
	return ctx, b
}

// End counts the call, its duration and the rows of its page.
func (m *meter) End(ctx context.Context, _ layer.Call, r layer.Result, state any) {
	b := state.(*bound)
	status := statusOf(r.Code)
	b.counts.Add(int(r.Code), 1)
	b.duration[status].observe(int64(r.Duration))
	if b.items != nil && r.Code == store.CodeOK {
		b.items.observe(int64(r.Items))
	}
	if status == statusError || r.Duration >= m.slow {
		b.exemplar(ctx, r)
	}
}

// exemplar keeps the trace of the call, if it is sampled.
func (b *bound) exemplar(ctx context.Context, r layer.Result) {
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		exemplar := prometheus.Labels{"trace_id": sc.TraceID().String()}
		b.calls[r.Code].exemplar(exemplar)
		b.duration[statusOf(r.Code)].exemplar(int64(r.Duration), exemplar)
	}
}

// inFlight returns the number of calls in progress. A reading ends with the begun calls. So it is never negative, but it includes
// calls that begin during the reading. The least of several readings includes hardly any, even if the goroutine pauses in one.
func (b *bound) inFlight() float64 {
	least := int64(math.MaxInt64)
	for range 4 {
		var finished uint64
		for code := range store.NumCodes {
			finished += b.counts.Load(code)
		}
		least = min(least, int64(b.counts.Load(begun)-finished))
	}
	return float64(least)
}

// Describe and Collect make the layer's own metrics one Collector, which is registered as a whole or not at all.
func (m *meter) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.inFlight
	for _, v := range m.vecs {
		v.Describe(ch)
	}
}

func (m *meter) Collect(ch chan<- prometheus.Metric) {
	ch <- m.dropped
	for _, op := range store.Ops() {
		b := &m.ops[op]
		ch <- prometheus.MustNewConstMetric(m.inFlight, prometheus.GaugeValue, b.inFlight(), op.String())
		for code := range b.calls {
			ch <- &b.calls[code]
		}
		for status := range b.duration {
			ch <- &b.duration[status]
		}
		if b.items != nil {
			ch <- b.items
		}
	}
}

// wrap finds and registers the statistics of the layers beneath.
func (m *meter) wrap(next store.Store) {
	if m.wrapped.Swap(true) {
		panic("metrics: this layer already wraps a Store: call metrics.New for each Store, with its own name in WithStore or WithLayer")
	}
	s := newStats(next, m.constant)
	if m.reg != nil {
		s.register(m.reg)
	}
	m.stats.Store(s)
}

// Close unregisters what New and wrap registered. A second Close does nothing: another layer may use the names by then.
func (m *meter) Close() error {
	if m.closed.Swap(true) || m.reg == nil {
		return nil
	}
	m.reg.Unregister(m)
	m.stats.Load().unregister()
	return nil
}
