package sqlstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// firstRows fills tables of the first edition: every seventh thread is deleted, and many have the same time.
const firstRows = `
INSERT INTO chatstore_threads (id, tenant, subject, created_at, seq, version, item_seq, deleted, doc)
	SELECT 'thr_' || n, 'acme', 'ada' || n %% 10, 1700000000000000 + n / 100, n, 3, 2, (n %% 7 = 0)::int,
		CASE WHEN n %% 7 = 0 THEN '' ELSE '{"id":"thr_' || n || '","created_at":"2023-11-14T22:13:20Z","title":"Thread ' || n || '"}' END
	FROM generate_series(1, %[1]d) n;
INSERT INTO chatstore_items (thread_id, id, created_at, seq, doc)
	SELECT 'thr_' || n, 'msg_' || k, 1700000000000000, k,
		'{"id":"msg_' || k || '","thread_id":"thr_' || n || '","created_at":"2023-11-14T22:13:20Z","type":"end_of_turn"}'
	FROM generate_series(1, %[1]d) n, generate_series(1, 2) k WHERE n %% 7 <> 0;
INSERT INTO chatstore_attachments (id, tenant, subject, deleted, doc)
	SELECT 'atc_' || n, 'acme', 'ada' || n %% 10, (n %% 7 = 0)::int, CASE WHEN n %% 7 = 0 THEN '' ELSE '{"id":"atc_' || n || '"}' END
	FROM generate_series(1, %[1]d) n;
UPDATE chatstore_counters SET n = %[1]d`

// A database of the first edition is migrated while one of its programs runs. No row is lost, and the program fails and
// changes nothing.
func TestADatabaseOfTheFirstEditionIsMigrated(t *testing.T) {
	t.Parallel()
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	threads := tries(100_000, 3_000)
	srv.Exec(t, dsn, sqlstore.FirstEdition())
	srv.Exec(t, dsn, fmt.Sprintf(firstRows, threads))
	c := get[*pgx.Conn](t)(pgx.Connect(t.Context(), dsn))
	defer func() { must(t, c.Close(context.Background())) }()
	sum := func(deleted, seq string) (sum string) {
		t.Helper()
		must(t, c.QueryRow(t.Context(), fmt.Sprintf(`SELECT md5(string_agg(line, ' ' ORDER BY line COLLATE "C")) FROM (
			SELECT concat_ws('|', id, tenant, subject, created_at, version, %[1]s, doc) AS line FROM chatstore_threads UNION ALL
			SELECT concat_ws('|', thread_id, id, created_at, %[2]s, doc) FROM chatstore_items UNION ALL
			SELECT concat_ws('|', id, tenant, subject, %[1]s, doc) FROM chatstore_attachments) AS lines`, deleted, seq), pgx.QueryExecModeSimpleProtocol).Scan(&sum))
		return sum
	}
	before := sum("deleted", "seq")

	// The statements of a program of the first edition, which it has prepared.
	old := map[string][]any{
		`SELECT tenant, subject, deleted, version, doc FROM chatstore_threads WHERE id = $1`:                                                         {"thr_1"},
		`UPDATE chatstore_threads SET created_at = 1, doc = '{}', version = version + 1 WHERE id = $1 AND deleted = 0 RETURNING version`:             {"thr_none"},
		`UPDATE chatstore_counters SET n = n + 1 WHERE name = $1 RETURNING n`:                                                                        {"none"},
		`UPDATE chatstore_threads SET deleted = 1, doc = '', version = version + 1 WHERE id = $1 AND deleted = 0 RETURNING version`:                  {"thr_none"},
		`UPDATE chatstore_threads SET version = version + 1, item_seq = item_seq + 1 WHERE id = $1 AND deleted = 0 RETURNING version, item_seq`:      {"thr_none"},
		`INSERT INTO chatstore_items (thread_id, id, created_at, doc, seq) SELECT id, 'x', 1, '{}', 9 FROM chatstore_threads WHERE id = $1`:          {"thr_none"},
		`UPDATE chatstore_attachments SET deleted = 1, doc = '' WHERE id = $1 AND deleted = 0`:                                                       {"atc_none"},
		`INSERT INTO chatstore_attachments (id, tenant, subject, doc, deleted) SELECT 'y', '', '', '{}', 0 FROM chatstore_attachments WHERE id = $1`: {"atc_none"},
	}
	for text, args := range old {
		must(t, errOf(c.Exec(t.Context(), text, args...)))
	}

	begin := time.Now()
	s := openPG(t, dsn, patient)
	t.Logf("%d threads were migrated in %v", threads, time.Since(begin))
	for text, args := range old {
		for i := range args {
			args[i] = "thr_1"
		}
		_, err := c.Exec(t.Context(), text, args...)
		if pe, ok := err.(*pgconn.PgError); !ok || pe.Code[:2] != "42" { // a name that does not exist
			t.Errorf("%s: got %v", text, err)
		}
	}
	if after := sum("state", "place"); after != before {
		t.Error("the rows differ after the migration")
	}

	var mine []chat.Thread
	q := store.ThreadQuery{Owner: store.OwnedBy(chat.Owner{Tenant: "acme", Subject: "ada1"}), PageQuery: store.PageQuery{Limit: store.MaxLimit, Order: store.OldestFirst}}
	for more := true; more; {
		p := get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), q))
		mine = append(mine, p.Data...)
		more, q.After = p.HasMore, p.After
	}
	want := 0
	for n := 1; n <= threads; n++ {
		if n%10 == 1 && n%7 != 0 {
			want++
		}
	}
	if len(mine) != want {
		t.Errorf("an owner has %d threads, want %d", len(mine), want)
	}
	wantErr(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_7", CreatedAt: noon, Owner: chat.Owner{Subject: "bob"}}), store.CodeConflict)
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_3")))
	ctx, read := store.WithVersions(t.Context())
	if p := get[store.Page[chat.Item]](t)(s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Order: store.OldestFirst})); len(p.Data) != 3 {
		t.Errorf("thr_1 has %d items, want 3", len(p.Data))
	}
	if n, ok := read.Of("thr_1"); n != 4 || !ok {
		t.Errorf("the version went from 3 to %d", n)
	}
}
