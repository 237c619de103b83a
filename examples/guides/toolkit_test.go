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

// All layers of the toolkit in one stack keep the contract.
func TestTheWholeToolkitKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
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
			logging.New(logger, logging.WithSample(0.01)),
			outer,                // metrics of what callers get
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
		return s
	})
}
