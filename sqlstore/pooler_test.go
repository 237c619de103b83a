package sqlstore_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// pooled returns a pgbouncer in transaction mode before a new database of srv, which is migrated.
func pooled(t *testing.T, srv *pgtest.Server, settings ...string) (p *pgtest.Pooler, direct string) {
	t.Helper()
	direct = srv.DSN(t)
	must(t, sqlstore.MigratePostgres(t.Context(), direct))
	return pgtest.StartPooler(t, direct, settings...), direct
}

// openPooled opens a store behind a pooler.
func openPooled(t *testing.T, p *pgtest.Pooler, opts ...sqlstore.Option) *sqlstore.Store {
	t.Helper()
	return openPG(t, p.DSN, append([]sqlstore.Option{sqlstore.WithPooler(), sqlstore.WithoutMigration(), patient}, opts...)...)
}

// The pooler has fewer connections than the store, so transactions of the store share them.
func TestThroughPgbouncerItConforms(t *testing.T) {
	t.Parallel()
	p, _ := pooled(t, pgtest.Shared(t), "default_pool_size = 3")
	base := kept{openPooled(t, p, sqlstore.WithMaxConns(8))}
	storetest.Run(t, func(t *testing.T) store.Store {
		partly(t, "Limit", "Order", "Concurrency")
		return base
	}, storetest.WithVersionsRequired())
}

func TestRandomCallsThroughPgbouncer(t *testing.T) {
	t.Parallel()
	p, _ := pooled(t, pgtest.Shared(t), "default_pool_size = 3")
	s := openPooled(t, p)
	storetest.Random(t, func(*testing.T) store.Store { return s }, storetest.WithOneIn(8))
}

// The pooler and its connections break under load in every way that an operator knows.
func TestThroughPgbouncerNothingAcknowledgedIsLostAndCallsAreRetried(t *testing.T) {
	t.Parallel()
	srv := pgtest.Start(t, fast...)
	p, direct := pooled(t, srv, "default_pool_size = 5")
	_, name, _ := strings.Cut(direct, "dbname=")
	l := start(t, openPooled(t, p), 4)
	for _, disturb := range []func(){
		func() { p.Restart(t, syscall.SIGKILL) },
		func() { p.Admin(t, "RECONNECT") },
		func() {
			srv.Exec(t, direct, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		},
		func() { p.Admin(t, "KILL "+name); p.Admin(t, "RESUME "+name) },
		func() { p.Admin(t, "PAUSE "+name); p.Admin(t, "RESUME "+name) },
		func() { srv.Restart(t, syscall.SIGQUIT) },
		func() { p.Restart(t, syscall.SIGINT) },
		func() { p.Restart(t, syscall.SIGTERM) },
	} {
		for range tries(5, 1) {
			l.await(t, 50)
			disturb()
		}
	}
	l.await(t, 50)
	t.Run("rows", func(t *testing.T) { l.end(t, openPG(t, direct, sqlstore.WithoutMigration())) })
	t.Run("retries", l.patient)
}
