package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/redisbus"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

// closingBus is a bus that can be closed.
type closingBus interface {
	bus.Bus
	Close() error
}

// wrapper wraps a base in a stack. b is the bus that carries the changes of other processes, or nil.
type wrapper func(base store.Store, b bus.Bus, reg prometheus.Registerer, tp trace.TracerProvider) (store.Store, error)

// openStack opens the store and wraps it in the recommended stack. closing closes both.
func openStack(ctx context.Context, c config, reg prometheus.Registerer, tp trace.TracerProvider) (
	s store.Store, closing func() error, err error,
) {
	base, shared, err := openBase(ctx, c.store)
	if err != nil {
		return nil, nil, err
	}
	var b closingBus
	switch {
	case c.bus != "":
		b, err = openRedis(c.bus, c.log)
	case shared:
		b, err = base.Bus(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, base.Close())
	}
	s, err = c.wrap(base, b, reg, tp)
	if err != nil {
		s = base
	}
	closing = func() error {
		err := store.Close(s)
		if b != nil {
			err = errors.Join(err, b.Close())
		}
		return err
	}
	if err != nil {
		return nil, nil, errors.Join(err, closing())
	}
	return s, closing, nil
}

// openBase opens an SQLite file, or the PostgreSQL database of a URL or connection string. shared says that other processes
// may use it.
func openBase(ctx context.Context, where string) (s *sqlstore.Store, shared bool, err error) {
	ids := sqlstore.WithIDs(store.LongIDs{}) // hard to guess
	if strings.Contains(where, "://") || strings.Contains(where, "dbname=") {
		s, err = sqlstore.OpenPostgres(ctx, where, ids)
		return s, true, err
	}
	s, err = sqlstore.OpenSQLite(ctx, where, ids)
	return s, false, err
}

func openRedis(url string, log *slog.Logger) (closingBus, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled = true
	return redisbus.New(redis.NewClient(o), redisbus.WithLogger(log)), nil
}

// wrap builds the recommended stack. Without a bus, it expects that no other process writes to the base.
func wrap(base store.Store, b bus.Bus, reg prometheus.Registerer, tp trace.TracerProvider) (store.Store, error) {
	outer, err := metrics.New(reg, metrics.WithStore("chatserver"), metrics.WithLayer("outer"))
	if err != nil {
		return nil, err
	}
	inner, err := metrics.New(reg, metrics.WithStore("chatserver"), metrics.WithLayer("inner"))
	if err != nil {
		return nil, err
	}
	var coherence []cache.Option
	if b != nil {
		coherence = append(coherence, cache.WithBus(b))
	}
	return store.Wrap(base,
		tracing.New(tracing.WithTracerProvider(tp)),
		outer,
		authz.New(authz.OwnerOnly(), authz.ShareBelow()),
		cache.New(coherence...),
		inner), nil
}
