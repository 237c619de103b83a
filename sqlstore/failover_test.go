package sqlstore_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/fleet"
)

// The machine of the primary fails under load, and the standby, which is synchronous, takes its place. The program goes on with
// the same Store, cache and Bus.
func TestAFailoverLosesNoAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, base *sqlstore.Store, promoted string, kill, promote func()) {
		b := closed[*pubsub.Bus](t)(base.Bus(t.Context(), pubsub.WithLogger(slog.New(slog.DiscardHandler))))
		l := start(t, store.Wrap(base, cache.New(cache.WithBus(b), cache.WithTTL(0))), 8)
		l.await(t, tries(2000, 200))
		l.mark()
		kill()
		killed := time.Now()
		promote()
		took := time.Since(killed)
		l.await(t, tries(2000, 200))
		l.end(t, openPG(t, promoted, sqlstore.WithoutMigration()))
		l.patient(t)
		t.Logf("after kill -9 the standby took writes within %d ms; no write was acknowledged for %d ms", took.Milliseconds(), l.gap.Milliseconds())
	}
	for name, open := range map[string]func(t *testing.T, n *pgtest.Network, standby string) *sqlstore.Store{
		"the DSN names both hosts": func(t *testing.T, n *pgtest.Network, standby string) *sqlstore.Store {
			return openPG(t, pgtest.Hosts(standby, n.Direct), patient)
		},
		"the address moves": func(t *testing.T, n *pgtest.Network, _ string) *sqlstore.Store {
			return openPG(t, n.DSN, patient)
		},
		"the address moves behind a pooler": func(t *testing.T, n *pgtest.Network, _ string) *sqlstore.Store {
			must(t, sqlstore.MigratePostgres(t.Context(), n.Direct))
			return openPooled(t, pgtest.StartPooler(t, n.DSN), sqlstore.WithListenDSN(n.DSN))
		},
	} {
		t.Run(name, func(t *testing.T) {
			partly(t, "the_address_moves")
			t.Parallel()
			primary := pgtest.Start(t, fast...)
			n := pgtest.NewNetwork(t, primary.DSN(t))
			standby := primary.SynchronousStandby(t)
			promoted := standby.Same(n.Direct)
			run(t, open(t, n, promoted), promoted, func() { primary.Kill(t) }, func() {
				n.Lead(t, promoted) // before it takes writes
				standby.Promote(t)
			})
		})
	}
}

// A standby that is not synchronous lacks what had not reached it when the primary failed, although the writes were acknowledged.
func TestAFailoverToAnAsynchronousStandbyLosesWhatHadNotReachedIt(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsn := primary.DSN(t)
	s := openPG(t, dsn)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	standby := primary.Standby(t)
	standby.CatchUp(t, primary)
	standby.Hold(t)
	must(t, s.SaveThread(t.Context(), thread("thr_2")))
	before, _, err := s.ThreadVersions(t.Context(), nil)
	must(t, err)
	primary.Kill(t)
	standby.Promote(t)
	promoted := openPG(t, standby.Same(dsn))
	get[chat.Thread](t)(promoted.LoadThread(t.Context(), "thr_1"))
	wantErr(t, errOf(promoted.LoadThread(t.Context(), "thr_2")), store.CodeNotFound)
	if after, _, err := promoted.ThreadVersions(t.Context(), nil); err != nil || after == before {
		t.Errorf("versions went back, but the epoch is %q still (%v)", after, err)
	}
}

// The network between the program and the server is slow, freezes, loses connections, and loses what it held back.
func TestNothingAcknowledgedIsLostWhenTheNetworkFails(t *testing.T) {
	t.Parallel()
	n := broken(t)
	n.Do(pgtest.LoseCancels)
	// Lock timeouts are not retried. A transaction that is frozen keeps its locks longer than the default.
	l := start(t, openPG(t, n.DSN, patient, sqlstore.WithLockTimeout(time.Minute)), 4)
	freeze := func(d time.Duration) {
		n.Freeze()
		time.Sleep(d)
	}
	disturb := []func(){
		func() { n.Cut() },
		func() { n.Delay(2 * time.Millisecond) },
		func() { freeze(200 * time.Millisecond); n.Thaw() },
		func() { freeze(200 * time.Millisecond); n.Cut(); n.Thaw() },
		func() { n.Lead(t, ""); n.Cut(); time.Sleep(200 * time.Millisecond); n.Lead(t, n.Direct) },
	}
	for _, f := range disturb {
		for range tries(5, 1) {
			l.await(t, 50)
			f()
		}
	}
	if testenv.Full {
		l.await(t, 50)
		freeze(20 * time.Second) // longer than a COMMIT waits for its answer
		n.Thaw()
	}
	l.await(t, 50)
	l.end(t, openPG(t, n.Direct, sqlstore.WithoutMigration()))
	l.patient(t)
}

// A connection that is used all the time is closed too.
func TestConnectionsHaveALimitedLife(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn+" application_name=lived", sqlstore.WithConnLifetime(100*time.Millisecond), sqlstore.WithMaxConns(2))
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = s.LoadThread(t.Context(), "thr_1")
				time.Sleep(time.Millisecond) // spares the processor
			}
		}
	}()
	const oldest = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lived'"
	for range 2 {
		pgtest.Await(t, dsn, "SELECT count(*) > 0 "+oldest)
		pgtest.Await(t, dsn, "SELECT count(*) = 0 "+oldest+" AND backend_start < $1", time.Now())
	}
	close(stop)
	<-ended
}

// The caches of three processes, and their buses, survive a failover.
func TestNoProcessReadsWhatIsOlderThanTheLeaseInAFailover(t *testing.T) {
	if !testenv.Full {
		t.Skip("runs with CHATSTORE_FULL=1")
	}
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsn := primary.DSN(t)
	openPG(t, dsn) // which migrates it
	standby := primary.SynchronousStandby(t)
	hosts := pgtest.Hosts(dsn, standby.Same(dsn))
	fleet.Run(t, fleet.Fleet{
		Args: []string{hosts}, Bound: lease, Base: openPG(t, hosts, patient),
		Disturb: []func(){func() {
			primary.Kill(t)
			standby.Promote(t)
		}},
	})
}
