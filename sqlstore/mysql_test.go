package sqlstore_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// openMySQL opens a store in its own database.
func openMySQL(t testing.TB, dsn string, opts ...sqlstore.Option) *sqlstore.Store {
	t.Helper()
	return closing(t)(sqlstore.OpenMySQL(context.Background(), dsn, opts...))
}

const lockThreadsOfMySQL = "SELECT 1 FROM chatstore_threads FOR UPDATE"

// holding returns a transaction of root in db that has executed text.
func holding(t *testing.T, db *sql.DB, text string) *sql.Tx {
	t.Helper()
	tx := get[*sql.Tx](t)(db.BeginTx(context.Background(), nil))
	t.Cleanup(func() { _ = tx.Rollback() }) // if it still runs
	must(t, errOf(tx.Exec(text)))
	return tx
}

// lockWaits returns how many sessions wait for locks of rows in the database of db. The tables of INFORMATION_SCHEMA would show what was
// before.
func lockWaits(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	var kind, name, status string
	must(t, db.QueryRow("SHOW ENGINE INNODB STATUS").Scan(&kind, &name, &status))
	rows := get[*sql.Rows](t)(db.Query("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = database()"))
	defer func() { must(t, rows.Close()) }()
	for rows.Next() {
		var id int
		must(t, rows.Scan(&id))
		for _, tx := range strings.Split(status, "---TRANSACTION ") {
			if strings.Contains(tx, "LOCK WAIT") && strings.Contains(tx, fmt.Sprintf("thread id %d,", id)) {
				n++
			}
		}
	}
	must(t, rows.Err())
	return n
}

// awaitLocked waits until n sessions wait for locks of rows in the database of db.
func awaitLocked(t *testing.T, db *sql.DB, n int) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); lockWaits(t, db) != n; {
		if time.Now().After(limit) {
			t.Fatalf("there are never %d sessions that wait for locks", n)
		}
	}
}

// hard has ids, names and documents that a character set, a collation or an escape would change.
var hard = []string{"a", "a ", "A", "ä", "a\\", `a\'`, `"a"`, "a''", "`a`", "a%_", "🫖", "…'", "€'", "\U0010ffff", " a", "a\\0", "?", "$1", "a || b", "--a", "/*a", "\u00a0", "e\u0301", "\u00e9"}

// keepsHard saves what is hard to keep, and reads it.
func keepsHard(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	for n, id := range hard {
		text := fmt.Sprintf(`{ "id":%s, "title":%s, "created_at":"2026-01-02T12:00:00.123456Z", "status":{"type":"active"},
			"metadata":{"a":"\u0000\ud83d\\\" ' \\' %s", "n":1.50}}`, quoted(id), quoted(strings.Join(hard, "\n")), strings.Repeat(`\\`, n))
		th := get[chat.Thread](t)(chat.ParseThread(text))
		th.Owner = chat.Owner{Tenant: id, Subject: "ädä " + id}
		must(t, s.SaveThread(t.Context(), th))
		it := get[chat.Item](t)(chat.NewItem(id, noon, chat.SDKHiddenContext{Content: strings.Join(hard, "\x7f\t")}))
		must(t, s.AddThreadItem(t.Context(), id, it))
		got := get[chat.Thread](t)(s.LoadThread(t.Context(), id))
		if got.JSON() != th.JSON() || got.Owner != th.Owner || got.JSON().String() != text {
			t.Errorf("%q became\n%s of %q, was\n%s of %q", id, got.JSON(), got.Owner, text, th.Owner)
		}
		page := get[store.Page[chat.Item]](t)(s.LoadThreadItems(t.Context(), id, store.PageQuery{}))
		if len(page.Data) != 1 || page.Data[0].ID != id || page.Data[0].JSON() != get[chat.Item](t)(s.LoadItem(t.Context(), id, id)).JSON() {
			t.Errorf("%q has the items %v", id, page.Data)
		}
		mine := get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.OwnedBy(th.Owner)}))
		if len(mine.Data) != 1 || mine.Data[0].ID != id {
			t.Errorf("%q has the threads %v", th.Owner, mine.Data)
		}
	}
	all := get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner(), PageQuery: store.PageQuery{Order: store.OldestFirst, Limit: 100}}))
	want := slices.Sorted(slices.Values(hard))
	for n, th := range all.Data {
		if th.ID != want[n] {
			t.Fatalf("thread %d is %q, want %q", n, th.ID, want[n])
		}
	}
	if len(all.Data) != len(hard) {
		t.Errorf("%d threads, want %d", len(all.Data), len(hard))
	}
}

func quoted(text string) string { return string(testenv.OrPanic(json.Marshal(text))) }

// Rows come back byte for byte, and ids are compared as bytes, whatever the server's and the DSN's settings are.
func TestMySQLKeepsEveryByteUnderEverySetting(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Start(t)
	for _, c := range []struct{ global, params string }{
		{"sql_mode = ''", ""},
		{"sql_mode = 'NO_BACKSLASH_ESCAPES'", ""},
		{"sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,PAD_CHAR_TO_FULL_LENGTH'", "charset=latin1"},
		{"sql_mode = 'ORACLE,EMPTY_STRING_IS_NULL,SIMULTANEOUS_ASSIGNMENT,NO_BACKSLASH_ESCAPES'", "collation=latin1_german2_ci"},
		{"sql_mode = 'NO_BACKSLASH_ESCAPES,IGNORE_SPACE'", "sql_mode=%27NO_BACKSLASH_ESCAPES%27&charset=utf8mb4"},
		{"sql_mode = ''", "charset=gbk"}, // where 0x5c, the backslash, may be the end of a character
		{"sql_mode = 'STRICT_ALL_TABLES', character_set_server = utf8mb4, collation_server = utf8mb4_unicode_ci", "charset=utf8mb4&collation=utf8mb4_bin"},
		{"time_zone = '+05:30', tx_isolation = 'SERIALIZABLE', completion_type = 'RELEASE', sql_safe_updates = ON", "parseTime=true&loc=Asia%2FTokyo&time_zone=%27-03%3A00%27"},
		{"autocommit = OFF, time_zone = SYSTEM, tx_isolation = 'READ-UNCOMMITTED', completion_type = 'CHAIN'", "autocommit=0&interpolateParams=false&multiStatements=false&clientFoundRows=true&columnsWithAlias=true"},
	} {
		dsn := srv.DSN(t)
		srv.Exec(t, "", "SET GLOBAL "+strings.ReplaceAll(c.global, ", ", ", GLOBAL "))
		t.Run(c.global+" "+c.params, func(t *testing.T) {
			keepsHard(t, openMySQL(t, dsn+"?"+c.params))
		})
		t.Run("the program's handle: "+c.global+" "+c.params, func(t *testing.T) {
			db := programs(t, srv.DSN(t), c.params+"&"+needed)
			s, err := sqlstore.NewMySQL(t.Context(), db)
			if err != nil {
				t.Fatalf("%v (cause %v)", err, causeOf(err))
			}
			defer func() { must(t, s.Close()) }()
			keepsHard(t, s)
		})
	}
}

// programs returns a handle as a program makes it.
func programs(t *testing.T, dsn, params string) *sql.DB {
	t.Helper()
	return closed[*sql.DB](t)(sql.Open("mysql", dsn+"?"+params))
}

const needed = "multiStatements=true&interpolateParams=true"

func TestAHandleThatTheStoreCannotUseIsRefused(t *testing.T) {
	t.Parallel()
	wantErr(t, errOf(sqlstore.NewMySQL(t.Context(), nil)), store.CodeInvalid)
	dsn := mysqltest.Shared(t).DSN(t)
	for _, params := range []string{"", "multiStatements=true", "interpolateParams=true"} {
		_, err := sqlstore.NewMySQL(t.Context(), programs(t, dsn, params))
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "multiStatements=true and interpolateParams=true") {
			t.Errorf("%q: %v (cause %v)", params, err, causeOf(err))
		}
	}
	wantErr(t, errOf(sqlstore.NewMySQL(t.Context(), programs(t, dsn, needed), sqlstore.WithSchema("x"))), store.CodeInvalid)
}

// A program's own handle keeps its settings and its life, and the Store keeps its promises on it.
func TestAStoreOverTheProgramsHandle(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Shared(t)
	n := mysqltest.NewNetwork(t, srv.DSN(t))
	db := programs(t, n.DSN, needed)
	db.SetMaxOpenConns(2)
	s := get[*sqlstore.Store](t)(sqlstore.NewMySQL(t.Context(), db, patientLocks))
	t.Run("conformance", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) store.Store {
			partly(t, "Limit", "Order", "Concurrency")
			return kept{s}
		}, storetest.WithVersionsRequired())
	})
	must(t, s.SaveThread(t.Context(), thread("thr_1")))

	// The driver closes the connection of a cancelled call. Its write is not applied, and another connection takes its place.
	root := srv.Admin(t, n.Direct)
	tx := holding(t, root, lockThreadsOfMySQL)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")) }()
	awaitLocked(t, root, 1)
	cancel()
	wantErr(t, <-done, store.CodeCanceled, store.ErrNotApplied)
	must(t, tx.Rollback())
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_2")))
	wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)

	// The outcome of a lost COMMIT is unknown, and pending until the server has ended it.
	db.SetMaxOpenConns(1)
	pending := make(unsettled, 1)
	n.Do(first("commit", mysqltest.BreakAnswer))
	err := s.AddThreadItem(callctx.With(t.Context(), func(d *callctx.Data) { d.Unsettled = pending }), "thr_1", item(t, "msg_3"))
	if store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
		t.Errorf("a lost COMMIT: %v", err)
	}
	<-<-pending
	get[chat.Item](t)(s.LoadItem(t.Context(), "thr_1", "msg_3"))

	must(t, s.Close())
	wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeUnavailable)
	must(t, db.Ping())

	again := closing(t)(sqlstore.NewMySQL(t.Context(), db, sqlstore.WithRetryFor(0)))
	must(t, db.Close())
	wantErr(t, errOf(again.LoadThread(t.Context(), "thr_1")), store.CodeUnavailable)
}

func TestADocumentThatIsLargerThanAPacketIsRefused(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Start(t, "--max-allowed-packet=1M")
	s := openMySQL(t, srv.DSN(t), sqlstore.WithMaxConns(1))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	before := session(t, s)
	large := get[chat.Item](t)(chat.NewItem("msg_1", noon, chat.SDKHiddenContext{Content: strings.Repeat("x", 1<<20)}))
	err := s.AddThreadItem(t.Context(), "thr_1", large)
	if wantErr(t, err, store.CodeInvalid); !store.IsDefinite(err) || !strings.Contains(err.Error(), "max_allowed_packet") {
		t.Errorf("got %v", err)
	}
	wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_2")))
	if after := session(t, s); before != after {
		t.Error("the connection was not kept")
	}
}

// A node of a cluster may end a transaction between two statements, for the write of another node, and report nothing. Here a statement
// does.
func TestATransactionThatTheServerEndsInSilenceIsNotCommittedInPart(t *testing.T) {
	s := openMySQL(t, mysqltest.Shared(t).DSN(t), sqlstore.WithMaxConns(1))
	must(t, s.SaveThread(t.Context(), titled("thr_1", "first")))
	settled, err := sqlstore.Write(t.Context(), s, "ROLLBACK; UPDATE chatstore_threads SET state = 1 WHERE id = 'thr_1'", func() error { return nil })
	if me, ok := errors.AsType[*mysql.MySQLError](err); !settled || !ok || me.Number != 1305 {
		t.Errorf("settled %v, %v", settled, err)
	}
	if title := titleOf(t.Context(), s, "thr_1"); title != "first" {
		t.Errorf("the title is %q", title)
	}
	must(t, s.SaveThread(t.Context(), titled("thr_1", "second")))
}

func TestADSNOfMySQLIsTakenOrRefused(t *testing.T) {
	for dsn, want := range map[string]string{
		"mysql://chat:p%40ss@[::1]:3307,db2/chat?connectionAttributes=a%40b": "mysql://chat@[::1]:3307,db2:3306/chat",
		"mariadb://db1/chat":                   "mysql://db1:3306/chat",
		"mysql://chat@/chat":                   "",
		"mysql://chat@db1,,db2/chat":           "",
		"mysql://chat@db1/chat#frag":           "",
		"mysql://chat@db1:33o6/chat":           "",
		"mysql://chat@db1:/chat":               "",
		"mysql://chat@[::1/chat":               "",
		"mysql://chat@db1/":                    "",
		"mysql://chat@db1":                     "",
		"mysql://chat@db1/chat?socket=":        "mysql://chat@db1:3306/chat",
		"mysql://localhost/chat?socket=/run/s": "mysql://localhost/chat?socket=/run/s",
	} {
		redacted := "mysql://…"
		if want != "" {
			redacted = want
		}
		if got := sqlstore.Redacted(dsn); got != redacted {
			t.Errorf("Redacted(%s) = %s, want %s", dsn, got, redacted)
		}
		if want == "" {
			_, err := sqlstore.OpenMySQL(t.Context(), dsn)
			wantErr(t, err, store.CodeInvalid)
		}
	}
}
