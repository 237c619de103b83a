package main

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/store"
)

// stack is a decorated Store and the registry of its metrics.
type stack struct {
	store.Store
	registry *prometheus.Registry
}

// newStack wraps base in the recommended order. Without the cache, it shows what the cache saves.
func newStack(base store.Store, cached bool, tp trace.TracerProvider, audit func(context.Context, authz.Denial)) (*stack, error) {
	registry := prometheus.NewRegistry()
	outer, err := metrics.New(registry, metrics.WithStore("quickstart"), metrics.WithLayer("outer"))
	if err != nil {
		return nil, err
	}
	inner, err := metrics.New(registry, metrics.WithStore("quickstart"), metrics.WithLayer("inner"))
	if err != nil {
		return nil, err
	}
	layers := []store.Middleware{
		tracing.New(tracing.WithTracerProvider(tp)),
		outer,
		authz.New(authz.OwnerOnly(), authz.ShareBelow(), authz.WithAudit(audit)),
	}
	if cached {
		layers = append(layers, cache.New())
	}
	return &stack{store.Wrap(base, append(layers, inner)...), registry}, nil
}

// tally is the number of calls that a metrics layer has seen.
type tally struct{ reads, writes int }

func (t tally) minus(u tally) tally { return tally{t.reads - u.reads, t.writes - u.writes} }

func (t *tally) add(u tally) { t.reads, t.writes = t.reads+u.reads, t.writes+u.writes }

// counts has the calls that callers made (outer) and the calls that reached the base (inner).
type counts struct{ outer, inner tally }

// count reads the counts from the registry, as Prometheus would.
func (s *stack) count() (counts, error) {
	families, err := s.registry.Gather()
	if err != nil {
		return counts{}, err
	}
	writes := map[string]bool{}
	for _, op := range store.Ops() {
		writes[op.String()] = op.IsWrite()
	}
	var c counts
	for _, f := range families {
		if f.GetName() != "chatstore_operations_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			t := &c.outer
			if label(m, "layer") == "inner" {
				t = &c.inner
			}
			if n := int(m.GetCounter().GetValue()); writes[label(m, "operation")] {
				t.writes += n
			} else {
				t.reads += n
			}
		}
	}
	return c, nil
}

// during returns the calls made while f ran.
func (s *stack) during(f func() error) (counts, error) {
	before, err := s.count()
	if err != nil {
		return counts{}, err
	}
	if err := f(); err != nil {
		return counts{}, err
	}
	after, err := s.count()
	return counts{after.outer.minus(before.outer), after.inner.minus(before.inner)}, err
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
