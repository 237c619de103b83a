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
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
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
	// MariaDB says with EXPLAIN what it may do, and with its counters what it has done.
	t.Run("mariadb", func(t *testing.T) {
		dsn := mysqltest.Shared(t).DSN(t)
		must(t, sqlstore.MigrateMySQL(t.Context(), dsn))
		db := closed[*sql.DB](t)(sql.Open("mysql", dsn+"?multiStatements=true&interpolateParams=true"))
		fill := strings.TrimSuffix(fillFor, "ANALYZE")
		conn := closed[*sql.Conn](t)(db.Conn(t.Context()))
		get[sql.Result](t)(conn.ExecContext(t.Context(), "SET sql_mode = 'PIPES_AS_CONCAT', max_recursive_iterations = 1000000, character_set_connection = utf8mb4"))
		get[sql.Result](t)(conn.ExecContext(t.Context(), fmt.Sprintf(fill, sqlstore.DefaultPrefix, 20_000)))
		for _, table := range []string{"threads", "items", "gone", "attachments", "grants"} {
			get[sql.Result](t)(conn.ExecContext(t.Context(), "ANALYZE TABLE "+sqlstore.DefaultPrefix+table))
		}
		for _, q := range queries {
			t.Run(q.Name, func(t *testing.T) {
				var place []any
				if q.Place != nil {
					text, args := q.Place()
					place = valuesOf(t, conn, text, args)
				}
				text, args := q.MySQL(place)
				if q.Place != nil && len(place) == 0 {
					t.Fatal("the cursor was not found")
				}
				counters := func() (read, onDisk int) {
					must(t, conn.QueryRowContext(t.Context(), `SELECT
						sum(IF(VARIABLE_NAME LIKE 'HANDLER\\_READ\\_%' AND VARIABLE_NAME NOT LIKE '%\\_RND\\_%', VARIABLE_VALUE, 0)),
						sum(IF(VARIABLE_NAME = 'CREATED_TMP_DISK_TABLES', VARIABLE_VALUE, 0)) FROM information_schema.SESSION_STATUS`).Scan(&read, &onDisk))
					return read, onDisk
				}
				_, first := counters()
				readBefore, second := counters()
				valuesOf(t, conn, text, args)
				readAfter, third := counters()
				if n := (third - second) - (second - first); n != 0 { // the counters are a table too
					t.Errorf("it made %d tables on disk:\n%s", n, text)
				}
				// A page has 21 rows. SharedWith reads a page of each of four grantees. One row in 97 is deleted.
				most := 600
				if strings.HasPrefix(q.Name, "deleted") {
					most = 21 * 97 * 2
				}
				if n := readAfter - readBefore; n > most {
					t.Errorf("it read %d rows:\n%s\n%s", n, text, explained(t, conn, "EXPLAIN FORMAT=JSON "+text, 1, args))
				}
			})
		}
	})
}

// valuesOf runs a query to its end, and returns the values of its first row.
func valuesOf(t *testing.T, db queryer, text string, args []any) (first []any) {
	t.Helper()
	rows := get[*sql.Rows](t)(db.QueryContext(t.Context(), text, args...))
	defer func() { must(t, rows.Close()) }()
	columns := get[[]string](t)(rows.Columns())
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for n := range values {
			into[n] = &values[n]
		}
		must(t, rows.Scan(into...))
		if first == nil {
			first = values
		}
	}
	must(t, rows.Err())
	return first
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

// The queries above are those that run: each listing in each order, with and without a cursor, for each kind of filter that it has.
func TestPagedQueriesAreAllOfThem(t *testing.T) {
	if n := len(sqlstore.PagedQueries()); n != 2*2*(3+3*3) {
		t.Errorf("%d queries", n)
	}
	for _, f := range []store.OwnerFilter{{}, store.OwnedBy(chat.Owner{Subject: "ada"}), store.InTenant(""), store.AnyOwner()} {
		if kind := sqlstore.FilterKind(f); kind < 0 || kind > 2 {
			t.Errorf("filter %v is of kind %d", f, kind)
		}
	}
}
