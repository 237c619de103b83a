package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/store"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// owner owns all threads where owners make no difference.
var owner = chat.Owner{Tenant: "acme", Subject: "ada"}

// asCaller returns the context of a request, with a principal and a parent span that is not sampled.
func asCaller(ctx context.Context, o chat.Owner) context.Context {
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	return store.WithPrincipal(trace.ContextWithSpanContext(ctx, parent), store.Principal{Owner: o})
}

func threadID(n int) string { return fmt.Sprintf("thr_%08d", n) }

// fill saves threads with items of one line of text each.
func fill(tb testing.TB, s store.Store, threads, items int) {
	for n := range threads {
		th := chat.Thread{ID: threadID(n), Title: "A chat about budgets", CreatedAt: noon.Add(time.Duration(n) * time.Second), Owner: owner}
		must(tb, s.SaveThread(tb.Context(), th))
		for i := range items {
			must(tb, s.AddThreadItem(tb.Context(), th.ID, message(i)))
		}
	}
}

func message(n int) chat.Item {
	it, err := chat.NewItem(fmt.Sprintf("msg_%08d", n), noon.Add(time.Duration(n)*time.Second),
		chat.AssistantMessage{Content: []chat.AssistantContent{{Type: "output_text", Text: "a line of text, as answers are made of"}}})
	check(err)
	return it
}

// recommended returns the stack of the README.
func recommended(base store.Store, opts ...cache.Option) store.Store {
	reg := prometheus.NewRegistry()
	outer, err := metrics.New(reg, metrics.WithLayer("outer"))
	check(err)
	inner, err := metrics.New(reg, metrics.WithLayer("inner"))
	check(err)
	return store.Wrap(base, tracing.New(), outer, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(opts...), inner)
}

// usual is a typical handwritten stack. It builds span options and attributes for every call, and looks metrics up by their
// labels. Its generic cache joins strings to keys and copies values by way of JSON. It queries the owner for every call.
type usual struct {
	base     store.Store
	owners   store.Store // queried for owners
	tracer   trace.Tracer
	duration *prometheus.HistogramVec
	calls    *prometheus.CounterVec
	cache    *lru.Cache[string, []byte]
}

func newUsual(base, owners store.Store, entries int) *usual {
	c, err := lru.New[string, []byte](entries)
	check(err)
	return &usual{
		base: base, owners: owners, cache: c, tracer: sdktrace.NewTracerProvider().Tracer("usual"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "duration_seconds"}, []string{"operation", "status"}),
		calls:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "calls_total"}, []string{"operation", "code"}),
	}
}

// observed makes a call with a span and metrics.
func (u *usual) observed(ctx context.Context, op, id string, call func(context.Context) error) {
	ctx, span := u.tracer.Start(ctx, "store."+op, trace.WithSpanKind(trace.SpanKindInternal),
		trace.WithAttributes(attribute.String("operation", op), attribute.String("thread.id", id)))
	begin := time.Now()
	status := store.CodeOf(call(ctx)).String()
	u.duration.WithLabelValues(op, status).Observe(time.Since(begin).Seconds())
	u.calls.WithLabelValues(op, status).Inc()
	span.SetAttributes(attribute.String("code", status))
	span.End()
}

// allowed queries the database for the thread's owner.
func (u *usual) allowed(ctx context.Context, id string) error {
	p, _ := store.PrincipalFrom(ctx)
	if row, err := u.owners.LoadThread(ctx, id); err != nil || row.Owner != p.Owner {
		return store.ErrNotFound
	}
	return nil
}

// throughJSON answers from the cache, or with the result of load.
func throughJSON[V any](u *usual, key string, v *V, load func() (V, error)) (err error) {
	if text, ok := u.cache.Get(key); ok {
		return json.Unmarshal(text, v)
	}
	if *v, err = load(); err != nil {
		return err
	}
	text, err := json.Marshal(*v)
	u.cache.Add(key, text)
	return err
}

func (u *usual) LoadThread(ctx context.Context, id string) (t chat.Thread, err error) {
	u.observed(ctx, "load_thread", id, func(ctx context.Context) error {
		if err = u.allowed(ctx, id); err != nil {
			return err
		}
		p, _ := store.PrincipalFrom(ctx)
		err = throughJSON(u, fmt.Sprintf("thread:%s:%s:%s", p.Owner.Tenant, p.Owner.Subject, id), &t, func() (chat.Thread, error) {
			return u.base.LoadThread(ctx, id)
		})
		return err
	})
	return t, err
}

func (u *usual) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (page store.Page[chat.Item], err error) {
	u.observed(ctx, "load_thread_items", id, func(ctx context.Context) error {
		if err = u.allowed(ctx, id); err != nil {
			return err
		}
		key := fmt.Sprintf("items:%s:%d:%s:%s", id, q.Limit, q.Order, q.After)
		err = throughJSON(u, key, &page, func() (store.Page[chat.Item], error) { return u.base.LoadThreadItems(ctx, id, q) })
		return err
	})
	return page, err
}
