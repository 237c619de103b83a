// Package stacktest_test checks the promises of stacks: of each decorator alone, of all five in every order, and of the
// recommended stack.
package stacktest_test

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// tryAll reports whether the tests try all of their cases. With the race detector that would take too long.
func tryAll() bool { return testenv.Full && !testenv.Race }

// tries returns all if the tests try all of their cases, and otherwise part.
func tries(all, part int) int {
	if tryAll() {
		return all
	}
	return part
}

// names are the names of the five decorators.
var names = []string{"authz", "cache", "metrics", "singleflight", "tracing"}

// parts has the settings with which make makes decorators.
type parts struct {
	policy  authz.Policy // nil means OwnerOnly
	share   bool         // authz tells the layers beneath it to share between principals
	cache   []cache.Option
	tracing []tracing.Option
}

// make returns a new decorator of the name.
func (p parts) make(name string) store.Middleware {
	switch name {
	case "authz":
		var opts []authz.Option
		if p.share {
			opts = append(opts, authz.ShareBelow())
		}
		return authz.New(cmp.Or(p.policy, authz.OwnerOnly()), opts...)
	case "cache":
		return cache.New(p.cache...)
	case "metrics":
		return testenv.OrPanic(metrics.New(prometheus.NewRegistry()))
	case "singleflight":
		return singleflight.New()
	case "tracing":
		return tracing.New(p.tracing...)
	}
	panic(name)
}

// wrap wraps base in the named decorators, the first outermost.
func (p parts) wrap(base store.Store, order ...string) store.Store {
	var mw []store.Middleware
	for _, name := range order {
		mw = append(mw, p.make(name))
	}
	return store.Wrap(base, mw...)
}

// traced returns options for tracing. The test fails at its end if a span has not ended.
func traced(t testing.TB) []tracing.Option {
	spans := &spanCount{}
	t.Cleanup(func() {
		if n := spans.open.Load(); n != 0 {
			t.Errorf("%d more spans were started than ended", n)
		}
	})
	return []tracing.Option{tracing.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))}
}

// spanCount is a span processor that only counts, because recording the spans of all suites would take gigabytes.
type spanCount struct{ open atomic.Int64 }

func (c *spanCount) OnStart(context.Context, sdktrace.ReadWriteSpan) { c.open.Add(1) }
func (c *spanCount) OnEnd(sdktrace.ReadOnlySpan)                     { c.open.Add(-1) }
func (c *spanCount) Shutdown(context.Context) error                  { return nil }
func (c *spanCount) ForceFlush(context.Context) error                { return nil }

// permutations returns every order of s.
func permutations(s []string) [][]string {
	if len(s) == 0 {
		return [][]string{nil}
	}
	var all [][]string
	for i := range s {
		rest := slices.Concat(s[:i], s[i+1:])
		for _, p := range permutations(rest) {
			all = append(all, append([]string{s[i]}, p...))
		}
	}
	return all
}

// wrapped returns a factory of memstores that are wrapped in the named decorators.
func wrapped(share bool, order ...string) func(*testing.T) store.Store {
	return func(t *testing.T) store.Store {
		s := parts{share: share, tracing: traced(t)}.wrap(memstore.New(), order...)
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	}
}

func TestEachDecoratorAloneConforms(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) { storetest.Run(t, wrapped(false, name)) })
	}
}

func TestEveryPermutationOfTheFiveConforms(t *testing.T) {
	orders := slices.DeleteFunc(permutations(names), refused)
	if len(orders) != 40 {
		t.Fatalf("%d orders of the five decorators, want 40", len(orders))
	}
	for i := range 2 * len(orders) {
		if i%tries(1, 23) != 0 { // this part has each decorator in many positions, with and without sharing
			continue
		}
		order, shared := orders[i/2], i%2 == 1
		t.Run(fmt.Sprintf("%s, shared %t", strings.Join(order, "-"), shared), func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, wrapped(shared, order...))
		})
	}
}

// refused reports whether the cache or singleflight is outside of authz. Such a stack cannot be made, because that layer would
// answer without asking the policy.
func refused(order []string) bool {
	guard := slices.Index(order, "authz")
	return slices.ContainsFunc(order[:max(guard, 0)], func(name string) bool { return name == "cache" || name == "singleflight" })
}

func TestNoCacheOrSingleflightIsAroundAuthz(t *testing.T) {
	n := 0
	for _, order := range permutations(names) {
		if !refused(order) {
			continue
		}
		n++
		t.Run(strings.Join(order, "-"), func(t *testing.T) {
			sentence := "cache.New: around a guard, such as authz, the cache would answer without asking it: " +
				"put the guard before the cache"
			outside := order[:slices.Index(order, "authz")]
			if slices.Index(outside, "singleflight") > slices.Index(outside, "cache") { // it is made first
				sentence = "singleflight.New: around a guard, such as authz, a read could join a call that began before access was revoked: " +
					"put the guard before singleflight"
			}
			testenv.Panics(t, sentence, func() { wrapped(false, order...)(t) })
		})
	}
	if n != 80 {
		t.Errorf("%d orders have the cache or singleflight around authz, want 80", n)
	}
}

func TestTheRecommendedStackConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { s, _ := recommended(t); return s })
}

// recommended returns the stack of the README, and its base.
func recommended(t testing.TB) (store.Store, *memstore.Store) {
	base := memstore.New()
	s := inRecommended(t, base, cache.New())
	t.Cleanup(func() { must(t, store.Close(s)) })
	return s, base
}

// inRecommended wraps base in the recommended stack with the cache c.
func inRecommended(t testing.TB, base store.Store, c store.Middleware) store.Store {
	return fullStack(base, prometheus.NewRegistry(), c)
}

// fullStack wraps base in the recommended stack with the registry, the cache and the options of tracing.
func fullStack(base store.Store, reg prometheus.Registerer, c store.Middleware, opts ...tracing.Option) store.Store {
	layer := func(name string) store.Middleware { return testenv.OrPanic(metrics.New(reg, metrics.WithLayer(name))) }
	guard := authz.New(authz.OwnerOnly(), authz.ShareBelow())
	return store.Wrap(base, tracing.New(opts...), layer("outer"), guard, c, layer("inner"))
}

// TestNoDecoratorEmbedsAStore checks that each decorator defines every method itself. An embedded Store would pass a new method
// through unguarded, uncached and unseen.
func TestNoDecoratorEmbedsAStore(t *testing.T) {
	storeType := reflect.TypeFor[store.Store]()
	if n := storeType.NumMethod(); n != 14 {
		t.Fatalf("Store has %d methods, want 14: new methods belong into other interfaces", n)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			typ := reflect.TypeOf(parts{}.make(name)(memstore.New())).Elem()
			for f := range typ.Fields() {
				if !f.Anonymous {
					continue
				}
				methods := f.Type
				if methods.Kind() != reflect.Interface { // a pointer to an interface has no methods
					methods = reflect.PointerTo(methods)
				}
				for m := range storeType.Methods() {
					if _, has := methods.MethodByName(m.Name); has {
						t.Errorf("%v embeds %v, which has the method %s", typ, f.Type, m.Name)
					}
				}
			}
		})
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
