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

// lease is the bound on the age of a read in these tests.
const lease = 1500 * time.Millisecond

// openWorker opens the stack of a process of the fleet. Its entries never expire: what is too old was not told of.
func openWorker(ctx context.Context, args []string) (store.Store, error) {
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

// Three processes read one another's writes through caches that only the database's notifications empty. Meanwhile connections
// are cut, and the server goes down and comes back.
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

// What somebody else writes, with psql for example, is told of as well.
func TestNoWriterCanForgetToTell(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	s := openPG(t, dsn)
	b := closed[*pubsub.Bus](t)(s.Bus(t.Context(), pubsub.WithLease(time.Hour)))
	changes, up := make(chan bus.Change, 100), make(chan bool, 10)
	stop := b.Subscribe(t.Context(), func(c bus.Change) { changes <- c }, func(ok bool) { up <- ok })
	defer stop()
	if !<-up {
		t.Fatal("cut off at the beginning")
	}
	srv.Exec(t, dsn, `INSERT INTO chatstore_threads VALUES ('thr_end', '', '', 0, 0, 1, 0, 0, '{}')`)
	<-changes
	for _, c := range []struct {
		text string
		want []bus.Change
	}{
		{`INSERT INTO chatstore_threads SELECT 'thr_' || n, '', '', n, n, 1, 0, 0, '{}' FROM generate_series(1, 2) n`,
			[]bus.Change{{ThreadID: "thr_1"}, {ThreadID: "thr_2"}}},
		{`INSERT INTO chatstore_items VALUES ('thr_1', 'msg_1', 1, 1, '{}')`, []bus.Change{{ThreadID: "thr_1"}}},
		{`UPDATE chatstore_items SET doc = '{ }'`, []bus.Change{{ThreadID: "thr_1"}}},
		{`UPDATE chatstore_items SET thread_id = 'thr_2'`, []bus.Change{{ThreadID: "thr_1"}, {ThreadID: "thr_2"}}},
		{`DELETE FROM chatstore_items`, []bus.Change{{ThreadID: "thr_2"}}},
		{`INSERT INTO chatstore_attachments VALUES ('atc_1', '', '', 0, '{}')`, []bus.Change{{AttachmentID: "atc_1"}}},
		{`BEGIN; UPDATE chatstore_threads SET doc = '{ }' WHERE id = 'thr_2'; UPDATE chatstore_threads SET doc = '{}' WHERE id = 'thr_2'; COMMIT`,
			[]bus.Change{{ThreadID: "thr_2"}}}, // once
		{`BEGIN; SELECT set_config('chatstore.stamp', 'CACHE:17', true); UPDATE chatstore_threads SET doc = '{ }' WHERE id = 'thr_2'; COMMIT`,
			[]bus.Change{{ThreadID: "thr_2", Origin: "CACHE", Write: 17}}},
		{`UPDATE chatstore_threads SET doc = '{}' WHERE id = 'none'`, nil},
		{`BEGIN; UPDATE chatstore_threads SET doc = '{}' WHERE id = 'thr_1'; ROLLBACK`, nil},
		{`INSERT INTO chatstore_threads SELECT 'thr_x' || n, '', '', n, n, 1, 0, 0, '{}' FROM generate_series(1, 1000) n`,
			[]bus.Change{{All: true}}}, // more than a message has room for
		{`INSERT INTO chatstore_threads SELECT repeat('é', 124) || n, '', '', n, n, 1, 0, 0, '{}' FROM generate_series(1, 32) n`,
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
			t.Errorf("%s: told %+v, want %+v", c.text, got, c.want)
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
	closed[*pubsub.Bus](t)(openPG(t, dsn).Bus(t.Context())) // the last to open decides
}

// attempts is a log that has an element for each time that a bus could not connect.
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

// A cache whose changes are no longer announced must not serve: its own heartbeats would still come back.
func TestABusNoticesThatTheTriggersAreSwitchedOff(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	tries := make(attempts, 100)
	// With so long a lease it is not the lease's end that tells.
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
				t.Fatalf("the bus never says connected(%v)", want)
			}
		}
	}
	become(true)
	openPG(t, dsn, sqlstore.WithoutNotify())
	become(false)
	if b.LeasedUntil().After(time.Now()) {
		t.Error("and it is still leased")
	}
	for range 5 { // it tries again and again, and is refused
		select {
		case <-tries:
		case on := <-states:
			t.Fatalf("without the triggers it says connected(%v)", on)
		}
	}
	openPG(t, dsn) // switches them on
	become(true)
}

// A pooler that lets nobody listen: the bus goes past it, and hears what is written through it.
func TestABusListensWhereItIsTold(t *testing.T) {
	n := broken(t)
	asked := make(chan struct{}, 1)
	n.do(func(sent []byte) action {
		if !bytes.Contains(sent, []byte("LISTEN")) {
			return pass
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return cut
	})
	s := openPG(t, n.dsn, sqlstore.WithPooler(), sqlstore.WithListenDSN(n.direct))
	b := closed[*pubsub.Bus](t)(s.Bus(t.Context(), pubsub.WithLease(time.Hour), pubsub.WithLogger(slog.New(slog.DiscardHandler))))
	told := make(chan string, 10)
	defer b.Subscribe(t.Context(), func(c bus.Change) { told <- c.ThreadID }, func(on bool) { told <- fmt.Sprint(on) })()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		case <-asked:
			t.Fatal("it listens through the pooler")
		case <-time.After(time.Minute):
			t.Fatalf("waited in vain for %q", want)
		}
	}
	expect("true")
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	expect("thr_1")

	wrong := openPG(t, n.dsn, sqlstore.WithPooler(), sqlstore.WithListenDSN("postgres://ada:c4n4ry@%zz/chat"))
	if _, err := wrong.Bus(t.Context()); store.CodeOf(err) != store.CodeInvalid || strings.Contains(fmt.Sprint(err, causeOf(err)), "c4n4ry") {
		t.Errorf("a DSN that is none: %v (cause %v)", err, causeOf(err))
	}
}
