package sqlstore_test

import (
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// The machine of the primary fails under load, and the standby, which is synchronous, takes its place. The DSN names both. The
// program goes on with the same Store, cache and Bus.
func TestAFailoverLosesNoAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsn := primary.DSN(t)
	standby := primary.SynchronousStandby(t)
	base := openPG(t, pgtest.Hosts(standby.Same(dsn), dsn), patient)
	b := closed[*pubsub.Bus](t)(base.Bus(t.Context()))
	l := start(t, store.Wrap(base, cache.New(cache.WithBus(b), cache.WithTTL(0))), 8)
	l.await(t, tries(5000, 200))
	primary.Kill(t)
	killed := time.Now()
	l.mark()
	standby.Promote(t)
	promoted := time.Since(killed)
	l.await(t, tries(5000, 200))
	l.end(t, openPG(t, standby.Same(dsn), sqlstore.WithoutMigration()))
	l.patient(t)
	t.Logf("after kill -9: promoted within %d ms, the next acknowledged write after %d ms; no write was acknowledged for %d ms",
		promoted.Milliseconds(), l.after.Sub(killed).Milliseconds(), l.after.Sub(l.before).Milliseconds())
}

// A standby that is not synchronous lacks what had not reached it when the primary failed, although the writes were acknowledged.
func TestAFailoverToAnAsynchronousStandbyLosesWhatHadNotReachedIt(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsn := primary.DSN(t)
	s := openPG(t, dsn)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	standby := primary.Standby(t)
	standby.Hold(t)
	must(t, s.SaveThread(t.Context(), thread("thr_2")))
	primary.Kill(t)
	standby.Promote(t)
	promoted := openPG(t, standby.Same(dsn))
	get[chat.Thread](t)(promoted.LoadThread(t.Context(), "thr_1"))
	wantErr(t, errOf(promoted.LoadThread(t.Context(), "thr_2")), store.CodeNotFound)
}
