package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// network is a connection to the server that a test can break.
type network struct {
	dsn    string
	direct string // a DSN that bypasses the network

	mu sync.Mutex
	// on gets each client message before it is passed on, and returns what to do.
	on func(sent []byte) action
	to string // the socket of the server
}

// lead makes new connections lead to the server of a DSN.
func (n *network) lead(dsn string) {
	host, _, _ := strings.Cut(strings.TrimPrefix(dsn, "host="), " ")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.to = filepath.Join(host, ".s.PGSQL.5432")
}

type action int

const (
	pass       action = iota
	cut               // break the connection and pass nothing on
	cutAnswer         // pass it on and break the connection when the answer comes
	loseAnswer        // pass it on and silently drop everything to the client from then on
)

func (n *network) do(f func(sent []byte) action) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.on = f
}

// broken returns a network to a new database of the shared server.
func broken(t *testing.T) *network {
	t.Helper()
	return brokenTo(t, pgtest.Shared(t).DSN(t))
}

// brokenTo returns a network to the database of dsn.
func brokenTo(t *testing.T, dsn string) *network {
	t.Helper()
	dir, err := os.MkdirTemp("", "net") // short, because the path of a socket has a limit
	must(t, err)
	n := &network{direct: dsn, on: func([]byte) action { return pass }}
	socket := ".s.PGSQL.5432"
	l := get[net.Listener](t)(net.Listen("unix", filepath.Join(dir, socket)))
	host, rest, _ := strings.Cut(strings.TrimPrefix(dsn, "host="), " ")
	n.dsn = "host=" + dir + " " + rest
	n.to = filepath.Join(host, socket)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			to := n.to
			n.mu.Unlock()
			wg.Go(func() { n.serve(c, to) })
		}
	})
	t.Cleanup(func() {
		must(t, l.Close())
		wg.Wait()
		must(t, os.RemoveAll(dir))
	})
	return n
}

func (n *network) serve(client net.Conn, to string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var then atomic.Int64
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		buf := make([]byte, 1<<16)
		for {
			k, err := server.Read(buf)
			now := action(then.Load())
			if err != nil || now == cutAnswer {
				_ = client.Close()
				return
			}
			if now != loseAnswer {
				_, _ = client.Write(buf[:k])
			}
		}
	}()
	buf := make([]byte, 1<<16)
	for {
		k, err := client.Read(buf)
		if err != nil {
			break
		}
		n.mu.Lock()
		a := n.on(buf[:k])
		n.mu.Unlock()
		if a == cut {
			break
		}
		then.Store(max(then.Load(), int64(a)))
		if _, err := server.Write(buf[:k]); err != nil {
			break
		}
	}
	_ = client.Close()
	_ = server.Close()
	<-answered
}

// first returns a for the first message that contains part, and pass for all others.
func first(part string, a action) func([]byte) action {
	done := false
	return func(sent []byte) action {
		if done || !bytes.Contains(bytes.ToLower(sent), []byte(part)) {
			return pass
		}
		done = true
		return a
	}
}

// If a connection breaks while the answer to COMMIT is awaited, pgx reports that it was closed and that a retry is safe. It
// is not safe: the write may have been applied.
func TestAConnectionLostInACommitLeavesTheOutcomeUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		do    action
		there bool
	}{"before the server has it": {cut, false}, "before the answer": {cutAnswer, true}} {
		t.Run(name, func(t *testing.T) {
			n := broken(t)
			s := openPG(t, n.dsn)
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
			n.do(first("commit", c.do))
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
	}
}

// If the connection breaks before the COMMIT, the write did not happen and is retried.
func TestAConnectionLostBeforeACommitIsTriedAgain(t *testing.T) {
	for _, part := range []string{"begin", "update", "insert"} {
		for _, a := range []action{cut, cutAnswer} {
			n := broken(t)
			// Each message contains its statement.
			s := openPG(t, n.dsn, sqlstore.WithPooler(), patient)
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
			n.do(first(part, a))
			var versions []uint64
			ctx := callctx.WithVersionRecorder(t.Context(), func(_ string, before, after uint64) { versions = append(versions, before, after) })
			if err := s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")); err != nil {
				t.Errorf("%s, %d: %v (cause %v)", part, a, err, causeOf(err))
			}
			if len(versions) != 2 || versions[0] != 1 || versions[1] != 2 {
				t.Errorf("%s, %d: reported %v, want once, from 1 to 2", part, a, versions)
			}
		}
	}
}

// A silent network does not hold a caller whose context has ended, and the write is not applied.
func TestASilentNetworkDoesNotHoldACallThatWasCancelled(t *testing.T) {
	for _, part := range []string{"begin", "update", "insert"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			n := broken(t)
			s := openPG(t, n.dsn, sqlstore.WithPooler(), sqlstore.WithCancelDelay(10*time.Millisecond)) // wait only briefly for an answer that never comes
			must(t, s.SaveThread(t.Context(), thread("thr_1")))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			lose := first(part, loseAnswer)
			n.do(func(sent []byte) action {
				a := lose(sent)
				if a != pass {
					cancel()
				}
				return a
			})
			wantErr(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")), store.CodeCanceled, store.ErrNotApplied)
			wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
		})
	}
}

// The caller's context does not end a COMMIT: the write waits for the answer.
func TestACommitIsNotCancelled(t *testing.T) {
	n := broken(t)
	s := openPG(t, n.dsn)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	n.do(func(sent []byte) action {
		if bytes.Contains(sent, []byte("commit")) {
			cancel()
		}
		return pass
	})
	must(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")))
	get[chat.Item](t)(s.LoadItem(t.Context(), "thr_1", "msg_1"))
}

// A cancelled call stops at the server, so that it holds and awaits no locks. Its connection is kept.
func TestACancelledCallIsCancelledAtTheServer(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn, sqlstore.WithMaxConns(1), sqlstore.WithLockTimeout(time.Minute), sqlstore.WithStatementTimeout(time.Minute),
		sqlstore.WithCancelDelay(time.Minute))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	var before, after int
	must(t, sqlstore.Query(s, "SELECT pg_backend_pid()", &before))
	tx := begun(t, dsn, lockThreads)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")) }()
	blocked(t, tx)
	cancel()
	wantErr(t, <-done, store.CodeCanceled, store.ErrNotApplied)
	n := waiting(t, tx)
	must(t, sqlstore.Query(s, "SELECT pg_backend_pid()", &after))
	if n != 0 || before != after {
		t.Errorf("%d sessions still wait for a lock; connection kept: %v", n, before == after)
	}
	must(t, tx.Rollback(t.Context()))
}

// A pool keeps no connection to a standby, which lacks the newest writes and accepts none. Calls wait until the way leads to
// the primary again.
func TestAPoolLeavesAStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsn := primary.DSN(t)
	n := brokenTo(t, dsn)
	s := openPG(t, n.dsn, patient, sqlstore.WithMaxConns(4))
	hasty := openPG(t, n.dsn, sqlstore.WithRetryFor(20*time.Millisecond), sqlstore.WithoutMigration())
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	standby := primary.Standby(t)

	n.lead(standby.Same(dsn))
	primary.Exec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
	wantUnavailable(t, hasty) // also reads
	calls := make(chan error)
	for i := range 4 {
		go func() { calls <- s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprint("msg_", i))) }()
		go func() { calls <- errOf(s.LoadThread(t.Context(), "thr_1")) }()
	}
	n.lead(dsn)
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
