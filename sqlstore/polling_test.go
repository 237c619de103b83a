package sqlstore_test

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/fleet"
)

// openPolling opens the stack of a process of a fleet whose caches ask the database for versions, and hear of nothing. Each process
// has a database URL of its own. Entries never expire.
func openPolling(ctx context.Context, process string, urls []string) (store.Store, error) {
	n, err := strconv.Atoi(process)
	if err != nil {
		return nil, err
	}
	s, err := sqlstore.Open(ctx, urls[n%len(urls)], sqlstore.WithRetryFor(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	return store.Wrap(s, cache.New(cache.WithRevalidation(lease/2), cache.WithTTL(0))), nil
}

// Three processes read each other's writes through caches that only ask for versions. Connections are cut, and servers go down and
// come back.
func TestPollingProcessesReadNothingOlderThanTheLease(t *testing.T) {
	t.Parallel()
	t.Run("postgres without triggers", func(t *testing.T) {
		t.Parallel()
		srv := pgtest.Start(t, fast...)
		dsn := srv.DSN(t)
		fleet.Run(t, fleet.Fleet{
			Args: []string{"{process}", dsn}, Bound: lease, Base: openPG(t, dsn),
			Disturb: []func(){
				func() {
					srv.Exec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
				},
				func() { srv.Restart(t, syscall.SIGQUIT) },
			},
		})
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		srv := mysqltest.Start(t, "--innodb-flush-log-at-trx-commit=2")
		dsn := srv.DSN(t)
		fleet.Run(t, fleet.Fleet{
			Args: []string{"{process}", mysqlURL(t, dsn)}, Bound: lease, Base: closing(t)(sqlstore.OpenMySQL(t.Context(), dsn)),
			Disturb: []func(){
				func() { cutMySQL(t, srv, dsn) },
				func() { srv.Restart(t, syscall.SIGKILL) },
				func() { srv.Restart(t, syscall.SIGTERM) },
			},
		})
	})
	t.Run("galera, a node for each", func(t *testing.T) {
		t.Parallel()
		c := mysqltest.StartCluster(t, 3)
		dsn := c.DSN(t)
		args := []string{"{process}"}
		for _, node := range c.Nodes {
			args = append(args, mysqlURL(t, node.Same(dsn)))
		}
		fleet.Run(t, fleet.Fleet{
			Args: args, Bound: lease, Base: closing(t)(sqlstore.OpenMySQL(t.Context(), dsn)),
			Disturb: []func(){
				func() { cutMySQL(t, c.Nodes[1], dsn) },
				// What comes late is not read late: reads and polls wait for it.
				func() {
					c.Nodes[2].Lag(t)
					must(t, errOf(c.Nodes[0].Admin(t, dsn).ExecContext(t.Context(), "DO sleep(0.3)")))
					c.Nodes[2].CatchUp(t)
				},
			},
		})
	})
}

// cutMySQL ends all sessions of the Stores' user.
func cutMySQL(t *testing.T, srv *mysqltest.Server, dsn string) {
	t.Helper()
	srv.Exec(t, dsn, "KILL USER chat")
}
