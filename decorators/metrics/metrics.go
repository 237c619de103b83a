// Package metrics counts and times every call of a Store for Prometheus.
//
// Put one layer outside of a cache, for what callers see, and one beneath it, for what the backend has to do:
//
//	outer, err := metrics.New(reg, metrics.WithLayer("outer"))
//	inner, err := metrics.New(reg, metrics.WithLayer("inner"))
//	s := store.Wrap(base, outer, authz.New(authz.OwnerOnly()), cache.New(), inner)
//	defer store.Close(s) // unregisters both
//
// Do not use it to follow one call through the layers: package tracing does that. With a tracing layer outside, the exemplars of
// errors and slow calls lead from a series to a trace.
//
// The series of a layer all have the constant labels store and layer, and are there, at zero, before the first call:
//
//	chatstore_operation_duration_seconds{operation, status}  histogram, classic and native; status is ok or error
//	chatstore_operations_total{operation, code}              counter; code is a store.Code: ok, not_found, …
//	chatstore_operations_in_flight{operation}                gauge: calls that have begun and not ended
//	chatstore_page_items{operation}                          histogram of the rows of the pages returned
//	chatstore_stats_dropped                                  gauge: see below
//
// The codes canceled, timeout, unavailable, internal and panic have status error. All others are answers, with status ok:
// a thread that is not there was found out as it should be.
//
// The layer also exports what the layers beneath count, down to the base and through every barrier ([layer.StatsReporter]): of
// package cache for example chatstore_cache_requests_total{kind, result}. Where two layers report the same series, the sum
// is exported.
//
// Statistics that would fail the scrape, or that a linter would refuse, are left out and counted by chatstore_stats_dropped:
//
//   - a name or a label that Prometheus does not allow
//   - a counter whose name does not end in _total, or a gauge whose name does
//   - a name that another kind of metric has
//   - those of a reporter that panics
//
// A layer has 461 series by itself, and stays under 600 together with what the other decorators report. No id, owner or
// error text is a label: their number does not grow.
//
// An observed call allocates nothing, except where it leaves an exemplar.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

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

// WithStore sets the constant label store, which tells the stacks of one program apart. The default is [DefaultStore].
// WithStore panics unless the name is valid UTF-8 and not empty.
func WithStore(name string) Option {
	checkLabel("WithStore", name)
	return func(c *config) { c.store = name }
}

// WithLayer sets the constant label layer, which tells the metrics layers of one stack apart. The default is
// [DefaultLayer]. WithLayer panics unless the name is valid UTF-8 and not empty.
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

// WithBuckets sets the upper bounds, in seconds, of the classic buckets of durations. The default is .001, .005, .01, .05, .1,
// .5, 1, 5, 10. Each bound is 24 series. Without any, only the native histogram is left. WithBuckets panics unless the
// bounds are above zero and rise.
func WithBuckets(seconds ...float64) Option {
	seconds = slices.Clone(seconds)
	for i, b := range seconds {
		// The first also refuses NaN, which compares with nothing.
		if !(b > 0) || i > 0 && b <= seconds[i-1] {
			panic(fmt.Sprintf("metrics.WithBuckets: the bounds must be above zero and rise: %v", seconds))
		}
	}
	return func(c *config) { c.buckets = seconds }
}

// WithSlow sets from which duration on a successful call of a sampled span leaves its trace_id as an exemplar. The default
// is [DefaultSlow]. Calls with status error always do. WithSlow panics if d is negative.
func WithSlow(d time.Duration) Option {
	if d < 0 {
		panic("metrics.WithSlow: the duration is negative: use 0 for every call")
	}
	return func(c *config) { c.slow = d }
}

// New registers the metrics with reg and returns the layer that feeds them; a nil reg registers them nowhere. The layer
// wraps one Store: wrapping a second panics. Closing the layer ([store.Close]) unregisters what New registered, and calls
// then pass through uncounted. What never wrapped a Store cannot be closed, and stays registered: call New last of what may
// fail.
//
// It is an error, and nothing is registered, if reg has a layer with the same store and layer labels.
func New(reg prometheus.Registerer, opts ...Option) (store.Middleware, error) {
	c := config{
		store: DefaultStore, layer: DefaultLayer, slow: DefaultSlow,
		buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10},
	}
	for _, o := range opts {
		o(&c)
	}
	m := newMeter(&c, reg)
	if reg != nil {
		if err := reg.Register(m); err != nil {
			if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
				return nil, fmt.Errorf("metrics.New: the registry has a layer with store=%q and layer=%q: "+
					"set another name with WithStore or WithLayer", c.store, c.layer)
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

// statusOf is part of what dashboards and alerts are built on: see the package comment.
func statusOf(c store.Code) int {
	switch c {
	case store.CodeCanceled, store.CodeTimeout, store.CodeUnavailable, store.CodeInternal, store.CodePanic:
		return statusError
	}
	return statusOK
}

// meter is the Observer and the Collector of a layer. The metrics of an op are bound once, so that a call looks nothing up.
type meter struct {
	ops      [store.NumOps]bound
	slow     time.Duration
	vecs     []prometheus.Collector
	constant prometheus.Labels
	reg      prometheus.Registerer
	wrapped  atomic.Bool
	closed   atomic.Bool
	stats    atomic.Pointer[stats] // set by wrap; registered by itself, because what is beneath is known only then
}

var (
	_ layer.Observer       = (*meter)(nil)
	_ prometheus.Collector = (*meter)(nil)
)

// bound is the metrics of one op. Begin's state is a pointer to it.
type bound struct {
	inFlight prometheus.Gauge
	calls    [store.NumCodes]prometheus.Counter
	duration [numStatuses]prometheus.Observer
	items    prometheus.Observer // nil unless the op returns a page
}

func newMeter(c *config, reg prometheus.Registerer) *meter {
	constant := prometheus.Labels{"store": c.store, "layer": c.layer}
	m := &meter{slow: c.slow, constant: constant, reg: reg}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "chatstore_operation_duration_seconds", Help: "How long calls took, by operation and whether they failed.",
		ConstLabels: constant, Buckets: c.buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{"operation", "status"})
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "chatstore_operations_total", Help: "Calls that ended, by operation and code.", ConstLabels: constant,
	}, []string{"operation", "code"})
	inFlight := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "chatstore_operations_in_flight", Help: "Calls that have begun and not ended, by operation.", ConstLabels: constant,
	}, []string{"operation"})
	items := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "chatstore_page_items", Help: "Rows of the pages returned, by operation.",
		ConstLabels: constant, Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
	}, []string{"operation"})
	dropped := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "chatstore_stats_dropped", Help: "Statistics of the layers beneath that cannot be exported.", ConstLabels: constant,
	}, func() float64 {
		if s := m.stats.Load(); s != nil {
			return float64(s.dropped.Load())
		}
		return 0
	})
	m.vecs = []prometheus.Collector{duration, calls, inFlight, items, dropped}

	for _, op := range store.Ops() {
		b, word := &m.ops[op], op.String()
		b.inFlight = inFlight.WithLabelValues(word)
		for code := range b.calls {
			b.calls[code] = calls.WithLabelValues(word, store.Code(code).String())
		}
		for status, name := range statusNames {
			b.duration[status] = duration.WithLabelValues(word, name)
		}
	}
	for _, op := range [...]store.Op{store.OpLoadThreads, store.OpLoadThreadItems} {
		m.ops[op].items = items.WithLabelValues(op.String())
	}
	return m
}

// Begin counts the call in.
func (m *meter) Begin(ctx context.Context, c layer.Call) (context.Context, any) {
	if m.closed.Load() {
		return ctx, nil
	}
	b := &m.ops[c.Op]
	b.inFlight.Inc()
	return ctx, b
}

// End counts the call out.
func (m *meter) End(ctx context.Context, _ layer.Call, r layer.Result, state any) {
	b := state.(*bound)
	b.inFlight.Dec()
	status, seconds := statusOf(r.Code), float64(r.Duration)/float64(time.Second)
	if b.items != nil && r.Code == store.CodeOK {
		b.items.Observe(float64(r.Items))
	}
	if status == statusError || r.Duration >= m.slow {
		if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
			exemplar := prometheus.Labels{"trace_id": sc.TraceID().String()}
			b.calls[r.Code].(prometheus.ExemplarAdder).AddWithExemplar(1, exemplar)
			b.duration[status].(prometheus.ExemplarObserver).ObserveWithExemplar(seconds, exemplar)
			return
		}
	}
	b.calls[r.Code].Inc()
	b.duration[status].Observe(seconds)
}

// Describe and Collect make all of the layer's own metrics one Collector: registered as a whole or not at all.
func (m *meter) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range m.vecs {
		v.Describe(ch)
	}
}

func (m *meter) Collect(ch chan<- prometheus.Metric) {
	for _, v := range m.vecs {
		v.Collect(ch)
	}
}

// wrap takes note of the one Store beneath.
func (m *meter) wrap(next store.Store) {
	if m.wrapped.Swap(true) {
		panic("metrics: this Middleware wraps a Store already: call metrics.New for each, with a WithStore or WithLayer of its own")
	}
	s := newStats(next, m.constant)
	if m.reg != nil {
		s.register(m.reg)
	}
	m.stats.Store(s)
}

// Close unregisters what New and the wrapping registered. Only the first does: by the second another layer may have the
// names.
func (m *meter) Close() error {
	if m.closed.Swap(true) || m.reg == nil {
		return nil
	}
	m.reg.Unregister(m)
	m.stats.Load().unregister()
	return nil
}
