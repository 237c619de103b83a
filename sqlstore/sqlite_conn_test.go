package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// endless returns a first row at once. The second would take minutes.
const endless = `SELECT 1 UNION ALL SELECT count(*) FROM
	(WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 2000000000) SELECT n FROM g)`

// onSQLites runs a test on each way to have a SQLite database, with one connection for reads.
func onSQLites(t *testing.T, f func(t *testing.T, s *sqlstore.Store)) {
	t.Run("file", func(t *testing.T) { f(t, sqliteFile(t, sqlstore.WithMaxConns(1))) })
	t.Run("memory", func(t *testing.T) { f(t, sqliteMemory(t)) })
	t.Run("pool", func(t *testing.T) { f(t, closing(t)(sqlstore.NewSQLite(t.Context(), pool(t, 1)))) })
}

// pool makes a pool of a new file, as a program would. more are settings of each connection.
func pool(t testing.TB, size int, more ...string) *sqlitex.Pool {
	t.Helper()
	return poolOf(t, filepath.Join(t.TempDir(), "chat.db"), size, append([]string{"PRAGMA foreign_keys = on"}, more...)...)
}

func poolOf(t testing.TB, path string, size int, settings ...string) *sqlitex.Pool {
	t.Helper()
	return closed[*sqlitex.Pool](t)(newPool(path, size, func(c *sqlite.Conn) error {
		return sqlstore.Script(c, strings.Join(settings, ";"))
	}))
}

func newPool(path string, size int, prepare func(*sqlite.Conn) error) (*sqlitex.Pool, error) {
	sqlstore.OFDLocks() // for the tests that come later
	return sqlitex.NewPool(path, sqlitex.PoolOptions{PoolSize: size, PrepareConn: prepare})
}

func TestACancelledReadIsStoppedAndLeavesItsConnectionUsable(t *testing.T) {
	onSQLites(t, func(t *testing.T, s *sqlstore.Store) {
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			err := sqlstore.Read(ctx, s, endless, func() error { cancel(); return nil })
			if code := sqlstore.CodeOfDriver(s, err); code != store.CodeCanceled {
				t.Fatalf("got %v", err)
			}
			get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), store.ThreadQuery{}))
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
		}
	})
}

func TestACancelledWriteIsStoppedAndWritesNothing(t *testing.T) {
	const change = "UPDATE chatstore_threads SET doc = 'changed'"
	onSQLites(t, func(t *testing.T, s *sqlstore.Store) {
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		for name, text := range map[string]string{
			"in a statement": change + " WHERE (SELECT count(*) FROM (" + endless + ")) > 0",
			"before COMMIT":  change,
		} {
			ctx, cancel := context.WithCancel(t.Context())
			if text != change {
				time.AfterFunc(time.Millisecond, cancel)
			}
			settled, err := sqlstore.Write(ctx, s, text, func() error { cancel(); return nil })
			if err == nil || !settled {
				t.Errorf("%s: settled %v, %v", name, settled, err)
			}
			get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
		}
	})
}

// ending is a context that ends when it is asked whether it has ended. It says that it has not.
type ending struct {
	context.Context
	cancel context.CancelFunc
	on     bool
}

func (e *ending) Err() error {
	err := e.Context.Err()
	if e.on {
		e.cancel()
		time.Sleep(5 * time.Millisecond) // time to stop COMMIT, if something would
	}
	return err
}

func TestTheEndOfAContextDoesNotStopCommit(t *testing.T) {
	onSQLites(t, func(t *testing.T, s *sqlstore.Store) {
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			late := &ending{Context: ctx, cancel: cancel}
			settled, err := sqlstore.Write(late, s, "UPDATE chatstore_threads SET version = version + 1", func() error { late.on = true; return nil })
			if err != nil || !settled || ctx.Err() == nil {
				t.Errorf("settled %v, %v; the context: %v", settled, err, ctx.Err())
			}
		}
		ctx, v := store.WithVersions(t.Context())
		get[chat.Thread](t)(s.LoadThread(ctx, "thr_1"))
		if n, _ := v.Of("thr_1"); n != 11 {
			t.Errorf("version %d, want 11", n)
		}
	})
}

func TestAPanicInACallLeavesNothingBehind(t *testing.T) {
	onSQLites(t, func(t *testing.T, s *sqlstore.Store) {
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		panics := func(f func()) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		}
		for range 3 {
			panics(func() { _ = sqlstore.Read(t.Context(), s, endless, func() error { panic("row") }) })
			panics(func() {
				_, _ = sqlstore.Write(t.Context(), s, "UPDATE chatstore_threads SET doc = 'changed'", func() error { panic("write") })
			})
		}
		get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		if inUse, _, _, _, _ := sqlstore.PoolStats(s); inUse != 0 {
			t.Errorf("%d connections in use", inUse)
		}
	})
}

// Else it would swallow later writes.
func TestAConnectionThatCannotEndItsTransactionIsClosed(t *testing.T) {
	s := sqliteFile(t)
	must(t, sqlstore.Exec(s, "BEGIN"))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
}

func TestACallWaitsForAConnectionUntilItsContextEnds(t *testing.T) {
	onSQLites(t, func(t *testing.T, s *sqlstore.Store) {
		ctx, cancel := context.WithCancel(t.Context())
		free := make(chan struct{})
		held := make(chan error)
		go func() {
			held <- sqlstore.Read(t.Context(), s, "SELECT 1", func() error { held <- nil; <-free; return nil })
		}()
		<-held
		waits := make(chan error)
		go func() { waits <- errOf(s.LoadThread(ctx, "thr_1")) }()
		cancel()
		wantErr(t, <-waits, store.CodeCanceled)
		go func() { waits <- errOf(s.LoadThread(t.Context(), "thr_1")) }()
		close(free)
		must(t, <-held)
		wantErr(t, <-waits, store.CodeNotFound)
	})
}

func TestThePoolCountsItsConnections(t *testing.T) {
	s := sqliteFile(t, sqlstore.WithMaxConns(2))
	check := func(when string, inUse, idle int) {
		t.Helper()
		u, i, most, _, _ := sqlstore.PoolStats(s)
		if u != inUse || i != idle || most != 3 {
			t.Errorf("%s: %d in use, %d idle, at most %d", when, u, i, most)
		}
	}
	check("opened", 0, 2)
	must(t, sqlstore.Read(t.Context(), s, "SELECT 1", func() error {
		check("in a read", 1, 1)
		return sqlstore.Read(t.Context(), s, "SELECT 1", func() error {
			check("in two", 2, 1)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Millisecond, cancel)
			wantErr(t, errOf(s.LoadThread(ctx, "thr_1")), store.CodeCanceled)
			return nil
		})
	}))
	check("after", 0, 3)
	if _, _, _, waits, waited := sqlstore.PoolStats(s); waits != 1 || waited <= 0 {
		t.Errorf("%d waits, %v", waits, waited)
	}
}

// SQLite would make a new, empty file.
func TestADeletedFileIsNotMadeAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.db")
	s := get[*sqlstore.Store](t)(sqlstore.OpenSQLite(t.Context(), path, sqlstore.WithMaxConns(2), sqlstore.WithRetryFor(0)))
	must(t, os.Remove(path))
	must(t, sqlstore.Read(t.Context(), s, "SELECT 1", func() error {
		for range 2 {
			wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeUnavailable) // on a new connection
		}
		return nil
	}))
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	_ = s.Close() // may fail
}

// A UTF-16 database orders ids otherwise.
func TestADatabaseInUTF16IsRefused(t *testing.T) {
	for _, encoding := range []string{"UTF-16le", "UTF-16be"} {
		path := filepath.Join(t.TempDir(), "chat.db")
		c := raw(t, path)
		execute(t, c, "PRAGMA encoding = '"+encoding+"'; CREATE TABLE other (id INTEGER)")
		_, err := sqlstore.OpenSQLite(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), encoding) {
			t.Errorf("%s: %v", encoding, err)
		}
		_, err = sqlstore.NewSQLite(t.Context(), poolOf(t, path, 1, "PRAGMA foreign_keys = on"))
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), encoding) {
			t.Errorf("%s, in a pool: %v", encoding, err)
		}
	}
}

func TestAStoreOverAPoolConforms(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]func(t *testing.T) *sqlitex.Pool{
		"file": func(t *testing.T) *sqlitex.Pool { return pool(t, 4, "PRAGMA synchronous = NORMAL") },
		"shared cache": func(t *testing.T) *sqlitex.Pool {
			return poolOf(t, "file:chat?mode=memory&cache=shared", 4, "PRAGMA foreign_keys = on")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spareTheDetector(t, "file")
			base := kept{closing(t)(sqlstore.NewSQLite(t.Context(), p(t), sqlstore.WithDurability(sqlstore.SurvivesKill)))}
			storetest.Run(t, func(*testing.T) store.Store { return base }, storetest.WithVersionsRequired())
		})
	}
}

func TestAPoolWithOtherSettingsIsRefused(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		path     string
		settings []string
		want     string
	}{
		"no foreign keys":   {"a.db", nil, "foreign_keys"},
		"less synchronous":  {"b.db", []string{"PRAGMA foreign_keys = on", "PRAGMA synchronous = NORMAL"}, "synchronous"},
		"no WAL":            {"c.db", []string{"PRAGMA foreign_keys = on", "PRAGMA journal_mode = DELETE"}, "WAL"},
		"journal in memory": {"d.db", []string{"PRAGMA foreign_keys = on", "PRAGMA journal_mode = MEMORY"}, "WAL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sqlstore.NewSQLite(t.Context(), poolOf(t, filepath.Join(dir, c.path), 1, c.settings...))
			if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (cause %v)", err, causeOf(err))
			}
		})
	}
	wantErr(t, errOf(sqlstore.NewSQLite(t.Context(), nil)), store.CodeInvalid)
	wantErr(t, errOf(sqlstore.NewSQLite(t.Context(), pool(t, 1), sqlstore.WithSchema("chat"))), store.CodeInvalid)
	wantErr(t, errOf(sqlstore.NewSQLite(t.Context(), pool(t, 1), sqlstore.WithMaxConns(0))), store.CodeInvalid)
}

// Each connection of a pool has settings of its own.
func TestEachConnectionOfAPoolIsChecked(t *testing.T) {
	n := 0
	p := closed[*sqlitex.Pool](t)(newPool(filepath.Join(t.TempDir(), "chat.db"), 2, func(c *sqlite.Conn) error {
		n++
		return sqlstore.Script(c, fmt.Sprintf("PRAGMA foreign_keys = %d", n-1))
	}))
	bad := get[*sqlite.Conn](t)(p.Take(t.Context()))
	s, err := sqlstore.NewSQLite(t.Context(), p)
	p.Put(bad)
	closing(t)(s, err)
	var errs []store.Code
	for range 2 { // the pool takes its connections in turns
		errs = append(errs, store.CodeOf(s.SaveThread(t.Context(), thread("thr_1"))))
	}
	slices.Sort(errs)
	if !slices.Equal(errs, []store.Code{store.CodeOK, store.CodeInvalid}) {
		t.Errorf("got %v", errs)
	}
}

// The program goes on to use its pool, also for statements of its own.
func TestClosingAStoreLeavesItsPoolOpen(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	p := get[*sqlitex.Pool](t)(newPool(filepath.Join(t.TempDir(), "chat.db"), 2, func(c *sqlite.Conn) error {
		return sqlstore.Script(c, "PRAGMA foreign_keys = on")
	}))
	s := get[*sqlstore.Store](t)(sqlstore.NewSQLite(t.Context(), p))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	must(t, s.CheckHealth(t.Context()))
	must(t, s.Close())
	wantUnavailable(t, s)
	c := get[*sqlite.Conn](t)(p.Take(t.Context()))
	n := get[int64](t)(sqlitex.ResultInt64(c.Prep("SELECT count(*) FROM chatstore_threads")))
	p.Put(c)
	if n != 1 {
		t.Errorf("%d threads", n)
	}
	s = get[*sqlstore.Store](t)(sqlstore.NewSQLite(t.Context(), p))
	get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
	must(t, p.Close())
	wantUnavailable(t, s)
	must(t, s.Close())
	goleak.VerifyNone(t, ignore)
}

// A transaction that the program left open would swallow writes.
func TestAConnectionInATransactionIsNotUsed(t *testing.T) {
	p := pool(t, 1)
	s := closing(t)(sqlstore.NewSQLite(t.Context(), p))
	c := get[*sqlite.Conn](t)(p.Take(t.Context()))
	execute(t, c, "BEGIN")
	p.Put(c)
	wantErr(t, s.SaveThread(t.Context(), thread("thr_1")), store.CodeInternal, store.ErrNotApplied)
	wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeInternal)
	c = get[*sqlite.Conn](t)(p.Take(t.Context()))
	execute(t, c, "ROLLBACK")
	p.Put(c)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
}

// Two packages that register a driver of this name in one program panic.
func TestNoDriverNamedSQLiteIsRegistered(t *testing.T) {
	if slices.Contains(sql.Drivers(), "sqlite") || slices.Contains(sql.Drivers(), "sqlite3") {
		t.Errorf("registered: %v", sql.Drivers())
	}
}
