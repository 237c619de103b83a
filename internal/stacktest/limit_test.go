package stacktest_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/chatstore/chatstore/decorators/limit"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// ample are limits that no test reaches, except of calls in flight.
func ample(inFlight int) store.Middleware {
	return limit.New(limit.WithReads(1e6, 1e6), limit.WithWrites(1e6, 1e6), limit.WithInFlight(inFlight))
}

func TestALimitInTheRecommendedStackKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		p := parts{share: true, tracing: traced(t)}
		s := store.Wrap(memstore.New(), p.make("tracing"), p.make("metrics"), ample(1000),
			p.make("authz"), p.make("cache"), p.make("metrics"))
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}

// A limited call is an answer, so metrics counts it with the status ok, and exports what the limit counts.
func TestMetricsCountLimitedCalls(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := store.Wrap(memstore.New(), testenv.OrPanic(metrics.New(reg)), limit.New(limit.WithReads(1e-3, 1)))
	t.Cleanup(func() { must(t, store.Close(s)) })
	for range 3 {
		_, _ = s.LoadThread(t.Context(), threadID)
	}
	var text strings.Builder
	for _, f := range testenv.Value(reg.Gather())(t) {
		testenv.Value(expfmt.MetricFamilyToText(&text, f))(t)
	}
	for _, want := range []string{
		`chatstore_limit_refused_total{kind="reads",layer="store",store="default"} 2`,
		`chatstore_operations_total{code="limited",layer="store",operation="load_thread",store="default"} 2`,
		`chatstore_operation_duration_seconds_count{layer="store",operation="load_thread",status="ok",store="default"} 3`,
		`chatstore_stats_dropped{layer="store",store="default"} 0`,
	} {
		if !strings.Contains(text.String(), want+"\n") {
			t.Errorf("the metrics lack %s:\n%s", want, &text)
		}
	}
}

// Whatever goes wrong, a limit of one call in flight changes no answer, and the call gives its place back.
func TestEveryCallGivesItsPlaceInFlightBack(t *testing.T) {
	for _, stack := range []string{"cache", "singleflight"} {
		for n, op := range slices.Concat(operations, conditional) {
			for i, f := range faults {
				c := cell{stack: stack, op: op, fault: f}
				if !c.makes() || (i+n)%tries(1, 5) != 0 {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, stack)
					r.s = ample(1)(r.s)
					ctx := store.WithPrincipal(t.Context(), ada)
					w := c.promised()
					if e, _ := c.strike(ctx, t, r); e.how != w.how || !slices.Contains(w.codes, e.code) {
						t.Errorf("%v: the call %v (%v), want: %s %v", c, e, e.err, w.how, w.codes)
					}
					r.faulty.Reset()
					if _, err := r.s.LoadThreads(ctx, store.ThreadQuery{}); err != nil {
						t.Errorf("%v: the next call ended with %v", c, err)
					}
					must(t, store.Close(r.s))
				})
			}
		}
	}
}
