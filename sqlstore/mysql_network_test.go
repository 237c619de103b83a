package sqlstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/store"
)

// session returns the number of the session of a store with one connection.
func session(t *testing.T, s *sqlstore.Store) (n int) {
	t.Helper()
	must(t, sqlstore.Query(s, "SELECT CONNECTION_ID()", &n))
	return n
}

// A cancelled call stops at the server, so that it holds and awaits no locks. Its connection is kept.
func TestACancelledCallOfMySQLIsStoppedAtTheServer(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Shared(t)
	dsn := srv.DSN(t)
	s := openMySQL(t, dsn, sqlstore.WithMaxConns(1), sqlstore.WithLockTimeout(time.Minute), sqlstore.WithStatementTimeout(time.Minute),
		sqlstore.WithCancelDelay(time.Minute))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	root := srv.Admin(t, dsn)
	before := session(t, s)
	for name, call := range map[string]func(ctx context.Context) error{
		"a write": func(ctx context.Context) error { return s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")) },
		"a read": func(ctx context.Context) error {
			return sqlstore.Read(ctx, s, "SELECT 1 FROM chatstore_threads LOCK IN SHARE MODE", func() error { return nil })
		},
	} {
		tx := holding(t, root, lockThreadsOfMySQL)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		awaitLocked(t, root, 1)
		cancel()
		if err := <-done; name == "a write" {
			wantErr(t, err, store.CodeCanceled, store.ErrNotApplied)
		} else if sqlstore.CodeOfDriver(s, err) != store.CodeTimeout {
			t.Errorf("%s: %v", name, err)
		}
		if n := lockWaits(t, root); n != 0 {
			t.Errorf("%s: %d sessions still wait for a lock", name, n)
		}
		must(t, tx.Rollback())
		wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
	}
	if after := session(t, s); before != after {
		t.Error("the connection was not kept")
	}
}

// An order to stop a statement may come when the statement has ended. It stops no other call's.
func TestAnOrderToStopThatComesLateHitsNoOtherCall(t *testing.T) {
	t.Parallel()
	s := openMySQL(t, mysqltest.Shared(t).DSN(t), sqlstore.WithMaxConns(2), patient)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	var (
		cancelled, others sync.WaitGroup
		stopped, orders   atomic.Int64
		patience          atomic.Int64
	)
	patience.Store(int64(2 * time.Millisecond))
	for w := range 3 {
		cancelled.Go(func() {
			for n := range tries(2000, 300) {
				d := time.Duration(patience.Load())
				ctx, cancel := context.WithTimeout(t.Context(), d)
				err := s.AddThreadItem(ctx, "thr_1", item(t, fmt.Sprintf("msg_%d_%d", w, n)))
				cancel()
				if err != nil {
					orders.Add(1)
					patience.Add(int64(d / 16))
				} else {
					patience.Add(-int64(d / 16))
				}
			}
		})
	}
	ended := make(chan struct{})
	for w := range 2 {
		others.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
				}
				err := errors.Join(errOf(s.LoadThread(t.Context(), "thr_1")), s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprintf("own_%d_%d", w, n))))
				if err != nil {
					t.Errorf("a call that nobody cancelled: %v (cause %v)", err, causeOf(err))
					stopped.Add(1)
					return
				}
			}
		})
	}
	cancelled.Wait()
	close(ended)
	others.Wait()
	t.Logf("%d calls ended by their deadline", orders.Load())
}

// An order to stop that the server gets after the answer may hit the next statement of its session. So the session ends.
func TestAnOrderToStopBehindTheAnswerEndsItsSession(t *testing.T) {
	t.Parallel()
	n := mysqltest.NewNetwork(t, mysqltest.Shared(t).DSN(t))
	s := openMySQL(t, n.DSN, sqlstore.WithMaxConns(1), sqlstore.WithCancelDelay(time.Minute))
	before := session(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	obeyed := make(chan struct{})
	ordered := false
	_ = sqlstore.Read(ctx, s, "SELECT 1", func() error {
		n.Do(func(sent []byte) mysqltest.Action {
			const quit = 1 // COM_QUIT
			if ordered && len(sent) == 5 && sent[4] == quit {
				ordered = false
				close(obeyed)
			}
			ordered = ordered || bytes.Contains(sent, []byte("KILL QUERY"))
			return mysqltest.Pass
		})
		cancel()
		<-obeyed
		return nil
	})
	n.Do(nil)
	if after := session(t, s); before == after {
		t.Error("the session is used again")
	}
}

// A server that does not answer holds a call no longer than its limits.
func TestAHungMySQLServerHoldsNoCall(t *testing.T) {
	t.Parallel()
	n := mysqltest.NewNetwork(t, mysqltest.Shared(t).DSN(t))
	must(t, openMySQL(t, n.Direct, patient).SaveThread(t.Context(), thread("thr_1")))
	s := openMySQL(t, n.DSN, sqlstore.WithStatementTimeout(3*time.Second), sqlstore.WithCancelDelay(10*time.Millisecond), sqlstore.WithRetryFor(0))
	get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
	n.Freeze()
	for name, call := range map[string]func(ctx context.Context) error{
		"a write":  func(ctx context.Context) error { return s.AddThreadItem(ctx, "thr_1", item(t, "msg_1")) },
		"a read":   func(ctx context.Context) error { return errOf(s.LoadThread(ctx, "thr_1")) },
		"a look":   s.CheckHealth,
		"versions": func(ctx context.Context) error { _, _, err := s.ThreadVersions(ctx, []string{"thr_1"}); return err },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if err := call(ctx); store.CodeOf(err) != store.CodeCanceled || name == "a write" && !errors.Is(err, store.ErrNotApplied) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
	}
	n.Cut()
	n.Thaw()
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_2")))
	n.Do(first("insert", mysqltest.LoseAnswer))
	wantErr(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1")), store.CodeTimeout, store.ErrNotApplied)
	n.Do(nil)
	get[chat.Item](t)(s.LoadItem(t.Context(), "thr_1", "msg_2"))
	wantErr(t, errOf(s.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
}

// unsettled notes the writes that may still be made.
type unsettled chan (<-chan struct{})

func (u unsettled) RecordUnsettled(ended <-chan struct{}) { u <- ended }

// A COMMIT that waits for a replica outlives its client, keeps its locks, and is seen in the end. Nobody cancels it.
func TestACommitThatWaitsIsNeverCancelledAndPendingUntilItEnds(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Start(t, "--log-bin", "--binlog-format=ROW", "--rpl-semi-sync-master-timeout=1000000", "--rpl-semi-sync-master-wait-point=AFTER_SYNC")
	dsn := srv.DSN(t)
	root := srv.Admin(t, dsn)
	type writer struct {
		s       *sqlstore.Store
		n       *mysqltest.Network
		pending unsettled
		done    chan error
		cancel  context.CancelFunc
	}
	names := []string{"cancelled", "closed", "cut"}
	writers := map[string]*writer{}
	base := openMySQL(t, dsn)
	for _, name := range names {
		must(t, base.SaveThread(t.Context(), thread("thr_"+name)))
		n := mysqltest.NewNetwork(t, dsn)
		writers[name] = &writer{n: n, pending: make(unsettled, 1), done: make(chan error, 1)}
		writers[name].s = openMySQL(t, n.DSN, sqlstore.WithMaxConns(1), sqlstore.WithStatementTimeout(5*time.Second), sqlstore.WithLockTimeout(time.Second))
	}
	wait := func(on string) { must(t, errOf(root.Exec("SET GLOBAL rpl_semi_sync_master_enabled = "+on))) }
	wait("ON")
	defer func() { _, _ = root.Exec("SET GLOBAL rpl_semi_sync_master_enabled = OFF") }() // after a failure
	for name, w := range writers {
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel = cancel
		ctx = callctx.With(ctx, func(d *callctx.Data) { d.Unsettled = w.pending })
		go func() { w.done <- w.s.AddThreadItem(ctx, "thr_"+name, item(t, "msg_1")) }()
	}
	const inCommit = "SELECT count(*) = ? FROM information_schema.PROCESSLIST WHERE INFO LIKE 'COMMIT /*%'"
	mysqltest.Await(t, root, inCommit, 3)
	writers["cut"].n.Cut()
	writers["cancelled"].cancel()
	writers["closed"].cancel()
	pending := map[string]<-chan struct{}{}
	for _, name := range names {
		w := writers[name]
		if err := <-w.done; store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
			t.Errorf("%s: got %v, definite %v", name, err, store.IsDefinite(err))
		}
		pending[name] = <-w.pending
	}
	mysqltest.Await(t, root, inCommit, 3) // nobody stopped it
	must(t, writers["closed"].s.Close())
	<-pending["closed"]
	for _, name := range names {
		wantErr(t, errOf(base.LoadItem(t.Context(), "thr_"+name, "msg_1")), store.CodeNotFound)
	}
	mysqltest.Await(t, root, inCommit, 3)
	for _, name := range []string{"cancelled", "cut"} {
		select {
		case <-pending[name]:
			t.Errorf("%s: the server still runs the COMMIT, but it is said to have ended", name)
		default:
		}
	}
	wait("OFF")
	for _, name := range names {
		<-pending[name]
	}
	mysqltest.Await(t, root, inCommit, 0)
	for _, name := range names {
		get[chat.Item](t)(base.LoadItem(t.Context(), "thr_"+name, "msg_1"))
	}
	for _, name := range []string{"cancelled", "cut"} { // the pool has its connection again
		must(t, writers[name].s.AddThreadItem(t.Context(), "thr_"+name, item(t, "msg_2")))
	}
}
