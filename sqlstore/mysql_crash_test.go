package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/store"
)

// hosts returns a DSN with the hosts of several.
func hosts(t testing.TB, dsns ...string) string {
	t.Helper()
	var all []string
	for _, dsn := range dsns {
		all = append(all, get[*mysql.Config](t)(mysql.ParseDSN(dsn)).Addr)
	}
	return strings.Replace(dsns[0], all[0], strings.Join(all, ","), 1)
}

// Of two hosts, the one that takes writes is used: also after the roles have changed, and after one has died.
func TestOfTwoMySQLHostsTheOneThatTakesWritesIsUsed(t *testing.T) {
	t.Parallel()
	a, b := mysqltest.Start(t), mysqltest.Start(t)
	dsn := a.DSN(t)
	c := get[*mysql.Config](t)(mysql.ParseDSN(dsn))
	b.Exec(t, "", "CREATE DATABASE "+c.DBName)
	for _, srv := range []*mysqltest.Server{a, b} {
		must(t, sqlstore.MigrateMySQL(t.Context(), srv.Same(dsn)))
	}
	takes := func(srv *mysqltest.Server, writes string) {
		t.Helper()
		srv.Exec(t, "", "SET GLOBAL read_only = "+map[string]string{"writes": "OFF", "none": "ON"}[writes])
	}
	takes(b, "none")
	both := hosts(t, a.TCP(dsn), b.TCP(dsn))
	s := openMySQL(t, both, patient, sqlstore.WithMaxConns(4))
	epoch := func() string {
		t.Helper()
		e, _, err := s.ThreadVersions(t.Context(), []string{"thr_1"})
		must(t, err)
		return e
	}
	// on checks that all calls, many at once, go to the server that has the thread.
	on := func(id string, others ...string) {
		t.Helper()
		must(t, s.SaveThread(t.Context(), thread(id)))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := s.LoadThread(t.Context(), id); err != nil {
					t.Errorf("%s: %v", id, err)
				}
				for _, other := range others {
					wantErr(t, errOf(s.LoadThread(t.Context(), other)), store.CodeNotFound)
				}
			})
		}
		wg.Wait()
		must(t, s.CheckHealth(t.Context()))
	}
	on("thr_a")
	old := epoch()

	// A connection is in use while the roles change.
	reading, changed, read := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		read <- sqlstore.Read(context.Background(), s, "SELECT 1", func() error {
			close(reading)
			<-changed
			return nil
		})
	}()
	<-reading
	takes(a, "none")
	takes(b, "writes")
	must(t, s.SaveThread(t.Context(), thread("thr_b")))
	close(changed)
	must(t, <-read)
	get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_b"))
	on("thr_b", "thr_a")
	if epoch() == old {
		t.Error("the epoch of another server is the same")
	}

	takes(a, "writes")
	b.Kill(t)
	on("thr_c", "thr_b")

	takes(a, "none")
	hasty := sqlstore.WithRetryFor(20 * time.Millisecond)
	for name, dsn := range map[string]string{"both": both, "one": a.Same(dsn)} {
		if _, err := sqlstore.OpenMySQL(t.Context(), dsn, hasty); store.CodeOf(err) != store.CodeUnavailable {
			t.Errorf("%s: a server that is read-only: %v", name, err)
		}
	}
	wantErr(t, s.CheckHealth(t.Context()), store.CodeUnavailable)
	takes(a, "writes")

	// A COMMIT loses its server. The pool, which has one connection, goes on at the other host.
	b.Restart(t, 0)
	n := mysqltest.NewNetwork(t, a.TCP(dsn))
	one := openMySQL(t, hosts(t, n.DSN, b.TCP(dsn)), patient, sqlstore.WithMaxConns(1))
	must(t, one.SaveThread(t.Context(), thread("thr_d")))
	lose := first("commit /*", mysqltest.BreakAnswer)
	n.Do(func(sent []byte) mysqltest.Action {
		action := lose(sent)
		if action != mysqltest.Pass {
			go n.Lead(t, "")
		}
		return action
	})
	pending := make(unsettled, 1)
	err := one.AddThreadItem(callctx.With(t.Context(), func(d *callctx.Data) { d.Unsettled = pending }), "thr_d", item(t, "msg_1"))
	if store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
		t.Errorf("a lost COMMIT: %v", err)
	}
	n.Lead(t, "")
	must(t, one.SaveThread(t.Context(), thread("thr_e")))
	<-<-pending

	// A host that does not answer is passed over.
	a.Freeze(t)
	defer a.Continue(t)
	at := openMySQL(t, both+"?timeout=2s", sqlstore.WithoutMigration(), patient)
	get[chat.Thread](t)(at.LoadThread(t.Context(), "thr_e"))
}

// raisingInMySQL makes the server answer an insert of the item "now_NUMBER" with the error NUMBER. An item "now_NUMBER_N" succeeds from
// the Nth attempt on.
const raisingInMySQL = `
CREATE SEQUENCE tries;
CREATE TRIGGER raise_it BEFORE INSERT ON chatstore_items FOR EACH ROW
BEGIN
	DECLARE number int DEFAULT substring_index(substring_index(NEW.id, '_', 2), '_', -1);
	IF NEW.id LIKE 'now\_%' AND (NEW.id NOT LIKE 'now\_%\_%' OR NEXTVAL(tries) < substring_index(NEW.id, '_', -1)) THEN
		SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = number, MESSAGE_TEXT = 'c4n4ry';
	END IF;
END`

func TestErrorsOfMySQLAreClassified(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Shared(t)
	dsn := srv.DSN(t)
	steady := openMySQL(t, dsn, patient)
	hasty := openMySQL(t, dsn, sqlstore.WithRetryFor(20*time.Millisecond)) // for calls that never succeed
	srv.Exec(t, dsn, raisingInMySQL)
	must(t, steady.SaveThread(t.Context(), thread("thr_1")))
	for _, c := range []struct {
		id   string
		want store.Code
	}{
		{"now_1213", store.CodeUnavailable}, {"now_1020", store.CodeUnavailable}, {"now_1205", store.CodeUnavailable},
		{"now_1290", store.CodeUnavailable}, {"now_1114", store.CodeUnavailable}, {"now_1040", store.CodeUnavailable},
		{"now_1047", store.CodeUnavailable}, {"now_1317", store.CodeTimeout}, {"now_3024", store.CodeTimeout},
		{"now_1062", store.CodeConflict}, {"now_1105", store.CodeInternal},
		{"now_1213_3", store.CodeOK}, {"now_1290_6", store.CodeOK}, {"now_1047_9", store.CodeOK},
	} {
		s := hasty
		if c.want == store.CodeOK {
			s = steady
		}
		err := s.AddThreadItem(t.Context(), "thr_1", item(t, c.id))
		if store.CodeOf(err) != c.want || !store.IsDefinite(err) || err != nil && !errors.Is(err, store.ErrNotApplied) {
			t.Errorf("%s: got %v, definite %v (cause %v)", c.id, err, store.IsDefinite(err), causeOf(err))
		}
		if err != nil && (strings.Contains(err.Error(), "c4n4ry") || strings.Contains(err.Error(), "HY000")) {
			t.Errorf("%s: the text shows the driver's error: %v", c.id, err)
		}
		if _, missing := steady.LoadItem(t.Context(), "thr_1", c.id); (missing == nil) != (err == nil) {
			t.Errorf("%s: ended with %v, and loading it with %v", c.id, err, missing)
		}
	}
}

// A lock that another program holds ends a call after its limit. A deadlock is resolved, and the call tried again.
func TestLocksOfOtherProgramsInMySQL(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Shared(t)
	dsn := srv.DSN(t)
	root := srv.Admin(t, dsn)
	s := openMySQL(t, dsn, patient, sqlstore.WithLockTimeout(time.Minute), sqlstore.WithStatementTimeout(time.Minute))
	short := openMySQL(t, dsn, patient, sqlstore.WithLockTimeout(time.Second))
	for n := range 2 {
		must(t, s.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", n), CreatedAt: noon.Add(time.Duration(n) * time.Second), Owner: ada}))
	}
	tx := holding(t, root, lockThreadsOfMySQL)
	wantErr(t, short.DeleteThread(t.Context(), "thr_0"), store.CodeUnavailable, store.ErrNotApplied)
	must(t, tx.Rollback())

	// The server ends the transaction that has changed less: not that of root.
	root.SetMaxOpenConns(3)
	must(t, errOf(root.Exec("CREATE TABLE other (n int PRIMARY KEY)")))
	tx = holding(t, root, "INSERT INTO other SELECT seq FROM seq_1_to_1000; SELECT 1 FROM chatstore_threads WHERE id = 'thr_1' FOR UPDATE")
	erased := make(chan error, 1)
	go func() { erased <- errOf(s.EraseOwner(t.Context(), ada)) }()
	awaitLocked(t, root, 1)
	must(t, errOf(tx.Exec("UPDATE chatstore_threads SET doc = doc WHERE id = 'thr_0'")))
	must(t, tx.Commit())
	must(t, <-erased)
	wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeNotFound)
}

// A server with fewer connections than the pool may have makes calls wait. Wrong words in a DSN are said at once.
func TestMySQLWithFewConnectionsAndWrongDSNs(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Start(t)
	dsn := srv.DSN(t)
	s := openMySQL(t, dsn, patient, sqlstore.WithMaxConns(8))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	srv.Exec(t, "", "GRANT USAGE ON *.* TO chat WITH MAX_USER_CONNECTIONS 2")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 5 {
				if err := s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprintf("msg_%d_%d", w, n))); err != nil {
					t.Errorf("%v (cause %v)", err, causeOf(err))
				}
			}
		})
	}
	wg.Wait()
	must(t, s.Close())
	for _, wrong := range []string{strings.Replace(dsn, "chat@", "chat:c4n4ry@", 1), dsn + "c4n4ry", "chat:c4n4ry@tcp(/x"} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := sqlstore.OpenMySQL(ctx, wrong, sqlstore.WithRetryFor(time.Hour))
		if err == nil || ctx.Err() != nil || strings.Contains(err.Error(), "c4n4ry") {
			t.Errorf("%s: %v", wrong, err)
		}
		cancel()
	}
}

// A machine that vanishes between the statements of a write and its COMMIT cannot tell the server. The server must not keep its locks
// for longer than it says of lost writes.
func TestAVanishedClientOfMySQLDoesNotKeepItsLocks(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, dsn string, opts ...sqlstore.Option) *sqlstore.Store{
		"of a pool of its own": func(t *testing.T, dsn string, opts ...sqlstore.Option) *sqlstore.Store {
			return openMySQL(t, dsn, opts...)
		},
		"of a handle of the program": func(t *testing.T, dsn string, opts ...sqlstore.Option) *sqlstore.Store {
			return closing(t)(sqlstore.NewMySQL(t.Context(), programs(t, dsn, needed), opts...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vanishes(t, open)
		})
	}
}

func vanishes(t *testing.T, open func(t *testing.T, dsn string, opts ...sqlstore.Option) *sqlstore.Store) {
	n := mysqltest.NewNetwork(t, mysqltest.Shared(t).DSN(t))
	opts := []sqlstore.Option{sqlstore.WithStatementTimeout(2 * time.Second), sqlstore.WithLockTimeout(time.Second)}
	s, other := open(t, n.DSN, opts...), openMySQL(t, n.Direct, append(opts, patient)...)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	n.Do(first("commit /*", mysqltest.Vanish))
	pending := make(unsettled, 1)
	if err := s.AddThreadItem(callctx.With(t.Context(), func(d *callctx.Data) { d.Unsettled = pending }), "thr_1", item(t, "msg_1")); store.IsDefinite(err) {
		t.Errorf("a write without an answer to COMMIT: %v", err)
	}
	ended := <-pending
	if err := other.AddThreadItem(t.Context(), "thr_1", item(t, "msg_2")); err == nil {
		t.Error("the server had ended the transaction before its limit")
	}
	select {
	case <-ended:
		t.Error("the transaction holds its lock, but is said to have ended")
	default:
	}
	<-ended
	must(t, other.AddThreadItem(t.Context(), "thr_1", item(t, "msg_3")))
	wantErr(t, errOf(other.LoadItem(t.Context(), "thr_1", "msg_1")), store.CodeNotFound)
}

// A host that takes connections and says nothing leaves time for the next one, also if a call has less than a host may take.
func TestAHostThatSaysNothingLeavesTimeForTheNext(t *testing.T) {
	t.Parallel()
	silent := mysqltest.NewNetwork(t, mysqltest.Shared(t).DSN(t))
	silent.Freeze()
	defer silent.Thaw()
	both := hosts(t, silent.DSN, mysqltest.Shared(t).TCP(silent.Direct)) + "?timeout=1m"
	must(t, sqlstore.MigrateMySQL(t.Context(), silent.Direct))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, closing(t)(sqlstore.OpenMySQL(ctx, both, sqlstore.WithoutMigration())).CheckHealth(t.Context()))
}

// WithMaxConns bounds the sessions at the server, and none stays when the Store is closed.
func TestThePoolOfMySQLIsBounded(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Shared(t)
	dsn := srv.DSN(t)
	root := srv.Admin(t, dsn)
	s := openMySQL(t, dsn, sqlstore.WithMaxConns(3), sqlstore.WithLockTimeout(time.Minute), sqlstore.WithStatementTimeout(time.Minute))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	tx := holding(t, root, lockThreadsOfMySQL)
	calls := make(chan error)
	for i := range 9 {
		go func() { calls <- s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprint("msg_", i))) }()
	}
	awaitLocked(t, root, 3)
	for waits := 0.0; waits < 6; {
		for _, st := range s.AppendStats(nil) {
			if st.Name == "chatstore_pool_waits_total" {
				waits = st.Value
			}
		}
	}
	const sessions = "SELECT count(*) = ? FROM information_schema.PROCESSLIST WHERE DB = database() AND USER = 'chat'"
	var bounded bool
	must(t, root.QueryRow(sessions, 3).Scan(&bounded))
	if !bounded {
		t.Error("the server has another number of sessions than 3")
	}
	must(t, tx.Rollback())
	for range 9 {
		must(t, <-calls)
	}
	must(t, s.Close())
	mysqltest.Await(t, root, sessions, 0)
}

// A migration that was interrupted goes on: after each of its statements.
func TestAnInterruptedMigrationOfMySQLGoesOn(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Shared(t)
	tables := strings.SplitAfter(sqlstore.Migration("mysql/0001_init.sql"), ";\n")
	for n := range tables {
		dsn := srv.DSN(t)
		srv.Exec(t, dsn, strings.Join(tables[:n], "")+"SELECT 1")
		must(t, openMySQL(t, dsn).SaveThread(t.Context(), thread("thr_1")))
	}
	dsn := srv.DSN(t)
	lock := holding(t, srv.Admin(t, dsn), "SELECT GET_LOCK('x', 0)")
	defer func() { _ = lock.Rollback() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, errOf(sqlstore.OpenMySQL(ctx, dsn)), store.CodeCanceled)
	var n int
	must(t, lock.QueryRow("SELECT count(*) FROM information_schema.tables WHERE table_schema = database()").Scan(&n))
	if n > 0 {
		t.Errorf("a cancelled call has made %d tables", n)
	}
}

// A crash of MariaDB can take away versions that reads have reported. So a server that has started again has another epoch, and caches
// that poll drop what they have.
func TestAMySQLServerThatHasStartedAgainHasAnotherEpoch(t *testing.T) {
	t.Parallel()
	srv := mysqltest.Start(t)
	dsn := srv.DSN(t)
	s := openMySQL(t, dsn, patient)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	epoch := func() string {
		epoch, _, err := s.ThreadVersions(t.Context(), []string{"thr_1"})
		must(t, err)
		return epoch
	}
	before := epoch()
	cutMySQL(t, srv, dsn) // the next connection is new
	if now := epoch(); now != before {
		t.Errorf("the epoch is %q at a new connection, was %q", now, before)
	}
	// The start of a server is known to a second.
	mysqltest.Await(t, srv.Admin(t, ""), "SELECT variable_value >= 4 FROM information_schema.global_status WHERE variable_name = 'UPTIME'")
	srv.Restart(t, syscall.SIGKILL)
	if now := epoch(); now == before {
		t.Errorf("the epoch is %q, as before", now)
	}
}
