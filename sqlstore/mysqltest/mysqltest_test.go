package mysqltest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m, Close) }

var must = testenv.Must

// open opens a pool of the connections of a DSN.
func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db := testenv.Value(sql.Open("mysql", dsn))(t)
	t.Cleanup(func() { _ = db.Close() }) // it fails if the server was killed meanwhile
	return db
}

func do(t testing.TB, db *sql.DB, text string, args ...any) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), text, args...)
	must(t, err)
}

// one returns the value of a query for one value.
func one[V any](t testing.TB, db *sql.DB, query string) (v V) {
	t.Helper()
	must(t, db.QueryRowContext(t.Context(), query).Scan(&v))
	return v
}

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t)
	dsn := s.DSN(t)
	db := open(t, dsn)
	do(t, db, "CREATE TABLE x (n int PRIMARY KEY)")
	do(t, open(t, s.TCP(dsn)), "INSERT INTO x VALUES (?)", 1)

	if _, err := db.Exec("SET GLOBAL max_connections = 10"); err == nil {
		t.Error("the user of the tests has the rights of an administrator")
	}

	s.Freeze(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond) // an answer would take much less
	defer cancel()
	if err := db.PingContext(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server answered: %v", err)
	}
	s.Continue(t)
	must(t, db.Ping())

	s.Kill(t)
	if db.Ping() == nil {
		t.Error("a killed server answers")
	}
	s.Restart(t, 0)
	do(t, db, "INSERT INTO x VALUES (?)", 2)
	s.Restart(t, syscall.SIGTERM)
	if n := one[int](t, db, "SELECT count(*) FROM x"); n != 2 {
		t.Errorf("%d rows, want 2", n)
	}
}

func TestNetworkLosesTheAnswerToACommit(t *testing.T) {
	t.Parallel()
	s := Shared(t)
	n := NewNetwork(t, s.DSN(t))
	db := open(t, n.DSN)
	do(t, db, "CREATE TABLE x (n int PRIMARY KEY)")
	tx := testenv.Value(db.BeginTx(t.Context(), nil))(t)
	_, err := tx.Exec("INSERT INTO x VALUES (1)")
	must(t, err)
	n.Do(func(sent []byte) Action {
		if bytes.Contains(sent, []byte("COMMIT")) {
			return BreakAnswer
		}
		return Pass
	})
	if err := tx.Commit(); !errors.Is(err, mysql.ErrInvalidConn) {
		t.Errorf("the commit without an answer returned %v", err)
	}
	if k := one[int](t, s.Admin(t, n.Direct), "SELECT count(*) FROM x"); k != 1 {
		t.Errorf("%d rows, want 1", k)
	}
	n.Lead(t, "")
	n.Cut()
	if db.Ping() == nil {
		t.Error("connected, although the network leads nowhere")
	}
	n.Lead(t, n.Direct)
	must(t, db.Ping())
}
