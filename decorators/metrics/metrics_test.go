package metrics_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// newLayer returns a new layer and ends the test if New fails.
func newLayer(t testing.TB, reg prometheus.Registerer, opts ...metrics.Option) store.Middleware {
	t.Helper()
	m, err := metrics.New(reg, opts...)
	must(t, err)
	return m
}

// open wraps base in a layer with a registry of its own.
func open(t testing.TB, base store.Store, opts ...metrics.Option) (store.Store, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	return store.Wrap(base, newLayer(t, reg, opts...)), reg
}

var must = testenv.Must

// same fails unless want and got are equal.
func same[T any](t testing.TB, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// callAll makes a call of every op.
func callAll(t testing.TB, s store.Store) {
	for _, op := range store.Ops() {
		_ = spy.CallOp(t.Context(), s, op)
	}
}

// expose returns the text of a scrape in the format.
func expose(t testing.TB, g prometheus.Gatherer, format expfmt.FormatType) string {
	t.Helper()
	families, err := g.Gather()
	must(t, err)
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(format))
	for _, f := range families {
		must(t, enc.Encode(f))
	}
	if c, ok := enc.(expfmt.Closer); ok {
		must(t, c.Close())
	}
	return b.String()
}

// values returns the values of all series that are not zero, without buckets and sums of durations. The keys are the texts of the
// series without the constant labels.
func values(t testing.TB, g prometheus.Gatherer) map[string]string {
	t.Helper()
	m := map[string]string{}
	for line := range strings.Lines(expose(t, g, expfmt.TypeTextPlain)) {
		line = strings.TrimSuffix(line, "\n")
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || line[i:] == " 0" || strings.Contains(line, "_bucket{") ||
			strings.HasPrefix(line, "chatstore_operation_duration_seconds_sum") {
			continue
		}
		name := strings.NewReplacer(`{layer="store",store="default"}`, "", `layer="store",`, "", `,layer="store"`, "", `,store="default"`, "", "chatstore_", "").
			Replace(line[:i])
		m[name] = line[i+1:]
	}
	return m
}

func TestEveryMethodReachesTheBaseOnceAndIsCounted(t *testing.T) {
	for m := range reflect.TypeFor[store.Store]().Methods() {
		t.Run(m.Name, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			if ctx := t.Context(); spy.Through(ctx, t, newLayer(t, reg), m) != ctx {
				t.Error("the base got another context than the caller's")
			}
			want := map[string]string{}
			if op := opOf(m.Name); op != 0 {
				want[fmt.Sprintf(`operations_total{code="ok",operation="%s"}`, op)] = "1"
				want[fmt.Sprintf(`operation_duration_seconds_count{operation="%s",status="ok"}`, op)] = "1"
				if rows := map[store.Op]string{store.OpLoadThreads: "2", store.OpLoadThreadItems: "3"}[op]; rows != "" {
					want[fmt.Sprintf(`page_items_count{operation="%s"}`, op)] = "1"
					want[fmt.Sprintf(`page_items_sum{operation="%s"}`, op)] = rows
				}
			}
			same(t, "the series", want, values(t, reg))
		})
	}
}

// opOf returns the op of the method, or 0 for the methods that generate ids.
func opOf(method string) store.Op {
	for _, op := range store.Ops() {
		if strings.EqualFold(strings.ReplaceAll(op.String(), "_", ""), method) {
			return op
		}
	}
	return 0
}

func TestEveryOutcomeIsCounted(t *testing.T) {
	failures := []store.Code{
		store.CodeCanceled, store.CodeTimeout, store.CodeUnavailable, store.CodeInternal, store.CodePanic,
	}
	for _, op := range store.Ops() {
		for _, o := range spy.Outcomes() {
			t.Run(op.String()+"/"+o.Name, func(t *testing.T) {
				reg := prometheus.NewPedanticRegistry()
				o.Through(t, newLayer(t, reg), op)
				status := "ok"
				if slices.Contains(failures, o.Code) {
					status = "error"
				}
				want := map[string]string{
					fmt.Sprintf(`operations_total{code="%s",operation="%s"}`, o.Code, op):                   "1",
					fmt.Sprintf(`operation_duration_seconds_count{operation="%s",status="%s"}`, op, status): "1",
				}
				got := values(t, reg)
				maps.DeleteFunc(got, func(name, _ string) bool {
					return o.Code == store.CodeOK && strings.HasPrefix(name, "page_items")
				})
				same(t, "the series", want, got) // values omits zeros, so no call is in flight
			})
		}
	}
}

func TestCallsUnderWayAreInFlight(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := store.Wrap(&spy.Base{Do: func(_ context.Context, op store.Op) error {
		want := map[string]string{fmt.Sprintf(`operations_in_flight{operation="%s"}`, op): "1"}
		got := values(t, reg)
		maps.DeleteFunc(got, func(name, _ string) bool { return !strings.HasPrefix(name, "operations_in_flight") })
		same(t, fmt.Sprint(op), want, got)
		return nil
	}}, newLayer(t, reg))
	callAll(t, s)
}

func TestDurationsAreInSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, reg := open(t, &spy.Base{Do: func(context.Context, store.Op) error {
			time.Sleep(250 * time.Millisecond)
			return nil
		}}, metrics.WithBuckets(.1, .2, .25, .3))
		_ = spy.CallOp(t.Context(), s, store.OpLoadThread)
		h := histogram(t, reg, "load_thread", "ok")
		if h.GetSampleSum() != .25 {
			t.Errorf("the sum is %v seconds, want 0.25", h.GetSampleSum())
		}
		var counts []uint64
		for _, b := range h.Bucket {
			counts = append(counts, b.GetCumulativeCount())
		}
		same(t, "classic buckets", []uint64{0, 0, 1, 1}, counts)
		if h.GetSchema() != 3 || len(h.PositiveSpan) == 0 {
			t.Errorf("want native buckets of factor 1.1, got schema %d, %v", h.GetSchema(), h.PositiveSpan)
		}
	})
}

// A read from a cache takes 6 to 50 µs. The default buckets tell it from a read of the base.
func TestDefaultBucketsTellCachedReadsApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took time.Duration
		s, reg := open(t, &spy.Base{Do: func(context.Context, store.Op) error {
			time.Sleep(took)
			return nil
		}})
		for _, took = range []time.Duration{6 * time.Microsecond, 50 * time.Microsecond, 200 * time.Microsecond, 900 * time.Microsecond} {
			_ = spy.CallOp(t.Context(), s, store.OpLoadThread)
		}
		counts := map[float64]uint64{}
		for _, b := range histogram(t, reg, "load_thread", "ok").Bucket[:3] {
			counts[b.GetUpperBound()] = b.GetCumulativeCount()
		}
		same(t, "the first buckets", map[float64]uint64{.00005: 2, .00025: 3, .001: 4}, counts)
	})
}

func histogram(t *testing.T, g prometheus.Gatherer, op, status string) *dto.Histogram {
	t.Helper()
	for _, m := range family(t, g, "chatstore_operation_duration_seconds").GetMetric() {
		if hasLabel(m, "operation", op) && hasLabel(m, "status", status) {
			return m.GetHistogram()
		}
	}
	t.Fatalf("no histogram of %s with status %s", op, status)
	return nil
}

func family(t *testing.T, g prometheus.Gatherer, name string) *dto.MetricFamily {
	t.Helper()
	families, err := g.Gather()
	must(t, err)
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		t.Fatalf("no metric %s", name)
	}
	return families[i]
}

func hasLabel(m *dto.Metric, name, value string) bool {
	return slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value })
}

func TestAnObservedCallAllocatesNothing(t *testing.T) {
	base := &spy.Base{Forget: true}
	s := store.Wrap(base, newLayer(t, prometheus.NewRegistry(), metrics.WithSlow(time.Hour)))
	for _, op := range store.Ops() {
		// CallOp and the base allocate too.
		without := testing.AllocsPerRun(100, func() { _ = spy.CallOp(t.Context(), base, op) })
		if n := testing.AllocsPerRun(100, func() { _ = spy.CallOp(t.Context(), s, op) }); n != without {
			t.Errorf("%s: %v allocations, %v without the layer", op, n, without)
		}
	}
}

// span returns a context with a span of trace 0700…, sampled or not.
func span(ctx context.Context, flags trace.TraceFlags) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{7}, SpanID: trace.SpanID{8}, TraceFlags: flags,
	}))
}

func TestExemplarsOfErrorsAndSlowCalls(t *testing.T) {
	const traceID = "07000000000000000000000000000000"
	for _, tt := range []struct {
		name string
		opts []metrics.Option
		ctx  context.Context
		took time.Duration
		err  error
		want bool
	}{
		{name: "a slow call", ctx: span(t.Context(), trace.FlagsSampled), took: metrics.DefaultSlow, want: true},
		{name: "an error", ctx: span(t.Context(), trace.FlagsSampled), err: store.ErrUnavailable, want: true},
		{name: "a fast call", ctx: span(t.Context(), trace.FlagsSampled), took: metrics.DefaultSlow - 1},
		{name: "an answer", ctx: span(t.Context(), trace.FlagsSampled), err: store.ErrNotFound},
		{name: "not sampled", ctx: span(t.Context(), 0), took: time.Hour, err: store.ErrUnavailable},
		{name: "no span", ctx: t.Context(), took: time.Hour, err: store.ErrUnavailable},
		{
			name: "a slow call by option", ctx: span(t.Context(), trace.FlagsSampled), took: time.Millisecond,
			opts: []metrics.Option{metrics.WithSlow(time.Millisecond)}, want: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, reg := open(t, &spy.Base{Do: func(context.Context, store.Op) error {
					time.Sleep(tt.took)
					return tt.err
				}}, tt.opts...)
				_ = spy.CallOp(tt.ctx, s, store.OpLoadThread)

				text := expose(t, reg, expfmt.TypeOpenMetrics)
				for _, name := range []string{"chatstore_operation_duration_seconds_bucket{", "chatstore_operations_total{"} {
					found := false
					for line := range strings.Lines(text) {
						found = found || strings.HasPrefix(line, name) && strings.Contains(line, `# {trace_id="`+traceID+`"}`)
					}
					if found != tt.want {
						t.Errorf("exemplar in %s: %t, want %t", name, found, tt.want)
					}
				}
				status := "ok"
				if tt.err == store.ErrUnavailable {
					status = "error"
				}
				if n := histogram(t, reg, "load_thread", status).GetSampleCount(); n != 1 {
					t.Errorf("the call was counted %d times, want once", n)
				}
			})
		})
	}
}

func TestEverySeriesIsThereBeforeTheFirstCall(t *testing.T) {
	_, reg := open(t, &spy.Base{})
	text := expose(t, reg, expfmt.TypeTextPlain)
	for _, op := range store.Ops() {
		for code := range store.NumCodes {
			want := fmt.Sprintf(`chatstore_operations_total{code="%s",layer="store",operation="%s",store="default"} 0`, store.Code(code), op)
			if !strings.Contains(text, want) {
				t.Errorf("no %s", want)
			}
		}
		for _, status := range []string{"ok", "error"} {
			want := fmt.Sprintf(`chatstore_operation_duration_seconds_count{layer="store",operation="%s",status="%s",store="default"} 0`, op, status)
			if !strings.Contains(text, want) {
				t.Errorf("no %s", want)
			}
		}
	}
	if got := len(lines(text)); got != 521 {
		t.Errorf("%d series, the package comment says 521", got)
	}
}

// lines returns the lines with series of an exposition.
func lines(text string) (series []string) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			series = append(series, line)
		}
	}
	return series
}

func TestASecondLayerOfTheSameNameIsRefusedAndChangesNothing(t *testing.T) {
	s, reg := open(t, &spy.Base{})
	before := expose(t, reg, expfmt.TypeTextPlain)

	m, err := metrics.New(reg, metrics.WithBuckets(1)) // other buckets do not change the names
	if err == nil || m != nil || !strings.Contains(err.Error(), "WithStore or WithLayer") {
		t.Errorf("New returned %v, want an error that names WithStore and WithLayer", err)
	}
	same(t, "the registry", before, expose(t, reg, expfmt.TypeTextPlain))
	must(t, store.Close(s))
	if _, err := metrics.New(reg); err != nil {
		t.Errorf("New after Close: %v", err)
	}
}

func TestARegistryThatHasANameLeavesNothingBehind(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "chatstore_page_items", Help: "Of another package."}))
	if _, err := metrics.New(reg); err == nil {
		t.Fatal("New returned no error though the registry has another metric of the name")
	}
	if got := lines(expose(t, reg, expfmt.TypeTextPlain)); len(got) != 1 {
		t.Errorf("some metrics were registered: %v", got)
	}
}

func TestLayersAndStacksInOneRegistry(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	stack := func(name string) store.Store {
		return store.Wrap(&reporting{stats: []layer.Stat{counter("chatstore_base_calls_total", 3)}},
			newLayer(t, reg, metrics.WithStore(name), metrics.WithLayer("outer")),
			newLayer(t, reg, metrics.WithStore(name), metrics.WithLayer("inner")))
	}
	a, b := stack("a"), stack("b")
	_ = spy.CallOp(t.Context(), a, store.OpLoadThread)
	_ = spy.CallOp(t.Context(), b, store.OpLoadThread)
	_ = spy.CallOp(t.Context(), b, store.OpLoadThread)
	text := expose(t, reg, expfmt.TypeTextPlain)
	for store, n := range map[string]int{"a": 1, "b": 2} {
		for _, layer := range []string{"outer", "inner"} {
			for _, want := range []string{
				fmt.Sprintf(`chatstore_operations_total{code="ok",layer="%s",operation="load_thread",store="%s"} %d`, layer, store, n),
				fmt.Sprintf(`chatstore_base_calls_total{layer="%s",store="%s"} 3`, layer, store),
			} {
				if !strings.Contains(text, want+"\n") {
					t.Errorf("no %s", want)
				}
			}
		}
	}
	same(t, "layers", []string{"metrics(outer)", "metrics(inner)"}, store.Layers(a)[:2])
	must(t, store.Close(a))
	text = expose(t, reg, expfmt.TypeTextPlain)
	if strings.Contains(text, `store="a"`) || !strings.Contains(text, `store="b"`) {
		t.Error("Close must unregister the closed stack and no other")
	}
}

func TestTheMiddlewareWrapsOneStore(t *testing.T) {
	m := newLayer(t, nil)
	m(&spy.Base{})
	testenv.Panics(t, "metrics: this layer already wraps a Store: call metrics.New for each", func() { m(&spy.Base{}) })
}

func TestAClosedLayerLetsCallsPass(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "mine", Help: "The user's own."}))
	base := &spy.Base{}
	s := store.Wrap(base, newLayer(t, reg))
	for range 2 {
		must(t, store.Close(s))
	}
	for _, op := range store.Ops() {
		if err := spy.CallOp(t.Context(), s, op); err != nil {
			t.Errorf("%s: %v", op, err)
		}
	}
	if len(base.Calls()) != len(store.Ops()) {
		t.Errorf("%d calls reached the base, want %d", len(base.Calls()), len(store.Ops()))
	}
	same(t, "the registry after Close", []string{"mine 0\n"}, lines(expose(t, reg, expfmt.TypeTextPlain)))
}

// ledger is a Registerer that records the registered collectors.
type ledger struct {
	*prometheus.Registry
	open map[prometheus.Collector]bool
}

func (l ledger) Register(c prometheus.Collector) error {
	err := l.Registry.Register(c)
	if err == nil {
		l.open[c] = true
	}
	return err
}

func (l ledger) Unregister(c prometheus.Collector) bool {
	done := l.Registry.Unregister(c)
	if done {
		delete(l.open, c)
	}
	return done
}

func TestCloseUnregistersWhateverWasRegistered(t *testing.T) {
	for name, stats := range map[string][]layer.Stat{
		"no statistics":      nil,
		"only odd ones":      {gauge("taken", 1)},
		"some statistics":    {gauge("good", 1)},
		"some of them taken": {gauge("good", 1), gauge("taken", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			reg := ledger{prometheus.NewPedanticRegistry(), map[prometheus.Collector]bool{}}
			reg.Registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "taken", Help: "Of another package."}))
			s := store.Wrap(&reporting{stats: stats}, newLayer(t, reg))
			_ = store.Close(s)
			if n := len(reg.open); n != 0 {
				t.Errorf("%d collectors are still registered", n)
			}
		})
	}
}

func TestAClosedLayerCountsNoMore(t *testing.T) {
	reg := ledger{prometheus.NewPedanticRegistry(), map[prometheus.Collector]bool{}}
	s := store.Wrap(&spy.Base{}, newLayer(t, reg))
	collectors := slices.Collect(maps.Keys(reg.open))
	_ = spy.CallOp(t.Context(), s, store.OpLoadThread)
	_ = store.Close(s)
	_ = spy.CallOp(t.Context(), s, store.OpLoadThread)
	after := prometheus.NewPedanticRegistry()
	after.MustRegister(collectors...)
	if got := values(t, after)[`operations_total{code="ok",operation="load_thread"}`]; got != "1" {
		t.Errorf("%s calls were counted, want 1, the one before Close", got)
	}
}

func TestClosingAgainDoesNotUnregisterASuccessor(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	base := &reporting{stats: []layer.Stat{counter("chatstore_base_calls_total", 1)}}
	old := store.Wrap(base, newLayer(t, reg))
	_ = store.Close(old)
	store.Wrap(base, newLayer(t, reg))
	before := expose(t, reg, expfmt.TypeTextPlain)
	_ = store.Close(old)
	same(t, "the new layer, after the second Close of the old one", before, expose(t, reg, expfmt.TypeTextPlain))
}

func TestACallUnderWayAtCloseEnds(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	s := store.Wrap(&spy.Base{Do: func(context.Context, store.Op) error {
		close(begun)
		<-release
		return nil
	}}, newLayer(t, prometheus.NewRegistry()))
	done := make(chan error)
	go func() { done <- spy.CallOp(t.Context(), s, store.OpLoadThread) }()
	<-begun
	_ = store.Close(s)
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNilRegistererCountsForNobody(t *testing.T) {
	s := store.Wrap(&reporting{stats: []layer.Stat{counter("x_total", 1)}}, newLayer(t, nil))
	must(t, spy.CallOp(t.Context(), s, store.OpLoadThread))
	must(t, store.Close(s))
}

func TestMisusePanicsWithASentence(t *testing.T) {
	for _, c := range []struct {
		want string
		f    func()
	}{
		{"metrics.WithStore: the name is empty", func() { metrics.WithStore("") }},
		{"metrics.WithStore: the name is not valid UTF-8", func() { metrics.WithStore("\xff") }},
		{"metrics.WithLayer: the name is empty", func() { metrics.WithLayer("") }},
		{"metrics.WithLayer: the name is not valid UTF-8", func() { metrics.WithLayer("\xff") }},
		{"metrics.WithBuckets: the bounds must be above zero and rise: [2 1]", func() { metrics.WithBuckets(2, 1) }},
		{"metrics.WithBuckets: the bounds must be above zero and rise: [1 1]", func() { metrics.WithBuckets(1, 1) }},
		{"metrics.WithBuckets: the bounds must be above zero and rise: [1 NaN]", func() { metrics.WithBuckets(1, math.NaN()) }},
		{"metrics.WithBuckets: the bounds must be above zero and rise: [NaN]", func() { metrics.WithBuckets(math.NaN()) }},
		{"metrics.WithBuckets: the bounds must be above zero and rise: [0 1]", func() { metrics.WithBuckets(0, 1) }},
		{"metrics.WithSlow: the duration is negative", func() { metrics.WithSlow(-1) }},
	} {
		t.Run(c.want, func(t *testing.T) { testenv.Panics(t, c.want, c.f) })
	}
}

func TestNoClassicBucketsLeavesTheNativeHistogram(t *testing.T) {
	s, reg := open(t, &spy.Base{}, metrics.WithBuckets())
	_ = spy.CallOp(t.Context(), s, store.OpLoadThread)
	h := histogram(t, reg, "load_thread", "ok")
	if len(h.Bucket) != 0 || len(h.PositiveSpan) != 1 {
		t.Errorf("%d classic buckets, native %v", len(h.Bucket), h.PositiveSpan)
	}
}

func TestCallsAndScrapesAtOnce(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	base := memstore.New()
	s := store.Wrap(base, newLayer(t, reg, metrics.WithLayer("outer")), newLayer(t, reg, metrics.WithLayer("inner")))
	var wg sync.WaitGroup
	const callers, rounds = 4, 20
	for range callers {
		wg.Go(func() {
			for range rounds {
				callAll(t, s)
			}
		})
		wg.Go(func() {
			for range rounds {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var calls float64
	for _, m := range family(t, reg, "chatstore_operations_total").GetMetric() {
		calls += m.GetCounter().GetValue()
	}
	if want := float64(2 * callers * rounds * len(store.Ops())); calls != want {
		t.Errorf("%v calls counted, want %v", calls, want)
	}
	for _, m := range family(t, reg, "chatstore_operations_in_flight").GetMetric() {
		if m.GetGauge().GetValue() != 0 {
			t.Errorf("a call is still in flight: %v", m)
		}
	}
}

func TestNoContentInMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	base := memstore.New()
	layer := newLayer(t, reg)
	spy.Conversation(span(t.Context(), trace.FlagsSampled), t, layer(base), base)
	for i, do := range spy.Leaks() {
		s := store.Wrap(&spy.Base{Do: do}, newLayer(t, reg, metrics.WithLayer(fmt.Sprint("failing-", i))))
		for _, op := range store.Ops() {
			_, _ = spy.Try(store.WithPrincipal(span(t.Context(), trace.FlagsSampled), spy.Person), s, op)
		}
	}
	text := expose(t, reg, expfmt.TypeOpenMetrics)
	for _, secret := range []string{spy.Canary, "thr_1", "msg_", "atc_1"} { // an id as a label would make a series for each row
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the exposition", secret)
		}
	}
	for _, op := range store.Ops() {
		if !strings.Contains(text, fmt.Sprintf(`code="panic",layer="failing-3",operation="%s",store="default"} 1.0`, op)) {
			t.Errorf("the panic of %s was not counted", op)
		}
	}
}

func TestLint(t *testing.T) {
	s, reg := open(t, &reporting{stats: realistic()})
	callAll(t, s)
	problems, err := testutil.GatherAndLint(reg)
	must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
