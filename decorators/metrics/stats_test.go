package metrics_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// reporting is a base that reports statistics. Its method layer returns a layer that reports the same.
type reporting struct {
	spy.Base
	stats  []layer.Stat
	report func(dst []layer.Stat) []layer.Stat // if set, is used instead of stats
}

func (r *reporting) AppendStats(dst []layer.Stat) []layer.Stat {
	if r.report != nil {
		return r.report(dst)
	}
	return append(dst, r.stats...)
}

func (r *reporting) Begin(ctx context.Context, _ layer.Call) (context.Context, any) { return ctx, nil }
func (r *reporting) End(context.Context, layer.Call, layer.Result, any)             {}

func (r *reporting) layer() store.Middleware { return layer.Observe("reporting", r) }

// guard is a layer with a Barrier.
type guard struct {
	store.Barrier
	store.Store
}

func counter(name string, value float64, labels ...layer.Label) layer.Stat {
	st := layer.Stat{Name: name, Help: "Counts.", Counter: true, Value: value}
	copy(st.Labels[:], labels)
	return st
}

func gauge(name string, value float64, labels ...layer.Label) layer.Stat {
	st := counter(name, value, labels...)
	st.Counter = false
	return st
}

// realistic returns statistics like those of the other decorators in a full stack, and some more.
func realistic() (stats []layer.Stat) {
	label := func(name, value string) layer.Label { return layer.Label{Name: name, Value: value} }
	for _, kind := range []string{"thread", "items", "item", "attachment"} {
		for _, result := range []string{"hit", "miss", "bypass"} {
			stats = append(stats, counter("chatstore_cache_requests_total", 1, label("kind", kind), label("result", result)))
		}
		for _, reason := range []string{"capacity", "expired", "write", "bus", "close"} {
			stats = append(stats, counter("chatstore_cache_evictions_total", 1, label("kind", kind), label("reason", reason)))
		}
	}
	for _, result := range []string{"patched", "dropped"} {
		stats = append(stats, counter("chatstore_cache_patches_total", 1, label("result", result)))
	}
	stats = append(stats, gauge("chatstore_cache_entries", 1), gauge("chatstore_cache_bytes", 1),
		gauge("chatstore_cache_quarantined", 1), counter("chatstore_cache_unsent_changes_total", 1))
	for _, op := range store.Ops() {
		if !op.IsWrite() {
			for _, role := range []string{"leader", "follower"} {
				stats = append(stats, counter("chatstore_flights_total", 1, label("operation", op.String()), label("role", role)))
			}
		}
	}
	for _, decision := range []string{"allow", "deny"} {
		for _, reason := range []string{"owner", "role", "grant", "unauthenticated", "error", "scope"} {
			stats = append(stats, counter("chatstore_authz_decisions_total", 1, label("decision", decision), label("reason", reason)))
		}
	}
	return stats
}

// stats returns the exported series of the layers beneath, and chatstore_stats_dropped.
func stats(t *testing.T, g prometheus.Gatherer) map[string]string {
	t.Helper()
	m := values(t, g)
	maps.DeleteFunc(m, func(name, _ string) bool {
		return strings.HasPrefix(name, "operation") || strings.HasPrefix(name, "page_items")
	})
	return m
}

func TestStatisticsOfLayersBeneathAreExported(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	n := 0.0
	outside := &reporting{stats: []layer.Stat{gauge("outside", 1)}}
	above := &reporting{stats: []layer.Stat{gauge("above", 1, layer.Label{Name: "kind", Value: "x"})}}
	beyond := &reporting{report: func(dst []layer.Stat) []layer.Stat {
		return append(dst, counter("beyond_the_barrier_total", n))
	}}
	base := &spy.Base{}
	s := store.Wrap(base,
		outside.layer(), newLayer(t, reg), above.layer(),
		func(next store.Store) store.Store { return guard{store.NewBarrier(next), next} },
		beyond.layer())
	for n = 1; n <= 2; n++ {
		want := map[string]string{
			`above{kind="x"}`:          "1",
			`beyond_the_barrier_total`: fmt.Sprint(n),
		}
		same(t, fmt.Sprint("scrape ", n), want, stats(t, reg))
	}
	must(t, store.Close(s))
	if got := expose(t, reg, expfmt.TypeTextPlain); got != "" {
		t.Errorf("left after Close:\n%s", got)
	}
}

func TestEqualSeriesOfTwoLayersAreSummed(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	k, r := layer.Label{Name: "kind", Value: "thread"}, layer.Label{Name: "result", Value: "hit"}
	one := &reporting{stats: []layer.Stat{counter("chatstore_cache_requests_total", 2, k, r)}}
	two := &reporting{stats: []layer.Stat{counter("chatstore_cache_requests_total", 3, r, k)}} // the order of labels does not matter
	store.Wrap(&spy.Base{}, newLayer(t, reg), one.layer(), two.layer())
	want := map[string]string{`cache_requests_total{kind="thread",result="hit"}`: "5"}
	same(t, "statistics", want, stats(t, reg))
}

func TestOddStatisticsAreDroppedAndCounted(t *testing.T) {
	l := func(name, value string) layer.Label { return layer.Label{Name: name, Value: value} }
	for name, odd := range map[string]layer.Stat{
		"no name":                    gauge("", 1),
		"name with a space":          gauge("my stat", 1),
		"name not UTF-8":             gauge("x\xff", 1),
		"colon, for recording rules": gauge("a:b", 1),
		"counter without _total":     counter("x", 1),
		"gauge with _total":          gauge("x_total", 1),
		"suffix of a histogram":      gauge("good_count", 1),
		"the layer's own": {
			Name: "chatstore_operations_total", Help: "Finished calls, by operation and code.", Counter: true, Value: 1,
			Labels: [3]layer.Label{l("operation", "load_thread"), l("code", "ok")},
		},
		"the layer's own count":        gauge("chatstore_page_items_count", 1, l("operation", "load_threads")),
		"the count of the dropped":     gauge("chatstore_stats_dropped", 1),
		"other labels than before":     gauge("good", 1, l("kind", "a"), l("other", "b")),
		"fewer labels than before":     gauge("good", 1),
		"label store":                  gauge("x", 1, l("store", "mine")),
		"label layer":                  gauge("x", 1, l("layer", "mine")),
		"label le":                     gauge("x", 1, l("le", "1")),
		"reserved label":               gauge("x", 1, l("__name__", "y")),
		"label with a dash":            gauge("x", 1, l("a-b", "y")),
		"label value without a name":   gauge("x", 1, l("", "y")),
		"the same label twice":         gauge("x", 1, l("a", "1"), l("a", "2")),
		"label value not UTF-8":        gauge("x", 1, l("a", "\xff")),
		"help not UTF-8":               {Name: "x", Help: "\xff", Value: 1},
		"name of another metric":       gauge("taken", 1),
		"name taken with other labels": gauge("taken_by_labels", 1, l("kind", "x")),
		"a series that comes later":    gauge("late", 1),
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "taken", Help: "Of another package."}))
			reg.MustRegister(prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "taken_by_labels", Help: "Counts."}, []string{"x"}))
			late := name != "a series that comes later"
			base := &reporting{report: func(dst []layer.Stat) []layer.Stat {
				dst = append(dst, gauge("good", 1, l("kind", "a")))
				if late {
					dst = append(dst, odd)
				}
				late = true
				return append(dst, gauge("good", 2, l("kind", "b")))
			}}
			s := store.Wrap(base, newLayer(t, reg))
			for range 2 {
				_ = stats(t, reg) // the first scrape may be the one that notices
			}
			want := map[string]string{`good{kind="a"}`: "1", `good{kind="b"}`: "2", `stats_dropped`: "1"}
			same(t, "statistics", want, stats(t, reg))
			_ = store.Close(s)
			for _, line := range lines(expose(t, reg, expfmt.TypeTextPlain)) {
				if line != "taken 0\n" {
					t.Errorf("left after Close: %s", line)
				}
			}
		})
	}
}

func TestTwoStacksMayNotAgreeOnAStatistic(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	a := &reporting{stats: []layer.Stat{gauge("pool", 1, layer.Label{Name: "kind", Value: "x"}), gauge("good", 1)}}
	b := &reporting{stats: []layer.Stat{gauge("pool", 2), gauge("good", 2)}}
	store.Wrap(a, newLayer(t, reg, metrics.WithStore("a")))
	store.Wrap(b, newLayer(t, reg, metrics.WithStore("b")))
	want := map[string]string{
		`good{store="a"}`: "1", `good{store="b"}`: "2", `pool{kind="x",store="a"}`: "1", `stats_dropped{store="b"}`: "1",
	}
	same(t, "statistics", want, stats(t, reg))
}

func TestAReporterThatPanicsTakesItsSeriesAlone(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	broken := false
	one := &reporting{stats: []layer.Stat{counter("shared_total", 2), counter("one_total", 1)}}
	two := &reporting{report: func(dst []layer.Stat) []layer.Stat {
		if broken {
			panic(spy.Canary)
		}
		return append(dst, counter("shared_total", 3))
	}}
	store.Wrap(&spy.Base{}, newLayer(t, reg), one.layer(), two.layer())
	whole := map[string]string{`one_total`: "1", `shared_total`: "5"}
	same(t, "statistics", whole, stats(t, reg))
	broken = true
	_ = stats(t, reg)
	// The sum of the other reporters would look like a restart of the counter.
	want := map[string]string{`one_total`: "1", `stats_dropped`: "2"} // the reporter and shared_total
	same(t, "statistics", want, stats(t, reg))
	broken = false
	_ = stats(t, reg)
	same(t, "statistics", whole, stats(t, reg))
}

func TestSeriesStayUnderTheBudget(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	base := &reporting{stats: realistic()}
	s := store.Wrap(base, newLayer(t, reg))
	for _, o := range spy.Outcomes() { // calls add no series
		base.Do = o.Do
		for _, op := range store.Ops() {
			_, _ = spy.Try(t.Context(), s, op)
		}
	}
	if n, want := len(lines(expose(t, reg, expfmt.TypeTextPlain))), 521+len(realistic()); n != want || n >= 600 {
		t.Errorf("%d series, want %d, which must be less than 600", n, want)
	}
}
