package sqlstore_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/fleet"
)

// lease bounds the age of a read in these tests.
const lease = 1500 * time.Millisecond

// openWorker opens the stack of a process of the fleet. Entries never expire, so a read that is too old shows a missed
// change.
func openWorker(ctx context.Context, args []string) (store.Store, error) {
	if len(args) > 1 {
		return openPolling(ctx, args[0], args[1:])
	}
	s, err := sqlstore.OpenPostgres(ctx, args[0], sqlstore.WithRetryFor(100*time.Millisecond))
	if err != nil {
		return nil, err
	}
	b, err := s.Bus(ctx, pubsub.WithLease(lease), pubsub.WithBackoff(10*time.Millisecond, 100*time.Millisecond), pubsub.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	return store.Wrap(s, cache.New(cache.WithBus(b), cache.WithTTL(0))), nil
}

// Three processes read each other's writes through caches that only the database's notifications invalidate. Meanwhile
// connections are cut, and the server goes down and comes back.
func TestNoProcessReadsWhatIsOlderThanTheLease(t *testing.T) {
	t.Parallel()
	srv := pgtest.Start(t, fast...)
	dsn := srv.DSN(t)
	base := openPG(t, dsn)
	cut := func(who string) func() {
		return func() {
			srv.Exec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND "+who)
		}
	}
	fleet.Run(t, fleet.Fleet{
		Args: []string{dsn}, Bound: lease, Base: base,
		Disturb: []func(){
			cut("application_name = 'chatstore bus'"),
			cut("true"),
			func() { srv.Restart(t, syscall.SIGINT) },
			func() { srv.Restart(t, syscall.SIGQUIT) },
			cut("application_name = 'chatstore bus'"),
		},
	})
}

// Changes by other programs, such as psql, are announced as well.
func TestNoWriterCanForgetToTell(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	s := openPG(t, dsn)
	b := closed[*pubsub.Bus](t)(s.Bus(t.Context(), pubsub.WithLease(time.Hour)))
	changes, up := make(chan bus.Change, 100), make(chan bool, 10)
	stop := b.Subscribe(t.Context(), func(c bus.Change) { changes <- c }, func(ok bool) { up <- ok })
	defer stop()
	if !<-up {
		t.Fatal("not connected at the beginning")
	}
	srv.Exec(t, dsn, `INSERT INTO chatstore_threads VALUES ('thr_end', '', '', 0, 1, 0, 0, '{}')`)
	<-changes
	for _, c := range []struct {
		text string
		want []bus.Change
	}{
		{`INSERT INTO chatstore_threads SELECT 'thr_' || n, '', '', n, 1, 0, 0, '{}' FROM generate_series(1, 2) n`,
			[]bus.Change{{ThreadID: "thr_1"}, {ThreadID: "thr_2"}}},
		{`INSERT INTO chatstore_items VALUES ('thr_1', 'msg_1', 1, 1, '{}')`, []bus.Change{{ThreadID: "thr_1"}}},
		{`UPDATE chatstore_items SET doc = '{ }'`, []bus.Change{{ThreadID: "thr_1"}}},
		{`UPDATE chatstore_items SET thread_id = 'thr_2'`, []bus.Change{{ThreadID: "thr_1"}, {ThreadID: "thr_2"}}},
		{`DELETE FROM chatstore_items`, []bus.Change{{ThreadID: "thr_2"}}},
		{`INSERT INTO chatstore_attachments VALUES ('atc_1', '', '', 0, '{}')`, []bus.Change{{AttachmentID: "atc_1"}}},
		{`BEGIN; UPDATE chatstore_threads SET doc = '{ }' WHERE id = 'thr_2'; UPDATE chatstore_threads SET doc = '{}' WHERE id = 'thr_2'; COMMIT`,
			[]bus.Change{{ThreadID: "thr_2"}}}, // announced once
		{`BEGIN; SELECT set_config('chatstore.stamp', 'CACHE:17', true); UPDATE chatstore_threads SET doc = '{ }' WHERE id = 'thr_2'; COMMIT`,
			[]bus.Change{{ThreadID: "thr_2", Origin: "CACHE", Write: 17}}},
		{`UPDATE chatstore_threads SET doc = '{}' WHERE id = 'none'`, nil},
		{`BEGIN; UPDATE chatstore_threads SET doc = '{}' WHERE id = 'thr_1'; ROLLBACK`, nil},
		{`INSERT INTO chatstore_threads SELECT 'thr_x' || n, '', '', n, 1, 0, 0, '{}' FROM generate_series(1, 1000) n`,
			[]bus.Change{{All: true}}}, // too many for one message
		{`INSERT INTO chatstore_threads SELECT repeat('é', 124) || n, '', '', n, 1, 0, 0, '{}' FROM generate_series(1, 32) n`,
			[]bus.Change{{All: true}}},
		{`TRUNCATE chatstore_attachments`, []bus.Change{{All: true}}},
	} {
		srv.Exec(t, dsn, c.text)
		srv.Exec(t, dsn, `UPDATE chatstore_threads SET doc = '{}' WHERE id = 'thr_end'`)
		var got []bus.Change
		for ch := range changes {
			if ch.ThreadID == "thr_end" {
				break
			}
			got = append(got, ch)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %+v, want %+v", c.text, got, c.want)
		}
	}
}

func TestABusIsRefusedWhereItWouldHearNothing(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	gone := openPG(t, dsn)
	must(t, gone.Close())
	for _, c := range []struct {
		name string
		s    *sqlstore.Store
		want store.Code
	}{
		{"over SQLite", sqliteMemory(t), store.CodeInvalid},
		{"of a closed store", gone, store.CodeUnavailable},
		{"behind a pooler, without a connection of its own", openPG(t, dsn, sqlstore.WithPooler()), store.CodeInvalid},
		{"without triggers", openPG(t, dsn, sqlstore.WithoutNotify()), store.CodeInvalid},
	} {
		if _, err := c.s.Bus(t.Context()); store.CodeOf(err) != c.want {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	closed[*pubsub.Bus](t)(openPG(t, dsn).Bus(t.Context())) // the last one to open decides
}

// Of the programs that switch on the triggers at once, the first does it. The others do not wait for its writers.
func TestTheTriggersAreSwitchedOnOnce(t *testing.T) {
	t.Parallel()
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	s := openPG(t, dsn, sqlstore.WithRetryFor(0))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	faster := begun(t, dsn, "SELECT pg_advisory_xact_lock(hashtextextended('"+sqlstore.LockName+"', 0))")
	done := make(chan error, 1)
	go func() {
		b, err := s.Bus(context.Background())
		if err == nil {
			err = b.Close()
		}
		done <- err
	}()
	pgtest.Await(t, dsn, `SELECT count(*) = 1 FROM pg_locks JOIN pg_database d ON d.oid = database
		WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted`)
	for _, table := range []string{"threads", "items", "attachments"} {
		srv.Exec(t, dsn, "ALTER TABLE chatstore_"+table+" ENABLE TRIGGER USER")
	}
	writer := begun(t, dsn, "UPDATE chatstore_threads SET version = version") // with which ALTER TABLE would conflict
	must(t, faster.Rollback(t.Context()))
	if err := <-done; err != nil {
		t.Errorf("%v (cause %v)", err, causeOf(err))
	}
	must(t, writer.Rollback(t.Context()))
}

// attempts is a log handler that sends a value for each failed attempt to connect.
type attempts chan struct{}

func (a attempts) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("not connected")) {
		select {
		case a <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

// A cache must not serve when its changes are no longer announced, although its own heartbeats would still come back.
func TestABusNoticesThatTheTriggersAreSwitchedOff(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	tries := make(attempts, 100)
	// The lease is so long that its end cannot be the reason.
	b := closed[*pubsub.Bus](t)(openPG(t, dsn).Bus(t.Context(), pubsub.WithLease(time.Hour),
		pubsub.WithBackoff(time.Millisecond, 10*time.Millisecond), pubsub.WithLogger(slog.New(slog.NewTextHandler(tries, nil)))))
	states := make(chan bool, 100)
	defer b.Subscribe(t.Context(), func(bus.Change) {}, func(on bool) { states <- on })()
	become := func(want bool) {
		t.Helper()
		for {
			select {
			case on := <-states:
				if on == want {
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("the bus never reports connected(%v)", want)
			}
		}
	}
	become(true)
	openPG(t, dsn, sqlstore.WithoutNotify())
	become(false)
	if b.LeasedUntil().After(time.Now()) {
		t.Error("the lease did not end")
	}
	for range 5 { // it keeps trying and is refused
		select {
		case <-tries:
		case on := <-states:
			t.Fatalf("without the triggers the bus reports connected(%v)", on)
		}
	}
	closed[*pubsub.Bus](t)(openPG(t, dsn).Bus(t.Context())) // switches the triggers on
	become(true)
}

// Behind a pooler that does not support LISTEN, the bus uses a direct connection and gets the changes written through the
// pooler.
func TestABusListensWhereItIsTold(t *testing.T) {
	n := broken(t)
	asked := make(chan struct{}, 1)
	n.Do(func(sent []byte) pgtest.Action {
		if !bytes.Contains(sent, []byte("LISTEN")) {
			return pgtest.Pass
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return pgtest.Break
	})
	s := openPG(t, n.DSN, sqlstore.WithPooler(), sqlstore.WithListenDSN(n.Direct))
	b := closed[*pubsub.Bus](t)(s.Bus(t.Context(), pubsub.WithLease(time.Hour), pubsub.WithLogger(slog.New(slog.DiscardHandler))))
	events := make(chan string, 10)
	defer b.Subscribe(t.Context(), func(c bus.Change) { events <- c.ThreadID }, func(on bool) { events <- fmt.Sprint(on) })()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-events:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-asked:
			t.Fatal("the bus listens through the pooler")
		case <-time.After(time.Minute):
			t.Fatalf("no %q came", want)
		}
	}
	expect("true")
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	expect("thr_1")

	wrong := openPG(t, n.DSN, sqlstore.WithPooler(), sqlstore.WithListenDSN("postgres://ada:c4n4ry@%zz/chat"))
	if _, err := wrong.Bus(t.Context()); store.CodeOf(err) != store.CodeInvalid || strings.Contains(fmt.Sprint(err, causeOf(err)), "c4n4ry") {
		t.Errorf("an invalid DSN: %v (cause %v)", err, causeOf(err))
	}
}

// The triggers cost writes, so a program that has no Bus does not pay for them.
func TestTheTriggersAreOffUntilAFirstBus(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	s := openPG(t, dsn)
	on := func() (n int) {
		t.Helper()
		must(t, sqlstore.Query(s, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'chatstore_notify%' AND tgenabled <> 'D'", &n))
		return n
	}
	if n := on(); n != 0 {
		t.Errorf("%d triggers are on in a new database", n)
	}
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	defer slog.SetDefault(before)
	quiet := pubsub.WithLogger(slog.New(slog.DiscardHandler))
	closed[*pubsub.Bus](t)(s.Bus(t.Context(), quiet))
	if n := on(); n != 12 || strings.Count(logged.String(), "switched on the triggers") != 1 {
		t.Errorf("after a first Bus %d triggers are on, want 12; logged was %q", n, logged.String())
	}
	closed[*pubsub.Bus](t)(s.Bus(t.Context(), quiet))
	openPG(t, dsn)
	if n := on(); n != 12 || strings.Count(logged.String(), "switched on the triggers") != 1 {
		t.Errorf("after a second Bus and a second Store %d triggers are on, want 12; logged was %q", n, logged.String())
	}
}

func TestABusNeedsTheRightToSwitchOnTheTriggers(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	owner := openPG(t, dsn, sqlstore.WithSchema("chats"))
	role := "listener_" + strings.ToLower(dsn[strings.LastIndex(dsn, "=")+1:])
	srv.Exec(t, dsn, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN; GRANT USAGE ON SCHEMA chats TO %[1]s;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chats TO %[1]s`, role))
	weak := openPG(t, strings.Replace(dsn, "user=chat", "user="+role, 1), sqlstore.WithSchema("chats"))
	_, err := weak.Bus(t.Context())
	if wantErr(t, err, store.CodeInvalid); err == nil || !strings.Contains(err.Error(), "owner") {
		t.Errorf("got %v", err)
	}
	closed[*pubsub.Bus](t)(owner.Bus(t.Context()))
	closed[*pubsub.Bus](t)(weak.Bus(t.Context())) // they are on
}

// A first Bus waits for the writers under way. Later writers must not wait for it.
func TestAFirstBusStopsNoWriter(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn, sqlstore.WithRetryFor(time.Minute), sqlstore.WithLockTimeout(time.Minute))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	tx := begun(t, dsn, "UPDATE chatstore_threads SET doc = doc")
	made := make(chan error, 1)
	go func() {
		b, err := s.Bus(context.Background())
		if err == nil {
			err = b.Close()
		}
		made <- err
	}()
	blocked(t, tx)
	for i := range 20 {
		must(t, s.SaveThread(t.Context(), thread(fmt.Sprint("thr_new", i))))
	}
	if len(made) > 0 {
		t.Fatalf("the Bus did not wait: %v", <-made)
	}
	must(t, tx.Rollback(t.Context()))
	must(t, <-made)
}
