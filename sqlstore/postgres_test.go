package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func thread(id string) chat.Thread { return chat.Thread{ID: id, CreatedAt: noon} }

func item(t testing.TB, id string) chat.Item {
	t.Helper()
	return get[chat.Item](t)(chat.NewItem(id, noon, chat.EndOfTurn{}))
}

// openPG opens a store in its own database, with the tables in the schema public.
func openPG(t testing.TB, dsn string, opts ...sqlstore.Option) *sqlstore.Store {
	t.Helper()
	return closing(t)(sqlstore.OpenPostgres(context.Background(), dsn, opts...))
}

const lockThreads = "SELECT FROM chatstore_threads FOR UPDATE"

// begun returns a transaction of another program that has executed text.
func begun(t *testing.T, dsn, text string) pgx.Tx {
	t.Helper()
	c := get[*pgx.Conn](t)(pgx.Connect(t.Context(), dsn))
	t.Cleanup(func() { must(t, c.Close(context.Background())) })
	tx := get[pgx.Tx](t)(c.Begin(t.Context()))
	must(t, errOf(tx.Exec(t.Context(), text)))
	return tx
}

// An insert that reports ErrNotApplied never appears, also if it was cancelled. Each error is one of the two outcomes.
func TestACancelledInsertIsNotThereAfterADefiniteError(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		dsn := pgtest.Shared(t).DSN(t)
		cancelInserts(t, openPG(t, dsn, sqlstore.WithMaxConns(16)), func(text string) func() {
			tx := begun(t, dsn, text)
			return func() { must(t, tx.Rollback(t.Context())) }
		}, lockThreads, "LOCK TABLE chatstore_threads, chatstore_items IN ACCESS EXCLUSIVE MODE")
	})
	t.Run("mariadb", func(t *testing.T) {
		srv := mysqltest.Shared(t)
		dsn := srv.DSN(t)
		root := srv.Admin(t, dsn)
		cancelInserts(t, openMySQL(t, dsn, sqlstore.WithMaxConns(16)), func(text string) func() {
			tx := holding(t, root, text)
			return func() { must(t, tx.Rollback()) }
		}, lockThreadsOfMySQL, "LOCK TABLES chatstore_threads WRITE, chatstore_items WRITE; UNLOCK TABLES")
	})
}

// cancelInserts cancels inserts. lock executes a text in a transaction of another program, and returns how to end it. The text rows
// locks all threads, and tables waits for all writes.
func cancelInserts(t *testing.T, s *sqlstore.Store, lock func(text string) func(), rows, tables string) {
	free, blocked := tries(1200, 240), tries(160, 40)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	var (
		errs              = map[string]error{}
		mu                sync.Mutex
		patience          = time.Millisecond
		applied, definite int
	)
	// add adds n items. Each has a deadline near the current time of an insert, so that about half of them succeed.
	add := func(prefix string, n int) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range n / 8 {
					id := fmt.Sprintf("%s_%d_%d", prefix, w, i)
					mu.Lock()
					ctx, cancel := context.WithTimeout(context.Background(), patience/2+rand.N(patience))
					mu.Unlock()
					err := s.AddThreadItem(ctx, "thr_1", item(t, id))
					cancel()
					mu.Lock()
					errs[id] = err
					if err == nil {
						patience -= patience / 8
					} else if prefix != "blocked" {
						patience += patience / 8
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	add("free", free)

	unlock := lock(rows)
	add("blocked", blocked)
	unlock()
	lock(tables)() // Running writes hold locks on the tables: getting this lock waits for all of them.

	unknown := 0
	for id, err := range errs {
		_, missing := s.LoadItem(t.Context(), "thr_1", id)
		switch there := missing == nil; {
		case err == nil:
			applied++
			if !there {
				t.Errorf("%s was acknowledged, but does not exist", id)
			}
		case !store.IsDefinite(err):
			unknown++
		default:
			definite++
			if there {
				t.Errorf("%s exists, but its error was %v", id, err)
			}
			if code := store.CodeOf(err); code != store.CodeTimeout && code != store.CodeCanceled {
				t.Errorf("%s: after its deadline: %v", id, err)
			}
		}
	}
	t.Logf("%d applied, %d surely not, %d unknown", applied, definite, unknown)
	if unknown > 0 || definite < blocked+free/8 || applied < free/8 {
		t.Errorf("%d applied, %d not applied, %d unknown: want some, some, and none", applied, definite, unknown)
	}
}

// raising makes the database answer an insert of the item "msg_CODE" with the SQLSTATE CODE, at the insert or, deferred, at
// the COMMIT. An item "..._N" succeeds from the Nth attempt on.
const raising = `
CREATE SEQUENCE tries;
CREATE FUNCTION raise_it() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE part text[] := string_to_array(NEW.id, '_');
BEGIN
	IF part[1] <> TG_ARGV[0] OR part[3] IS NOT NULL AND nextval('tries') >= part[3]::bigint THEN
		RETURN NEW;
	END IF;
	IF part[2] = 'kill' THEN
		PERFORM pg_terminate_backend(pg_backend_pid());
		PERFORM pg_sleep(10);
	END IF;
	RAISE EXCEPTION 'c4n4ry' USING ERRCODE = part[2];
END $$;
CREATE TRIGGER now BEFORE INSERT ON chatstore_items FOR EACH ROW EXECUTE FUNCTION raise_it('now');
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON chatstore_items DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION raise_it('later')`

func TestErrorsOfPostgresAreClassified(t *testing.T) {
	t.Parallel()
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	steady := openPG(t, dsn, patient)
	hasty := openPG(t, dsn, sqlstore.WithRetryFor(20*time.Millisecond)) // for calls that never succeed
	srv.Exec(t, dsn, raising)
	must(t, steady.SaveThread(t.Context(), thread("thr_1")))
	for _, c := range []struct {
		id       string
		want     store.Code
		definite bool
	}{
		{"now_23505", store.CodeConflict, true},
		{"now_23503", store.CodeNotFound, true},
		{"now_40001", store.CodeUnavailable, true},
		{"now_40P01", store.CodeUnavailable, true},
		{"now_55P03", store.CodeUnavailable, true},
		{"now_25006", store.CodeUnavailable, true},
		{"now_53100", store.CodeUnavailable, true},
		{"now_53300", store.CodeUnavailable, true},
		{"now_57014", store.CodeTimeout, true},
		{"now_08006", store.CodeUnavailable, true},
		{"now_40003", store.CodeUnavailable, true},
		{"now_22012", store.CodeInternal, true},
		{"now_kill", store.CodeUnavailable, true}, // an uncommitted write never commits
		{"later_23505", store.CodeConflict, true},
		{"later_40001", store.CodeUnavailable, true},
		{"later_53100", store.CodeUnavailable, true},
		{"later_kill", store.CodeUnavailable, false},  // the connection broke at COMMIT: unknown
		{"later_40003", store.CodeUnavailable, false}, // statement_completion_unknown
		{"later_08006", store.CodeUnavailable, false}, // a proxy lost its server
		{"later_08P01", store.CodeUnavailable, false},
		{"now_40001_3", store.CodeOK, true},
		{"later_40001_6", store.CodeOK, true},
		{"now_kill_9", store.CodeOK, true},
	} {
		s := hasty
		if c.want == store.CodeOK {
			s = steady
		}
		before := get[chat.Thread](t)(steady.LoadThread(t.Context(), "thr_1"))
		err := s.AddThreadItem(t.Context(), "thr_1", item(t, c.id))
		if store.CodeOf(err) != c.want || store.IsDefinite(err) != c.definite {
			t.Errorf("%s: got %v, definite %v (cause %v)", c.id, err, store.IsDefinite(err), errors.Unwrap(err))
		}
		if err != nil && (strings.Contains(err.Error(), "c4n4ry") || strings.Contains(err.Error(), "SQLSTATE")) {
			t.Errorf("%s: the text shows the driver's error: %v", c.id, err)
		}
		if c.definite && err != nil && !errors.Is(err, store.ErrNotApplied) {
			t.Errorf("%s: %v is not ErrNotApplied", c.id, err)
		}
		if _, missing := steady.LoadItem(t.Context(), "thr_1", c.id); (missing == nil) != (err == nil) {
			t.Errorf("%s: ended with %v, and loading it with %v", c.id, err, missing)
		}
		if after := get[chat.Thread](t)(steady.LoadThread(t.Context(), "thr_1")); !after.Equal(before) {
			t.Errorf("%s: the thread has changed", c.id)
		}
	}
}

func TestAStatementThatTakesTooLongIsEnded(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).DSN(t)
	unlimited := openPG(t, dsn)
	// opened opens a store whose limit is at most the time that this machine now needs to open one with it.
	opened := func(limited func(time.Duration) sqlstore.Option, more sqlstore.Option) *sqlstore.Store {
		for limit := 20 * time.Millisecond; ; limit *= 2 {
			s, err := sqlstore.OpenPostgres(context.Background(), dsn, limited(limit), sqlstore.WithoutMigration(), more)
			if err == nil || limit > time.Minute {
				return closing(t)(s, err)
			}
		}
	}
	for name, limited := range map[string]func(time.Duration) sqlstore.Option{
		"lock": sqlstore.WithLockTimeout, "statement": sqlstore.WithStatementTimeout,
	} {
		for pooler, more := range map[string]sqlstore.Option{"direct": sqlstore.WithMaxConns(2), "pooler": sqlstore.WithPooler()} {
			t.Run(name+", "+pooler, func(t *testing.T) {
				s := opened(limited, more)
				must(t, unlimited.SaveThread(t.Context(), thread("thr_1")))
				tx := begun(t, dsn, lockThreads)
				err := s.DeleteThread(t.Context(), "thr_1")
				if code := store.CodeOf(err); code != store.CodeUnavailable && code != store.CodeTimeout || !errors.Is(err, store.ErrNotApplied) {
					t.Errorf("got %v", err)
				}
				must(t, tx.Rollback(t.Context()))
				must(t, unlimited.DeleteThread(t.Context(), "thr_1"))
			})
		}
	}
}

func TestTheServerIsToldTheCallersDeadline(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	s := openPG(t, dsn, sqlstore.WithStatementTimeout(time.Hour))
	srv.Exec(t, dsn, `CREATE TABLE seen (milliseconds int, stamp text);
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO seen SELECT setting::int, current_setting('chatstore.stamp', true) FROM pg_settings WHERE name = 'statement_timeout';
			RETURN NEW;
		END $$;
		CREATE TRIGGER see BEFORE INSERT ON chatstore_threads FOR EACH ROW EXECUTE FUNCTION see()`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, s.SaveThread(ctx, thread("thr_1")))
	must(t, s.SaveThread(bus.WithStamp(t.Context(), bus.Stamp{Origin: "cache", Write: 18446744073709551615}), thread("thr_2")))
	c := get[*pgx.Conn](t)(pgx.Connect(t.Context(), dsn))
	defer func() { must(t, c.Close(context.Background())) }()
	type sight struct {
		Milliseconds int64
		Stamp        string
	}
	rows := get[pgx.Rows](t)(c.Query(t.Context(), "SELECT milliseconds, coalesce(stamp, '') AS stamp FROM seen"))
	seen := get[[]sight](t)(pgx.CollectRows(rows, pgx.RowToStructByName[sight]))
	hour := time.Hour.Milliseconds()
	if len(seen) != 2 || seen[0].Milliseconds > hour/60 || seen[0].Stamp != "" || seen[1] != (sight{hour, "cache:18446744073709551615"}) {
		t.Errorf("the transactions had the settings %v", seen)
	}
}

// The store handles broken connections and a restarted server. The program sees nothing of them.
func TestItGoesOnAfterCutConnectionsAndARestart(t *testing.T) {
	t.Parallel()
	srv := pgtest.Start(t, fast...)
	dsn := srv.DSN(t)
	s := openPG(t, dsn, patient)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	use := func(when string) {
		t.Helper()
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				if _, err := s.LoadThread(t.Context(), "thr_1"); err != nil {
					t.Errorf("%s: load: %v", when, err)
				}
				if err := s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprintf("msg_%s_%d", when, w))); err != nil {
					t.Errorf("%s: add: %v", when, err)
				}
			})
		}
		wg.Wait()
	}
	use("first")
	srv.Exec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")
	use("cut")
	srv.Restart(t, syscall.SIGINT)
	use("restarted")
	srv.Restart(t, syscall.SIGQUIT)
	use("crashed")
	hasty := openPG(t, dsn, sqlstore.WithRetryFor(20*time.Millisecond))
	must(t, srv.Stop(syscall.SIGINT))
	wantUnavailable(t, hasty)
	srv.Restart(t, syscall.SIGINT)
	use("again")
	must(t, s.CheckHealth(t.Context()))
}

// Calls that begin while no server is there wait for it, for as long as WithRetryFor says.
func TestCallsWaitForAServerThatIsRestarted(t *testing.T) {
	t.Parallel()
	srv := pgtest.Start(t, fast...)
	dsn := srv.DSN(t)
	s := openPG(t, dsn, patient, sqlstore.WithMaxConns(2))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	must(t, srv.Stop(syscall.SIGQUIT))
	calls := make(chan error)
	for n := range 4 {
		go func() { calls <- s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprint("msg_", n))) }()
		go func() { calls <- errOf(s.LoadThread(t.Context(), "thr_1")) }()
	}
	go func() {
		opened, err := sqlstore.OpenPostgres(t.Context(), dsn, patient)
		if err == nil {
			err = opened.Close()
		}
		calls <- err
	}()
	srv.Restart(t, syscall.SIGINT)
	for range 9 {
		if err := <-calls; err != nil {
			t.Errorf("%v (cause %v)", err, causeOf(err))
		}
	}
}

func TestAMissingServerAndAnUnparsableDSNAreErrorsWithoutThePassword(t *testing.T) {
	for dsn, want := range map[string]store.Code{
		"postgres://ada:c4n4ry@127.0.0.1:1/chat?connect_timeout=2": store.CodeUnavailable,
		"postgres://ada:c4n4ry@%zz/chat":                           store.CodeInvalid,
	} {
		_, err := sqlstore.OpenPostgres(t.Context(), dsn, sqlstore.WithRetryFor(0))
		if store.CodeOf(err) != want || strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("%s: got %v", dsn, err)
		}
	}
}

func TestWhatIsSaidOfALostWriteIsLongEnough(t *testing.T) {
	s := openPG(t, pgtest.Shared(t).DSN(t), sqlstore.WithStatementTimeout(7*time.Second), sqlstore.WithLockTimeout(3*time.Second))
	if got := s.LongestWrite(); got != 15*time.Second {
		t.Errorf("got %v, want the sum of both timeouts and the interval in which the server checks its client", got)
	}
	if s := sqliteMemory(t); s.LongestWrite() != 0 {
		t.Errorf("SQLite: %v", s.LongestWrite())
	}
}
