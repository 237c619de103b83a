package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/internal/proxy"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// broken returns a network to a new database of the shared server.
func broken(t *testing.T) *pgtest.Network {
	t.Helper()
	return pgtest.NewNetwork(t, pgtest.Shared(t).DSN(t))
}

// wired runs a test on a new database of each server, behind a network. Each message contains its statement.
func wired(t *testing.T, f func(t *testing.T, n *proxy.Proxy, open opener)) {
	t.Run("postgres", func(t *testing.T) {
		n := broken(t)
		f(t, n.Proxy, func(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
			return openPG(t, n.DSN, append(opts, sqlstore.WithPooler())...)
		})
	})
	t.Run("mariadb", func(t *testing.T) {
		n := mysqltest.NewNetwork(t, mysqltest.Shared(t).DSN(t))
		f(t, n.Proxy, func(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store { return openMySQL(t, n.DSN, opts...) })
	})
}

// first returns a for the first message that contains part, and pass for all others.
func first(part string, a pgtest.Action) func([]byte) pgtest.Action {
	done := false
	return func(sent []byte) pgtest.Action {
		text := strings.NewReplacer("start transaction", "begin", "autocommit", "", "read committed", "").Replace(strings.ToLower(string(sent)))
		if done || !strings.Contains(text, part) {
			return pgtest.Pass
		}
		done = true
		return a
	}
}

// If a connection breaks while the answer to COMMIT is awaited, pgx reports that it was closed and that a retry is safe. It
// is not safe: the write may have been applied.
func TestAConnectionLostInACommitLeavesTheOutcomeUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		do    pgtest.Action
		there bool
	}{"before the server has it": {pgtest.Break, false}, "before the answer": {pgtest.BreakAnswer, true}} {
		t.Run(name, func(t *testing.T) {
			wired(t, func(t *testing.T, n *proxy.Proxy, open opener) {
				s := open(t)
				must(t, s.SaveThread(t.Context(), thread("thr_1")))
				n.Do(first("commit", c.do))
				reported := false
				ctx := callctx.WithVersionRecorder(t.Context(), func(string, uint64, uint64) { reported = true })
				err := s.AddThreadItem(ctx, "thr_1", item(t, "msg_1"))
				if !errors.Is(err, store.ErrUnavailable) || store.IsDefinite(err) {
					t.Errorf("got %v, definite %v", err, store.IsDefinite(err))
				}
				if reported {
					t.Error("a version was reported")
				}
				if _, err := s.LoadItem(t.Context(), "thr_1", "msg_1"); (err == nil) != c.there {
					t.Errorf("the item exists: %v, want %v", err == nil, c.there)
				}
			})
		})
	}
}

// If the connection breaks before the COMMIT, the write did not happen and is retried.
func TestAConnectionLostBeforeACommitIsTriedAgain(t *testing.T) {
	for _, part := range []string{"begin", "update", "insert"} {
		wired(t, func(t *testing.T, n *proxy.Proxy, open opener) {
			for _, a := range []proxy.Action{proxy.Break, proxy.BreakAnswer} {
				s := open(t, patient)
				id := fmt.Sprint("thr_", a)
				must(t, s.SaveThread(t.Context(), thread(id)))
				n.Do(first(part, a))
				var versions []uint64
				ctx := callctx.WithVersionRecorder(t.Context(), func(_ string, before, after uint64) { versions = append(versions, before, after) })
				if err := s.AddThreadItem(ctx, id, item(t, "msg_1")); err != nil {
					t.Errorf("%s, %d: %v (cause %v)", part, a, err, causeOf(err))
				}
				if len(versions) != 2 || versions[0] != 1 || versions[1] != 2 {
					t.Errorf("%s, %d: reported %v, want once, from 1 to 2", part, a, versions)
				}
			}
		})
	}
}

// A silent network does not hold a caller whose context has ended, and the write is not applied.
func TestASilentNetworkDoesNotHoldACallThatWasCancelled(t *testing.T) {
	for _, part := range []string{"begin", "update", "insert"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			wired(t, func(t *testing.T, n *proxy.Proxy, open opener) {
				s := open(t, sqlstore.WithCancelDelay(10*time.Millisecond)) // wait only briefly for an answer that never comes
				must(t, s.SaveThread(t.Context(), thread("thr_1")))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				lose := first(part, proxy.LoseAnswer)
				n.Do(func(sent []byte) proxy.Action {
					a := lose(sent)
					if a != proxy.Pass {
						cancel()
					}
					return a
				})
				wantErr(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")), store.CodeCanceled, store.ErrNotApplied)
				wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
			})
		})
	}
}

// The caller's context does not end a COMMIT: the write waits for the answer.
func TestACommitIsNotCancelled(t *testing.T) {
	wired(t, func(t *testing.T, n *proxy.Proxy, open opener) {
		s := open(t)
		must(t, s.SaveThread(t.Context(), thread("thr_1")))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		at := first("commit", proxy.LoseAnswer)
		n.Do(func(sent []byte) proxy.Action {
			if at(sent) != proxy.Pass {
				cancel()
			}
			return proxy.Pass
		})
		must(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")))
		get[chat.Item](t)(s.LoadItem(t.Context(), "thr_1", "msg_1"))
	})
}

// A cancelled call stops at the server, so that it holds and awaits no locks. Its connection is kept.
func TestACancelledCallIsCancelledAtTheServer(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn, sqlstore.WithMaxConns(1), sqlstore.WithLockTimeout(time.Minute), sqlstore.WithStatementTimeout(time.Minute),
		sqlstore.WithCancelDelay(time.Minute))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	var before, after int
	must(t, sqlstore.Query(s, "SELECT pg_backend_pid()", &before))
	cancelledWhileBlocked(t, s, dsn)
	must(t, sqlstore.Query(s, "SELECT pg_backend_pid()", &after))
	if before != after {
		t.Error("the connection was not kept")
	}
}

// cancelledWhileBlocked cancels a write that waits for a lock. It must be definite, and no session may go on waiting.
func cancelledWhileBlocked(t *testing.T, s *sqlstore.Store, dsn string) {
	t.Helper()
	tx := begun(t, dsn, lockThreads)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")) }()
	blocked(t, tx)
	cancel()
	wantErr(t, <-done, store.CodeCanceled, store.ErrNotApplied)
	if n := waiting(t, tx); n != 0 {
		t.Errorf("%d sessions still wait for a lock", n)
	}
	must(t, tx.Rollback(t.Context()))
}

// A pool keeps no connection to a standby, which lacks the newest writes and accepts none. Calls wait until the way leads to
// the primary again.
func TestAPoolLeavesAStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsn := primary.DSN(t)
	n := pgtest.NewNetwork(t, dsn)
	s := openPG(t, n.DSN, patient, sqlstore.WithMaxConns(4))
	hasty := openPG(t, n.DSN, sqlstore.WithRetryFor(20*time.Millisecond), sqlstore.WithoutMigration())
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	standby := primary.Standby(t)

	n.Lead(t, standby.Same(dsn))
	primary.Exec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	wantUnavailable(t, hasty) // also reads
	calls := make(chan error)
	for i := range 4 {
		go func() { calls <- s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprint("msg_", i))) }()
		go func() { calls <- errOf(s.LoadThread(t.Context(), "thr_1")) }()
	}
	n.Lead(t, dsn)
	for range 8 {
		if err := <-calls; err != nil {
			t.Errorf("%v (cause %v)", err, causeOf(err))
		}
	}
	must(t, hasty.SaveThread(t.Context(), thread("thr_2")))
	wantErr(t, errOf(sqlstore.OpenPostgres(t.Context(), standby.Same(dsn), sqlstore.WithRetryFor(0))), store.CodeUnavailable)
}

// A session that began while the database was read-only stays read-only. The pool drops it.
func TestAPoolLeavesAReadOnlySession(t *testing.T) {
	t.Parallel()
	srv := pgtest.Start(t, fast...)
	dsn := srv.DSN(t)
	s := openPG(t, dsn, sqlstore.WithRetryFor(20*time.Millisecond), sqlstore.WithMaxConns(4))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	_, name, _ := strings.Cut(dsn, "dbname=")
	srv.Exec(t, dsn, "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	srv.Exec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	wantErr(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1")), store.CodeUnavailable, store.ErrNotApplied)
	for range 4 { // each connection of the pool has a session of that time
		get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
	}
	srv.Exec(t, dsn+" options='-c default_transaction_read_only=off'", "ALTER DATABASE "+name+" RESET default_transaction_read_only")
	patiently := openPG(t, dsn, patient)
	must(t, patiently.AddThreadItem(t.Context(), "thr_1", item(t, "msg_2")))
	for i := range 5 { // a call drops at most one session
		err := s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprint("msg_1", i)))
		if err == nil {
			return
		}
		wantErr(t, err, store.CodeUnavailable, store.ErrNotApplied)
	}
	t.Error("the pool still has read-only sessions")
}

// A machine that vanishes between the statements of a write and its COMMIT cannot tell the server. The server must not keep the
// locks of the write for longer than it says of lost writes.
func TestAVanishedClientDoesNotKeepItsLocks(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]sqlstore.Option{"direct": nil, "pooler": {sqlstore.WithPooler()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := broken(t)
			opts := append(opts, sqlstore.WithStatementTimeout(5*time.Second), sqlstore.WithLockTimeout(time.Second))
			s, other := openPG(t, n.DSN, opts...), openPG(t, n.Direct, opts...)
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
			n.Do(first("commit", pgtest.Vanish))
			if err := s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1")); store.IsDefinite(err) {
				t.Errorf("a write without an answer to COMMIT: %v", err)
			}
			pgtest.Await(t, n.Direct, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
			end := time.Now().Add(s.LongestWrite() + 10*time.Second) // some for a slow machine
			for {
				err := other.AddThreadItem(t.Context(), "thr_1", item(t, "msg_2"))
				if err == nil {
					break
				}
				if !errors.Is(err, store.ErrNotApplied) {
					t.Fatalf("a write that waits for a lock: %v", err)
				}
				if time.Now().After(end) {
					t.Fatalf("the thread is locked for more than %v", s.LongestWrite())
				}
			}
			wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
			wantErr(t, errOf(other.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
		})
	}
}

// Another database behind the DSN, such as the one before an upgrade, has other rows and other versions.
func TestAnotherDatabaseBehindTheDSNIsRefused(t *testing.T) {
	t.Parallel()
	first, second := pgtest.Start(t, fast...), pgtest.Start(t, fast...)
	dsn, other := first.DSN(t), second.DSN(t)
	n := pgtest.NewNetwork(t, dsn)
	s := openPG(t, n.DSN, sqlstore.WithRetryFor(20*time.Millisecond))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	if dsn[strings.LastIndex(dsn, "="):] != other[strings.LastIndex(other, "="):] {
		second.Exec(t, other, "CREATE DATABASE "+dsn[strings.LastIndex(dsn, "=")+1:])
	}
	n.Lead(t, second.Same(dsn))
	n.Cut()
	wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeUnavailable)
	wantErr(t, s.SaveThread(t.Context(), thread("thr_1")), store.CodeUnavailable, store.ErrNotApplied)
	n.Lead(t, dsn)
	n.Cut()
	get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
}
