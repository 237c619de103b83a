package sqlstore

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// postgres returns the engine of a new Store, and a connection of its pool.
func postgres(t *testing.T) (*postgresEngine, *pgxpool.Conn) {
	t.Helper()
	s := testenv.Value(OpenPostgres(context.Background(), pgtest.Shared(t).DSN(t)))(t)
	t.Cleanup(func() { testenv.Must(t, s.Close()) })
	e := s.engine.(*postgresEngine)
	c := testenv.Value(e.acquire(t.Context()))(t)
	t.Cleanup(c.Release)
	return e, c
}

// A server answers the COMMIT of a failed transaction without an error: ROLLBACK.
func TestACommitThatIsAnsweredByRollbackIsNotApplied(t *testing.T) {
	e, c := postgres(t)
	for text, want := range map[string]error{"SELECT 1": nil, "SELECT 1/0": pgx.ErrTxCommitRollback} {
		_, err := c.Exec(t.Context(), "begin")
		testenv.Must(t, err)
		_, _ = c.Exec(t.Context(), text)
		err = sendCommit(c.Conn().PgConn())
		if !errors.Is(err, want) || err != nil && !e.classify(err).settled {
			t.Errorf("after %s: got %v, want %v", text, err, want)
		}
		if c.Conn().PgConn().TxStatus() != 'I' {
			t.Errorf("after %s: the driver takes the transaction for open", text)
		}
	}
}

// A promoted server counts transactions of its own under the same numbers.
func TestATransactionRunsOnlyOnItsOwnServer(t *testing.T) {
	e, c := postgres(t)
	tx := testenv.Value(c.Begin(t.Context()))(t)
	var xid string
	testenv.Must(t, tx.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text").Scan(&xid))
	here := e.server
	before := here
	before.timeline = "00000000"
	want := func(when string, on server, running bool) {
		t.Helper()
		if got, err := e.running(t.Context(), on, xid); got != running || err != nil {
			t.Errorf("%s: running %v, %v", when, got, err)
		}
	}
	want("in progress", here, true)
	want("begun before a promotion", before, false)
	testenv.Must(t, tx.Rollback(t.Context()))
	want("ended", here, false)
}
