package mysqltest

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

func TestCluster(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 3)
	dsn := c.DSN(t)
	var nodes []*sql.DB
	for _, s := range c.Nodes {
		nodes = append(nodes, open(t, s.Same(dsn)+"?wsrep_sync_wait=1"))
	}
	do(t, nodes[0], "CREATE TABLE x (n int PRIMARY KEY)")
	written := 0
	write := func(on ...int) {
		t.Helper()
		for _, i := range on {
			written++
			do(t, nodes[i], "INSERT INTO x VALUES (?)", written)
		}
	}
	check := func(on ...int) {
		t.Helper()
		for _, i := range on {
			if n := one[int](t, nodes[i], "SELECT count(*) FROM x"); n != written {
				t.Errorf("node %d has %d rows, want %d", i, n, written)
			}
		}
	}
	write(0, 1, 2)
	check(0, 1, 2)

	c.Nodes[0].Kill(t)
	write(1, 2)
	check(1, 2)
	c.Rejoin(t, 0)
	check(0)
	write(0)
	check(0, 1, 2)

	c.Isolate(t, 1)
	write(0, 2)
	check(0, 2)
	var refused *mysql.MySQLError
	if err := nodes[1].QueryRow("SELECT count(*) FROM x").Err(); !errors.As(err, &refused) || refused.Number != 1047 {
		t.Errorf("an isolated node answered %v", err)
	}
	c.Reconnect(t, 1)
	check(0, 1, 2)

	c.Nodes[2].Lag(t)
	write(0, 1)
	check(0, 1)
	if n := one[int](t, c.Nodes[2].Admin(t, dsn), "SELECT count(*) FROM x"); n != written-2 {
		t.Errorf("a node that lags has %d rows, want %d", n, written-2)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // an answer would take much less
	defer cancel()
	if err := nodes[2].QueryRowContext(ctx, "SELECT count(*) FROM x").Err(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a node that lags answered %v", err)
	}
	c.Nodes[2].CatchUp(t)
	check(0, 1, 2)
}
