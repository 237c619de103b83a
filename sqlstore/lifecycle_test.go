package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

func TestCloseLeavesNothingBehind(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		ignore := goleak.IgnoreCurrent()
		s := open(t)
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { _ = s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprintf("msg_%d", i))) })
		}
		wg.Wait()
		must(t, s.Close())
		must(t, s.Close())
		goleak.VerifyNone(t, ignore)
	})
}

func TestCallsAfterCloseAreUnavailable(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		s := open(t)
		must(t, s.Close())
		wantUnavailable(t, s)
		wantErr(t, s.SaveThread(t.Context(), chat.Thread{}), store.CodeInvalid)
	})
}

func wantUnavailable(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeUnavailable)
	wantErr(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_down")), store.CodeUnavailable, store.ErrNotApplied)
	wantErr(t, s.CheckHealth(t.Context()), store.CodeUnavailable)
}

// A running call ends normally when the Store is closed.
func TestCloseWaitsForCallsUnderWay(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn, sqlstore.WithLockTimeout(time.Minute), sqlstore.WithStatementTimeout(time.Minute))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	tx := begun(t, dsn, lockThreads)
	added, ended := make(chan error, 1), make(chan error, 1)
	go func() { added <- s.AddThreadItem(context.Background(), "thr_1", item(t, "msg_1")) }()
	blocked(t, tx)
	go func() { ended <- s.Close() }()
	for s.CheckHealth(t.Context()) == nil { // until Close has begun
	}
	if len(ended) > 0 {
		t.Error("Close did not wait")
	}
	must(t, tx.Rollback(t.Context()))
	must(t, errors.Join(<-added, <-ended))
}

// waiting returns how many sessions wait for a lock of tx.
func waiting(t *testing.T, tx pgx.Tx) (n int) {
	t.Helper()
	// Without the clearing, a transaction would not see sessions that began after its first look.
	must(t, errOf(tx.Exec(t.Context(), "SELECT pg_stat_clear_snapshot()")))
	const text = "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
	must(t, tx.QueryRow(t.Context(), text).Scan(&n))
	return n
}

// blocked waits until a session waits for a lock of tx.
func blocked(t *testing.T, tx pgx.Tx) {
	t.Helper()
	for waiting(t, tx) == 0 {
	}
}

func TestHealthFindsWhatDoesNotTakeWrites(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn)
	must(t, s.CheckHealth(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, s.CheckHealth(ctx), store.CodeCanceled)
	readOnly := openPG(t, dsn+" options='-c default_transaction_read_only=on'", sqlstore.WithRetryFor(20*time.Millisecond))
	wantErr(t, readOnly.CheckHealth(t.Context()), store.CodeUnavailable)
	wantErr(t, readOnly.SaveThread(t.Context(), thread("thr_1")), store.CodeUnavailable, store.ErrNotApplied)
	must(t, sqliteFile(t).CheckHealth(t.Context()))
	must(t, sqliteMemory(t).CheckHealth(t.Context()))
}

func TestHealthFindsASQLiteFileThatIsNoLongerWhole(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(path string) error
		where  bool // Linux only
	}{
		"emptied":       {func(path string) error { return os.Truncate(path, 0) }, true},
		"cut in a page": {func(path string) error { return os.Truncate(path, 5000) }, false},
		"cut by a page": {func(path string) error { return os.Truncate(path, get[os.FileInfo](t)(os.Stat(path)).Size()-4096) }, false},
		"moved away":    {func(path string) error { return os.Rename(path, path+".old") }, true},
		"deleted":       {os.Remove, true},
		"replaced": {func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, get[[]byte](t)(os.ReadFile(path+".old")), 0o600))
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "chat.db")
			s := get[*sqlstore.Store](t)(sqlstore.OpenSQLite(t.Context(), path))
			defer func() { _ = s.Close() }() // it may fail
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
			must(t, sqlstore.Exec(s, "PRAGMA wal_checkpoint(TRUNCATE)")) // everything is in the file
			must(t, s.SaveThread(t.Context(), thread("thr_2")))
			must(t, s.CheckHealth(t.Context()))
			must(t, c.damage(path))
			if c.where || runtime.GOOS == "linux" {
				wantErr(t, s.CheckHealth(t.Context()), store.CodeUnavailable)
			}
		})
	}
}

// The check must not take a file for damaged that grows and shrinks at the same time.
func TestHealthIsGoodWhileASQLiteFileGrowsAndShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	s := closing(t)(sqlstore.OpenSQLite(t.Context(), path, sqlstore.WithDurability(sqlstore.SurvivesKill)))
	done := make(chan struct{})
	var check sync.WaitGroup
	check.Go(func() {
		for {
			if err := s.CheckHealth(t.Context()); err != nil {
				t.Errorf("%v (cause %v)", err, causeOf(err))
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for n := range tries(100, 40) {
		id := fmt.Sprint("thr_", n)
		must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, Title: strings.Repeat("x", 100_000), CreatedAt: noon}))
		must(t, s.DeleteThread(t.Context(), id))
		for _, text := range []string{"PRAGMA wal_checkpoint(PASSIVE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"} {
			must(t, sqlstore.Exec(s, text))
		}
	}
	close(done)
	check.Wait()
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, o := range map[string]sqlstore.Option{
		"no ids":              sqlstore.WithIDs(nil),
		"empty prefix":        sqlstore.WithTablePrefix(""),
		"injecting prefix":    sqlstore.WithTablePrefix(`x"; DROP TABLE y; --`),
		"long prefix":         sqlstore.WithTablePrefix(strings.Repeat("x", 33)),
		"prefix in capitals":  sqlstore.WithTablePrefix("Chat_"),
		"prefix of a digit":   sqlstore.WithTablePrefix("1x"),
		"prefix and new line": sqlstore.WithTablePrefix("chat_\n"),
		"schema":              sqlstore.WithSchema("a.b"),
		"no connections":      sqlstore.WithMaxConns(0),
		"lifetime":            sqlstore.WithConnLifetime(-1),
		"retries":             sqlstore.WithRetryFor(-1),
		"statement timeout":   sqlstore.WithStatementTimeout(0),
		"lock timeout":        sqlstore.WithLockTimeout(time.Microsecond),
		"long lock timeout":   sqlstore.WithLockTimeout(30 * 24 * time.Hour),
		"long timeout":        sqlstore.WithStatementTimeout(30 * 24 * time.Hour),
		"durability":          sqlstore.WithDurability(7),
	} {
		t.Run(name, func(t *testing.T) {
			wantErr(t, errOf(sqlstore.OpenSQLite(t.Context(), ":memory:", o)), store.CodeInvalid)
			wantErr(t, errOf(sqlstore.OpenPostgres(t.Context(), "host=/nowhere", o)), store.CodeInvalid)
			wantErr(t, errOf(sqlstore.OpenMySQL(t.Context(), "unix(/nowhere)/chat", o)), store.CodeInvalid)
		})
	}
	wantErr(t, errOf(sqlstore.OpenSQLite(t.Context(), ":memory:", sqlstore.WithSchema("chat"))), store.CodeInvalid)
}

func TestIDsComeFromTheOption(t *testing.T) {
	s := closing(t)(sqlstore.OpenSQLite(t.Context(), ":memory:", sqlstore.WithIDs(store.LongIDs{})))
	if id := s.GenerateThreadID(t.Context()); len(id) != len("thr_")+32 {
		t.Errorf("got %s", id)
	}
	if id := s.GenerateItemID(t.Context(), chat.KindTask, chat.Thread{}); len(id) != len("tsk_")+32 {
		t.Errorf("got %s", id)
	}
}

// Behind a pooler, a session must keep nothing that affects the next transaction of another program.
func TestThroughAPoolerNothingIsLeftInASession(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn, sqlstore.WithMaxConns(1), sqlstore.WithPooler(), sqlstore.WithStatementTimeout(time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, s.SaveThread(ctx, thread("thr_1")))
	must(t, s.AddThreadItem(bus.WithStamp(ctx, bus.Stamp{Origin: "cache", Write: 1}), "thr_1", item(t, "msg_1")))
	get[store.Page[chat.Item]](t)(s.LoadThreadItems(ctx, "thr_1", store.PageQuery{}))
	get[store.Page[chat.Thread]](t)(s.LoadThreads(ctx, store.ThreadQuery{}))
	for text, want := range map[string]string{
		"SELECT count(*)::text FROM pg_prepared_statements":             "0",
		"SELECT current_setting('statement_timeout')":                   "0",
		"SELECT current_setting('lock_timeout')":                        "0",
		"SELECT coalesce(current_setting('chatstore.stamp', true), '')": "",
	} {
		var got string
		must(t, sqlstore.Query(s, text, &got))
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
