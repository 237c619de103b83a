package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/decorators/tracing"
	"github.com/chatstore/chatstore/examples/chatserver/panel"
	"github.com/chatstore/chatstore/sharing"
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

// openStack opens the store and wraps it in the recommended stack. The base keeps the grants. closing closes both.
func openStack(ctx context.Context, c config, reg prometheus.Registerer, tp trace.TracerProvider) (
	s store.Store, grants sharing.Grants, closing func() error, err error,
) {
	base, announces, err := openBase(ctx, c)
	if err != nil {
		return nil, nil, nil, err
	}
	var b closingBus
	switch {
	case c.bus != "":
		b, err = openRedis(c.bus, c.log)
	case announces:
		b, err = base.Bus(ctx, pubsub.WithLogger(c.log))
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, base.Close())
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
		return nil, nil, nil, errors.Join(err, closing())
	}
	return s, base, closing, nil
}

// databaseURL returns the value of -store as package sqlstore takes it. A name with neither : nor = is that of an SQLite
// file. Only sqlstore decides what other texts mean, because they may have a password.
func databaseURL(where string) string {
	if where != "" && !strings.ContainsAny(where, ":=") {
		return "sqlite:" + where
	}
	return where
}

// openBase opens the database of -store. announces says that the database announces the changes of other servers.
func openBase(ctx context.Context, c config) (s *sqlstore.Store, announces bool, err error) {
	opts := []sqlstore.Option{sqlstore.WithIDs(store.LongIDs{})} // hard to guess
	if c.pooler {
		opts = append(opts, sqlstore.WithPooler())
	}
	if c.listen != "" {
		opts = append(opts, sqlstore.WithListenDSN(c.listen))
	}
	if c.pooler && c.listen == "" && c.bus == "" {
		return nil, false, errors.New("-pooler: needs -listen or -bus, because no changes are announced through a pooler")
	}
	if err := private(databaseURL(c.store)); err != nil {
		return nil, false, err
	}
	if s, err = sqlstore.Open(ctx, databaseURL(c.store), opts...); err != nil {
		return nil, false, fmt.Errorf("-store: %w", err)
	}
	announces = s.LayerName() == "postgres"
	if !announces && (c.pooler || c.listen != "") {
		return nil, false, errors.Join(errors.New("-pooler and -listen: only for PostgreSQL"), s.Close())
	}
	if c.listen != "" && !strings.HasPrefix(sqlstore.Redacted(c.listen), "postgres://") {
		return nil, false, errors.Join(errors.New(`-listen: must be postgres://USER@HOST/NAME or "host=HOST dbname=NAME"; `+
			`write / ? # and @ as %2F %3F %23 and %40 in the password`), s.Close())
	}
	return s, announces, nil
}

// private creates the file of an SQLite database if it is missing, for its owner alone. SQLite would let everybody read it, and
// gives the files beside it the same rights.
func private(url string) error {
	path, ok := strings.CutPrefix(sqlstore.Redacted(url), "sqlite:")
	if !ok || path == ":memory:" {
		return nil
	}
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil { // SQLite says what is wrong
		return f.Close()
	}
	return nil
}

// wrap builds the recommended stack. Without a bus, and if the base is not MySQL, it expects that no other process writes to the base.
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
	if n, ok := base.(store.Named); ok && n.LayerName() == "mysql" { // announces nothing, and Redis can lose what it announces
		coherence = append(coherence, cache.WithRevalidation(time.Second))
	}
	policy := authz.OwnerOnly()
	if grants, ok := store.As[sharing.Grants](base); ok {
		policy = authz.AnyOf(policy, authz.Shared(grants))
	}
	return store.Wrap(base,
		tracing.New(tracing.WithTracerProvider(tp)),
		outer,
		authz.New(policy, authz.ShareBelow()),
		cache.New(coherence...),
		panel.Base(tp),
		inner), nil
}
