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
)

// The machine of the primary fails under load, and the standby, which is synchronous, takes its place. The program goes on with
// the same Store, cache and Bus.
func TestAFailoverLosesNoAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, dsn string, standby *pgtest.Server, kill, promote func()) {
		base := openPG(t, dsn, patient)
		b := closed[*pubsub.Bus](t)(base.Bus(t.Context(), pubsub.WithLogger(slog.New(slog.DiscardHandler))))
		l := start(t, store.Wrap(base, cache.New(cache.WithBus(b), cache.WithTTL(0))), 8)
		l.await(t, tries(5000, 200))
		kill()
		killed := time.Now()
		l.mark()
		promote()
		promoted := time.Since(killed)
		l.await(t, tries(5000, 200))
		l.end(t, openPG(t, standby.Same(dsn), sqlstore.WithoutMigration()))
		l.patient(t)
		t.Logf("after kill -9: promoted within %d ms, the next acknowledged write after %d ms; no write was acknowledged for %d ms",
			promoted.Milliseconds(), l.after.Sub(killed).Milliseconds(), l.after.Sub(l.before).Milliseconds())
	}
	t.Run("the DSN names both hosts", func(t *testing.T) {
		t.Parallel()
		primary := pgtest.Start(t, fast...)
		dsn := primary.DSN(t)
		standby := primary.SynchronousStandby(t)
		run(t, pgtest.Hosts(standby.Same(dsn), dsn), standby, func() { primary.Kill(t) }, func() { standby.Promote(t) })
	})
	t.Run("the address moves", func(t *testing.T) {
		t.Parallel()
		primary := pgtest.Start(t, fast...)
		dsn := primary.DSN(t)
		standby := primary.SynchronousStandby(t)
		n := pgtest.NewNetwork(t, dsn)
		run(t, n.DSN, standby, func() { primary.Kill(t) }, func() {
			n.Lead(t, standby.Same(dsn)) // before it takes writes
			standby.Promote(t)
		})
	})
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
	primary.Kill(t)
	standby.Promote(t)
	promoted := openPG(t, standby.Same(dsn))
	get[chat.Thread](t)(promoted.LoadThread(t.Context(), "thr_1"))
	wantErr(t, errOf(promoted.LoadThread(t.Context(), "thr_2")), store.CodeNotFound)
}

// The network between the program and the server is slow, freezes, loses connections, and loses what it held back.
func TestNothingAcknowledgedIsLostWhenTheNetworkFails(t *testing.T) {
	t.Parallel()
	n := broken(t)
	n.Do(pgtest.LoseCancels)
	l := start(t, openPG(t, n.DSN, patient), 4)
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
