package guides_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/redisbus"
	"github.com/chatstore/chatstore/redisbus/redistest"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// The code of sqlstore/README.md.
func TestModuleSQLite(t *testing.T) {
	ctx := t.Context()
	t.Chdir(t.TempDir())

	s, err := sqlstore.OpenSQLite(ctx, "chat.db")

	testenv.Must(t, err)
	testenv.Must(t, s.SaveThread(operateCtx, operateThread))
	testenv.Must(t, s.Close())
}

func modulePostgres(t *testing.T, srv *pgtest.Server) {
	ctx, dsn := t.Context(), srv.DSN(t)

	s, err := sqlstore.OpenPostgres(ctx, dsn) // such as postgres://chat@db.internal/chat

	testenv.Must(t, err)

	b, err := s.Bus(ctx)
	stack := store.Wrap(s, cache.New(cache.WithBus(b)))

	testenv.Must(t, err)
	testenv.Must(t, stack.SaveThread(operateCtx, operateThread))
	testenv.Must(t, errors.Join(store.Close(stack), b.Close()))
}

// withRedis wraps base in a cache that hears of other processes' writes over Redis. The returned function closes both.
func withRedis(base store.Store, redisURL string) (store.Store, func() error, error) {
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, nil, err
	}
	options.ContextTimeoutEnabled = true // so that a call ends with its context
	client := redis.NewClient(options)
	b := redisbus.New(client)
	s := store.Wrap(base, cache.New(cache.WithBus(b)))
	return s, func() error { return errors.Join(store.Close(s), b.Close(), client.Close()) }, nil
}

// The code of redisbus/README.md.
func TestModuleRedis(t *testing.T) {
	url := redistest.Start(t).URL()
	base := memstore.New()
	var stacks []store.Store
	for range 2 {
		s, closing, err := withRedis(base, url)
		testenv.Must(t, err)
		defer func() { testenv.Must(t, closing()) }()
		stacks = append(stacks, s)
	}
	testenv.Must(t, stacks[0].SaveThread(operateCtx, operateThread))
	_ = testenv.Value(stacks[1].LoadThread(operateCtx, "thr_1"))(t)
	seesTheChange(t, stacks[0], stacks[1])
}

// seesTheChange changes a thread through one stack, and waits until the other has it.
func seesTheChange(t *testing.T, a, b store.Store) {
	t.Helper()
	changed := operateThread
	changed.Title = "Coffee"
	testenv.Must(t, a.SaveThread(operateCtx, changed))
	ctx, cancel := context.WithTimeout(operateCtx, time.Minute)
	defer cancel()
	if got := testenv.Value(b.LoadThread(store.WithFresh(ctx), "thr_1"))(t); got.Title != "Coffee" {
		t.Errorf("a fresh read has %q", got.Title)
	}
	for testenv.Value(b.LoadThread(ctx, "thr_1"))(t).Title != "Coffee" {
		time.Sleep(time.Millisecond)
	}
}
