package sqlstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// The statements of the first edition that write to SQLite, where a call begins with one of them.
const (
	firstTouch  = `UPDATE chatstore_threads SET version = version + 1, item_seq = item_seq + 1 WHERE id = ?1 AND deleted = 0 RETURNING version, item_seq`
	firstUpdate = `UPDATE chatstore_threads SET created_at = ?4, doc = ?5, version = version + 1
		WHERE id = ?1 AND deleted = 0 AND (?2 = '' AND ?3 = '' OR tenant = ?2 AND subject = ?3) RETURNING version`
	firstSeq    = `UPDATE chatstore_counters SET n = n + 1 WHERE name = 'threads' RETURNING n`
	firstDelete = `UPDATE chatstore_threads SET deleted = 1, doc = '', version = version + 1 WHERE id = ?1 AND deleted = 0 RETURNING version`
	firstInsert = `INSERT INTO chatstore_threads AS t (id, tenant, subject, created_at, doc, seq, version, item_seq, deleted)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, 0, 0) ON CONFLICT (id) DO UPDATE SET created_at = ?4, doc = ?5, seq = ?6, version = t.version + 1,
		deleted = 0 WHERE t.deleted = 1 AND (?2 = '' AND ?3 = '' OR t.tenant = ?2 AND t.subject = ?3) RETURNING version`
	firstAdd  = `INSERT INTO chatstore_items (thread_id, id, created_at, doc, seq) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING`
	firstFile = `INSERT INTO chatstore_attachments AS t (id, tenant, subject, doc, deleted) VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT (id)
		DO UPDATE SET doc = ?4, deleted = 0 WHERE t.deleted = 1 AND (?2 = '' AND ?3 = '' OR t.tenant = ?2 AND t.subject = ?3)`
	firstFileUpdate = `UPDATE chatstore_attachments SET doc = ?4 WHERE id = ?1 AND deleted = 0 AND (?2 = '' AND ?3 = '' OR tenant = ?2 AND subject = ?3)`
	firstFileDelete = `UPDATE chatstore_attachments SET deleted = 1, doc = '' WHERE id = ?1 AND deleted = 0`
)

// firstEdition makes a database as the first edition did, with the library goose.
func firstEdition(t *testing.T, path string) *sqlite.Conn {
	t.Helper()
	c := raw(t, path)
	execute(t, c, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN;"+`CREATE TABLE chatstore_migrations (
		id INTEGER PRIMARY KEY AUTOINCREMENT,
		version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL,
		tstamp TIMESTAMP DEFAULT (datetime('now'))
	); INSERT INTO chatstore_migrations (version_id, is_applied) VALUES (0, 1);`+
		sqlstore.Migration("sqlite/0001_init.sql")+"; INSERT INTO chatstore_migrations (version_id, is_applied) VALUES (1, 1); COMMIT")
	return c
}

func ask(t *testing.T, c *sqlite.Conn, text string, args ...any) {
	t.Helper()
	must(t, sqlitex.Execute(c, text, &sqlitex.ExecOptions{Args: args}))
}

// dump returns all rows of the tables.
func dump(t *testing.T, c *sqlite.Conn) string {
	t.Helper()
	var all strings.Builder
	for _, table := range []string{"threads", "items", "attachments", "gone", "migrations"} {
		must(t, sqlitex.ExecuteTransient(c, "SELECT * FROM chatstore_"+table+" ORDER BY 1, 2", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
			for i := range s.ColumnCount() {
				fmt.Fprintf(&all, "%s|", s.ColumnText(i))
			}
			all.WriteString("\n")
			return nil
		}}))
	}
	return all.String()
}

func TestADatabaseOfTheFirstEditionLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	old := firstEdition(t, path)
	owner := func(i int) chat.Owner { return chat.Owner{Tenant: "acme", Subject: fmt.Sprint("subject_", i%3)} }
	made := func(i int) (th chat.Thread) {
		th = chat.Thread{ID: fmt.Sprintf("thr_%02d", i), Title: fmt.Sprint("title ", i), CreatedAt: noon.Add(time.Duration(i/2) * time.Second), Owner: owner(i)}
		return get[chat.Thread](t)(th.Normalized())
	}
	file := func(i int) chat.Attachment {
		a := get[chat.Attachment](t)(chat.NewAttachment(fmt.Sprintf("atc_%02d", i), chat.AttachmentBody{Type: "file", Name: fmt.Sprint(i), MIMEType: "text/plain"}))
		a.Owner = owner(i)
		return get[chat.Attachment](t)(a.Normalized())
	}
	const threads, items = 12, 5
	for i := range threads {
		th := made(i)
		ask(t, old, firstSeq)
		ask(t, old, firstInsert, th.ID, th.Owner.Tenant, th.Owner.Subject, th.CreatedAt.UnixMicro(), th.JSON().String(), i+1)
		for n := range items { // of one time, so that their places order them
			it := get[chat.Item](t)(item(t, fmt.Sprintf("msg_%d", items-n)).Normalized(th.ID))
			ask(t, old, firstTouch, th.ID)
			ask(t, old, firstAdd, th.ID, it.ID, it.CreatedAt.UnixMicro(), it.JSON().String(), n+1)
		}
		a := file(i)
		ask(t, old, firstFile, a.ID, a.Owner.Tenant, a.Owner.Subject, a.JSON().String())
	}
	for _, id := range []string{"thr_03", "thr_07"} {
		ask(t, old, firstDelete, id)
		ask(t, old, "DELETE FROM chatstore_items WHERE thread_id = ?1", id)
	}
	ask(t, old, firstFileDelete, "atc_04")

	// The old program goes on after the migration, with statements that it has prepared.
	writes := []string{firstTouch, firstUpdate, firstSeq, firstDelete, firstInsert, firstFile, firstFileUpdate, firstFileDelete, firstAdd}
	var prepared []*sqlite.Stmt
	for _, text := range writes {
		prepared = append(prepared, get[*sqlite.Stmt](t)(old.Prepare(text)))
	}
	s := closing(t)(sqlstore.OpenSQLite(t.Context(), path))
	before := dump(t, old)
	for i, st := range prepared {
		for p := range st.BindParamCount() {
			st.BindText(p+1, "thr_00")
		}
		if _, err := st.Step(); err == nil {
			t.Errorf("it did not fail: %s", writes[i])
		}
		if _, err := old.Prepare(writes[i] + " "); err == nil {
			t.Errorf("it can be prepared: %s", writes[i])
		}
	}
	if after := dump(t, old); after != before {
		t.Errorf("the first edition wrote: before\n%s\nafter\n%s", before, after)
	}

	for i := range threads {
		th := made(i)
		ctx, v := store.WithVersions(t.Context())
		got, err := s.LoadThread(ctx, th.ID)
		want := uint64(1 + items)
		if i == 3 || i == 7 {
			wantErr(t, err, store.CodeNotFound)
			want++ // and its id is its owner's
			wantErr(t, s.SaveThread(t.Context(), chat.Thread{ID: th.ID, CreatedAt: noon, Owner: owner(i + 1)}), store.CodeConflict)
			must(t, s.SaveThread(t.Context(), th))
		} else if must(t, err); got.JSON().String() != th.JSON().String() || got.Owner != th.Owner {
			t.Errorf("thread %d: got %v of %v, want %v of %v", i, got.JSON(), got.Owner, th.JSON(), th.Owner)
		}
		if n, _ := v.Of(th.ID); n != want {
			t.Errorf("%s has version %d, want %d", th.ID, n, want)
		}
		var ids []string
		if i != 3 && i != 7 {
			ids = []string{"msg_5", "msg_4", "msg_3", "msg_2", "msg_1"}
		}
		must(t, s.AddThreadItem(t.Context(), th.ID, item(t, "msg_0"))) // after those that were there
		ids = append(ids, "msg_0")
		page := get[store.Page[chat.Item]](t)(s.LoadThreadItems(t.Context(), th.ID, store.PageQuery{Order: store.OldestFirst}))
		var listed []string
		for _, it := range page.Data {
			listed = append(listed, it.ID)
		}
		if !slices.Equal(listed, ids) {
			t.Errorf("items of %s: %v, want %v", th.ID, listed, ids)
		}
		a, err := s.LoadAttachment(t.Context(), file(i).ID)
		if i == 4 {
			wantErr(t, err, store.CodeNotFound)
			stolen := file(i)
			stolen.Owner = owner(i + 1)
			wantErr(t, s.SaveAttachment(t.Context(), stolen), store.CodeConflict)
		} else if must(t, err); a.JSON().String() != file(i).JSON().String() || a.Owner != file(i).Owner {
			t.Errorf("attachment %d: got %v of %v", i, a.JSON(), a.Owner)
		}
	}
	p := get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()}))
	if len(p.Data) != threads {
		t.Errorf("%d threads are listed", len(p.Data))
	}
}

// It logs how long a larger database takes.
func TestMigratingManyThreadsOfTheFirstEdition(t *testing.T) {
	threads := 2_000
	if testenv.Full && !testenv.Race { // SQLite is slow under the race detector, which finds nothing in one goroutine
		threads = 100_000
	}
	path := filepath.Join(t.TempDir(), "chat.db")
	old := firstEdition(t, path)
	execute(t, old, fmt.Sprintf(`BEGIN;
		INSERT INTO chatstore_threads (id, tenant, subject, created_at, seq, version, item_seq, deleted, doc)
			WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < %d)
			SELECT 'thr_' || n, 'acme', 'subject_' || (n %% 100), n, n, 11, 10, 0, printf('{"id":"thr_%%d","title":"%%s"}', n, hex(zeroblob(100))) FROM g;
		INSERT INTO chatstore_items (thread_id, id, created_at, seq, doc)
			WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 10)
			SELECT t.id, 'msg_' || n, n, n, hex(zeroblob(200)) FROM chatstore_threads t, g;
		COMMIT`, threads))
	began := time.Now()
	must(t, sqlstore.MigrateSQLite(context.Background(), path))
	t.Logf("%d threads with 10 items each took %v", threads, time.Since(began))
	n := get[int64](t)(sqlitex.ResultInt64(get[*sqlite.Stmt](t)(old.Prepare("SELECT count(*) FROM chatstore_threads WHERE state = 0 AND places = 10"))))
	if n != int64(threads) {
		t.Errorf("%d threads are left of %d", n, threads)
	}
}

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
