package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// fillFor fills the tables until scanning or sorting is clearly the wrong plan.
const fillFor = `
INSERT INTO %[1]sthreads (id, tenant, subject, created_at, version, places, state, doc)
	WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < %[2]d)
	SELECT 'thr_' || n, CASE WHEN n %% 50 = 0 THEN '' ELSE 'tenant' || (n %% 7) END, CASE WHEN n %% 50 = 0 THEN '' ELSE 'subject' || (n %% 3) END,
		n, 1, 0, CASE WHEN n %% 97 = 0 THEN 1 ELSE 0 END, '{}' FROM g;
INSERT INTO %[1]sitems (thread_id, id, created_at, place, doc)
	WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < %[2]d)
	SELECT 'thr_' || (1 + n %% 10), 'msg_' || n, n, n, '{}' FROM g;
INSERT INTO %[1]sgone (thread_id, id, created_at, place) SELECT thread_id, 'old_' || id, created_at, place FROM %[1]sitems;
INSERT INTO %[1]sattachments (id, tenant, subject, state, doc) SELECT id, tenant, subject, state, doc FROM %[1]sthreads;
INSERT INTO %[1]sgrants (thread_id, tenant, subject, grp, role, by_tenant, by_subject, granted_at, version)
	WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < %[2]d)
	SELECT 'thr_' || n, 'tenant' || (n %% 7), CASE n %% 2 WHEN 0 THEN 'subject' || (n %% 1000) ELSE '' END,
		CASE WHEN n %% 4 = 1 THEN 'group' || (n %% 9) ELSE '' END, 1, 'tenant' || (n %% 7), 'subject' || (n %% 1000), n, 1 FROM g UNION ALL
	SELECT 'thr_5', 'many', 'subject' || n, '', 1, '', '', n, 1 FROM g;
ANALYZE`

// On both engines, every paged query reads an index in order, without a table scan or a sort. That of SharedWith sorts a page of
// each grantee.
func TestPagedQueriesWalkAnIndex(t *testing.T) {
	queries := append(sqlstore.PagedQueries(), sqlstore.GrantQueries()...)
	sorts := queries[len(queries)-1].Name
	t.Run("sqlite", func(t *testing.T) {
		rows := 20_000
		if testenv.Race {
			rows = 2_000
		}
		path := filepath.Join(t.TempDir(), "chat.db")
		must(t, sqlstore.MigrateSQLite(t.Context(), path))
		db := raw(t, path)
		execute(t, db, fmt.Sprintf(fillFor, sqlstore.DefaultPrefix, rows))
		for _, q := range queries {
			t.Run(q.Name, func(t *testing.T) {
				var plan strings.Builder
				must(t, sqlitex.ExecuteTransient(db, "EXPLAIN QUERY PLAN "+q.SQLite, &sqlitex.ExecOptions{Args: q.Args, ResultFunc: func(s *sqlite.Stmt) error {
					plan.WriteString(s.ColumnText(3) + "\n")
					return nil
				}}))
				mustLack(t, plan.String(), "AUTOMATIC")
				if q.Name == sorts {
					mustHave(t, plan.String(), "by_grantee", "TEMP B-TREE", "(<expr>=? AND <expr>=? AND <expr>=? AND (granted_at,thread_id)<(?,?))")
				} else {
					mustLack(t, plan.String(), "TEMP B-TREE")
				}
				for line := range strings.Lines(plan.String()) {
					// A scan in the outer part reads rows that were already found. A listing of everybody's rows scans an index.
					if scan := strings.HasPrefix(line, "SCAN "+sqlstore.DefaultPrefix) || strings.HasPrefix(line, "SCAN g") || strings.HasPrefix(line, "SCAN h"); scan && !strings.Contains(line, " INDEX ") {
						t.Errorf("a scan: %s in\n%s", line, plan.String())
					}
				}
			})
		}
	})
	t.Run("postgres", func(t *testing.T) {
		dsn := pgtest.Shared(t).DSN(t)
		must(t, sqlstore.MigratePostgres(t.Context(), dsn))
		db := closed[*sql.DB](t)(sql.Open("pgx", dsn))
		get[sql.Result](t)(db.Exec(fmt.Sprintf(fillFor, sqlstore.DefaultPrefix, 20_000)))
		conn := closed[*sql.Conn](t)(db.Conn(t.Context()))
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			get[sql.Result](t)(conn.ExecContext(t.Context(), "SET plan_cache_mode = "+mode))
			for i, q := range queries {
				t.Run(mode+"/"+q.Name, func(t *testing.T) {
					name := fmt.Sprintf("%s_%d", mode, i)
					get[sql.Result](t)(conn.ExecContext(t.Context(), "PREPARE "+name+" AS "+q.Postgres))
					var args []string
					for _, a := range q.Args {
						args = append(args, fmt.Sprintf("'%v'", a))
					}
					text := fmt.Sprintf("EXPLAIN (COSTS OFF) EXECUTE %s(%s)", name, strings.Join(args, ", "))
					if q.Name != sorts {
						explained(t, conn, text, 1, nil, "Sort", "Seq Scan", "Bitmap")
						return
					}
					mustHave(t, explained(t, conn, text, 1, nil, "Seq Scan", "Bitmap", "grants_by_time"), "by_grantee", "Sort\n", "ROW(granted_at, thread_id) < ROW(")
				})
			}
		}
	})
}

type queryer interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// explained returns the last column of each row of a plan. It must not contain any text of bad.
func explained(t *testing.T, db queryer, text string, columns int, args []any, bad ...string) string {
	t.Helper()
	rows := get[*sql.Rows](t)(db.QueryContext(t.Context(), text, args...))
	defer func() { must(t, rows.Close()) }()
	var plan strings.Builder
	for rows.Next() {
		into := make([]any, columns)
		var line string
		for i := range into {
			into[i] = new(any)
		}
		into[columns-1] = &line
		must(t, rows.Scan(into...))
		plan.WriteString(line + "\n")
	}
	must(t, rows.Err())
	mustLack(t, plan.String(), bad...)
	return plan.String()
}

// mustHave wants each text exactly once.
func mustHave(t *testing.T, plan string, good ...string) {
	t.Helper()
	for _, good := range good {
		if n := strings.Count(plan, good); n != 1 {
			t.Errorf("%d times %s in the plan:\n%s", n, good, plan)
		}
	}
}

func mustLack(t *testing.T, plan string, bad ...string) {
	t.Helper()
	for _, bad := range bad {
		if strings.Contains(plan, bad) {
			t.Errorf("%s in the plan:\n%s", bad, plan)
		}
	}
}

// The queries above are those that run: a listing in each order, with and without a cursor, for each kind of filter.
func TestPagedQueriesAreAllOfThem(t *testing.T) {
	if n := len(sqlstore.PagedQueries()); n != 2*2*(1+3*3) {
		t.Errorf("%d queries", n)
	}
	for _, f := range []store.OwnerFilter{{}, store.OwnedBy(chat.Owner{Subject: "ada"}), store.InTenant(""), store.AnyOwner()} {
		if kind := sqlstore.FilterKind(f); kind < 0 || kind > 2 {
			t.Errorf("filter %v is of kind %d", f, kind)
		}
	}
}
