package guides_test

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/decorators/limit"
	"github.com/chatstore/chatstore/decorators/logging"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/mirror"
	"github.com/chatstore/chatstore/decorators/readonly"
	"github.com/chatstore/chatstore/decorators/resilience"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// toolkit returns a stack of all layers, and what they export.
func toolkit(t *testing.T) (store.Store, prometheus.Gatherer) {
	base, second, sw := memstore.New(), memstore.New(), new(readonly.Switch)
	// More than the suite needs.
	limits := []limit.Option{limit.WithReads(1e6, 1e6), limit.WithWrites(1e6, 1e6), limit.WithInFlight(1000)}
	logger := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	outer := testenv.OrPanic(metrics.New(registry, metrics.WithLayer("outer")))
	inner := testenv.OrPanic(metrics.New(registry, metrics.WithLayer("inner")))
	key := testenv.OrPanic(aead.New(testenv.OrPanic(keyset.NewHandle(aead.XChaCha20Poly1305KeyTemplate()))))
	s := store.Wrap(base,
		tracing.New(),
		outer, // metrics of what callers get
		logging.New(logger, logging.WithSample(0.01)),
		limit.New(limits...), // such as limit.WithReads(50, 100), limit.WithWrites(10, 20)
		authz.New(authz.OwnerOnly(), authz.ShareBelow()),
		cache.New(),
		readonly.New(sw),
		inner, // metrics of what the cache does not answer
		encrypt.New(key),
		resilience.New(),
		mirror.New(second),
	)
	t.Cleanup(func() { testenv.Must(t, store.Close(s)) })
	return s, registry
}

func TestTheWholeToolkitKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _ := toolkit(t)
		return s
	})
}

// Metrics must be outside of the layers that count.
func TestEveryLayerOfTheToolkitIsExported(t *testing.T) {
	_, registry := toolkit(t)
	for _, name := range []string{
		"chatstore_stats_dropped", "chatstore_mirror_queued", "chatstore_resilience_breaker_open", "chatstore_readonly_active",
		"chatstore_logging_lost_total", "chatstore_limit_refused_total", "chatstore_authz_decisions_total", "chatstore_cache_entries",
	} {
		if got, found := sum(t, registry, name); got != 0 || !found {
			t.Errorf("%s is %v, exported %v", name, got, found)
		}
	}
}

// sum returns the sum of all series of the name, and whether there is one.
func sum(t *testing.T, from prometheus.Gatherer, name string) (sum float64, found bool) {
	t.Helper()
	for _, family := range testenv.Value(from.Gather())(t) {
		for _, m := range family.GetMetric() {
			if found = found || family.GetName() == name; family.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum, found
}
