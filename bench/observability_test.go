package bench

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// instant answers LoadThread at once with a zero thread. So only the cost of the layers remains.
type instant struct{ store.Store }

func (instant) LoadThread(context.Context, string) (chat.Thread, error) { return chat.Thread{}, nil }

// loadThread is the LoadThread of a layer or of a handwritten wrapper.
type loadThread = func(ctx context.Context, id string) (chat.Thread, error)

// boundMetrics is the minimal wrapper that times and counts a call: two clock readings, a histogram and a counter that were
// looked up before.
func boundMetrics(next loadThread) loadThread {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "duration_seconds"}, []string{"operation"}).WithLabelValues("load_thread")
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total"}, []string{"operation", "code"}).WithLabelValues("load_thread", "ok")
	return func(ctx context.Context, id string) (chat.Thread, error) {
		begin := time.Now()
		t, err := next(ctx, id)
		duration.Observe(time.Since(begin).Seconds())
		calls.Inc()
		return t, err
	}
}

// usualMetrics looks its series up by labels in every call.
func usualMetrics(next loadThread) loadThread {
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "duration_seconds"}, []string{"operation", "code"})
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total"}, []string{"operation", "code"})
	return func(ctx context.Context, id string) (chat.Thread, error) {
		begin := time.Now()
		t, err := next(ctx, id)
		code := store.CodeOf(err).String()
		duration.WithLabelValues("load_thread", code).Observe(time.Since(begin).Seconds())
		calls.WithLabelValues("load_thread", code).Inc()
		return t, err
	}
}

// usualSpan makes a span as many programs do, with the attributes of package tracing.
func usualSpan(tracer trace.Tracer, next loadThread) loadThread {
	return func(ctx context.Context, id string) (chat.Thread, error) {
		ctx, span := tracer.Start(ctx, "load_thread", trace.WithAttributes(
			attribute.String("chatstore.operation", "load_thread"), attribute.String("chatstore.layer", "store"),
			attribute.String("gen_ai.conversation.id", id)))
		defer span.End()
		t, err := next(ctx, id)
		span.SetAttributes(attribute.String("chatstore.code", store.CodeOf(err).String()))
		return t, err
	}
}

// leastSpan makes the same span. Its constant parts are made before.
func leastSpan(tracer trace.Tracer, next loadThread) loadThread {
	constant := trace.WithAttributes(attribute.String("chatstore.operation", "load_thread"), attribute.String("chatstore.layer", "store"))
	ok := attribute.String("chatstore.code", "ok")
	return func(ctx context.Context, id string) (chat.Thread, error) {
		ctx, span := tracer.Start(ctx, "load_thread", constant)
		t, err := next(ctx, id)
		if span.IsRecording() {
			span.SetAttributes(attribute.String("gen_ai.conversation.id", id), ok)
		}
		span.End()
		return t, err
	}
}

// observabilityPrice measures section 5.
func observabilityPrice(tb testing.TB) (tables []table) {
	ctx := tb.Context()
	base := instant{memstore.New()}
	counting := get[store.Middleware](tb)(metrics.New(prometheus.NewRegistry()))
	tp := sdktrace.NewTracerProvider()
	spans := store.Wrap(base, tracing.New(tracing.WithTracerProvider(tp)))
	tracer := tp.Tracer("by hand")
	type candidate struct {
		name string
		load loadThread
	}
	counters := []candidate{
		{"no metrics", base.LoadThread}, {"minimal, by hand", boundMetrics(base.LoadThread)},
		{"**chatstore's metrics**", store.Wrap(base, counting).LoadThread}, {"typical, by hand", usualMetrics(base.LoadThread)},
	}
	spanned := []candidate{
		{"no spans", base.LoadThread}, {"minimal, by hand", leastSpan(tracer, base.LoadThread)},
		{"**chatstore's tracing**", spans.LoadThread}, {"typical, by hand", usualSpan(tracer, base.LoadThread)},
	}
	const least = 1 // index of the candidate that the others are compared with
	sampled, span := tracer.Start(ctx, "request")
	defer span.End()
	for _, w := range []struct {
		title string
		ctx   context.Context
		all   []candidate
	}{
		{"Metrics", ctx, counters},
		{"Metrics, in a sampled trace", sampled, counters},
		{"Spans, parent not sampled", asCaller(ctx, owner), spanned},
		{"Spans, sampled", ctx, spanned},
	} {
		var entrants []entrant
		for _, c := range w.all {
			entrants = append(entrants, entrant{c.name, func(int, int) {
				_, err := c.load(w.ctx, "thr_00000000")
				check(err)
			}})
		}
		one, many := compare(entrants, 1, 1), compare(entrants, 2, 16)
		t := table{title: w.title, head: []string{"", "1 goroutine", "relative to minimal", "allocations", "16 on 2 processors"},
			note: "Around an empty LoadThread."}
		for i, e := range entrants {
			t.rows = append(t.rows, []string{e.name, nanos(one[i].call), times(one[i].call, one[least].call), fmt.Sprintf("%.1f", one[i].allocs), nanos(many[i].call)})
		}
		tables = append(tables, t)
	}
	return tables
}
