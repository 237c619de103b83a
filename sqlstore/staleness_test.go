package sqlstore_test

import (
	"fmt"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// reader reads a thread through a cache, and knows when each of its titles was written.
type reader struct {
	cached  store.Store
	written []time.Time // when the save of the title n had returned
	stale   int         // reads that missed the cache and lacked a title older than the lease
}

// follow writes and reads until done, which gets the title of each cache hit.
func (r *reader) follow(t *testing.T, writer store.Store, done func(hit int) bool) {
	t.Helper()
	for i, none := 0, -1; ; i++ {
		if i%10 == 0 {
			must(t, writer.SaveThread(t.Context(), titled("thr_1", strconv.Itoa(len(r.written)))))
			r.written = append(r.written, time.Now())
		}
		begin, before := time.Now(), hits(r.cached)
		title := titleOf(t.Context(), r.cached, "thr_1")
		newest, sure, hit := none, none, hits(r.cached) > before
		if n, err := strconv.Atoi(title); err == nil {
			newest = n
		}
		for n, at := range r.written {
			if at.Before(begin.Add(-lease)) {
				sure = n
			}
		}
		switch {
		case hit && newest < sure:
			t.Fatalf("the cache answers with title %d, although title %d was written %v before the call, more than the lease of %v",
				newest, newest+1, begin.Sub(r.written[newest+1]), lease)
		case newest < sure:
			r.stale++
		case !hit:
			newest = none
		}
		if done(newest) {
			return
		}
		time.Sleep(2 * time.Millisecond) // paces the reads
	}
}

// The bus hears the primary, but the calls of the pool go elsewhere. What they read must not be served from the cache for longer
// than a lease.
func TestNoHitIsOlderThanTheLeaseWhenThePoolReadsAnotherServer(t *testing.T) {
	t.Parallel()
	quiet := []pubsub.Option{pubsub.WithLease(lease), pubsub.WithBackoff(10*time.Millisecond, 100*time.Millisecond), pubsub.WithLogger(slog.New(slog.DiscardHandler))}
	// check switches the pool to a server that lacks all further writes, and back.
	check := func(t *testing.T, base *sqlstore.Store, writer store.Store, away func() store.Store, back func()) {
		b := closed[*pubsub.Bus](t)(base.Bus(t.Context(), quiet...))
		r := &reader{cached: store.Wrap(base, cache.New(cache.WithBus(b), cache.WithTTL(0)))}
		served := 0
		r.follow(t, writer, func(hit int) bool {
			if hit >= 0 {
				served++
			}
			return served == 20
		})
		writer = away()
		stop := make(chan struct{})
		defer close(stop)
		for i := range 3 { // other calls, so that the pool opens more connections
			go func() {
				for {
					select {
					case <-stop:
						return
					case <-t.Context().Done():
						return
					default:
						_, _ = base.LoadThread(t.Context(), fmt.Sprint("thr_missing_", i))
						time.Sleep(time.Millisecond) // paces the calls
					}
				}
			}()
		}
		end := time.Now().Add(3 * lease)
		r.follow(t, writer, func(int) bool { return time.Now().After(end) })
		t.Logf("%d reads of the other server lacked what was written more than a lease before; none came from the cache", r.stale)
		back()
		then, limit := len(r.written), time.Now().Add(time.Minute)
		r.follow(t, writer, func(hit int) bool {
			if time.Now().After(limit) {
				t.Fatal("the cache does not serve again")
			}
			return hit >= then
		})
	}

	t.Run("a pooler leads to a standby", func(t *testing.T) {
		t.Parallel()
		primary := pgtest.Start(t, fast...)
		dsn := primary.DSN(t)
		writer := openPG(t, dsn)
		standby := primary.Standby(t)
		n := pgtest.NewNetwork(t, dsn)
		p := pgtest.StartPooler(t, n.DSN)
		base := openPooled(t, p, sqlstore.WithListenDSN(dsn))
		lead := func(server *pgtest.Server) {
			n.Lead(t, server.Same(dsn))
			p.Admin(t, "RECONNECT")
		}
		check(t, base, writer, func() store.Store {
			standby.CatchUp(t, primary)
			standby.Hold(t)
			lead(standby)
			get[store.Page[chat.Thread]](t)(base.LoadThreads(t.Context(), store.ThreadQuery{}))
			pgtest.Await(t, standby.Same(dsn), "SELECT count(*) > 1 FROM pg_stat_activity WHERE datname = current_database()")
			return writer
		}, func() {
			standby.Continue(t)
			lead(primary)
		})
	})

	// The old primary did not notice that a standby was promoted. The connections of the pool stay with it, new ones do not.
	t.Run("there are two primaries", func(t *testing.T) {
		t.Parallel()
		primary := pgtest.Start(t, fast...)
		dsn := primary.DSN(t)
		n := pgtest.NewNetwork(t, dsn)
		base := openPG(t, n.DSN, patient, sqlstore.WithMaxConns(4))
		standby := primary.Standby(t)
		check(t, base, openPG(t, dsn), func() store.Store {
			standby.CatchUp(t, primary)
			standby.Promote(t)
			n.Lead(t, standby.Same(dsn))
			primary.Exec(t, dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'chatstore bus'")
			return openPG(t, standby.Same(dsn))
		}, func() { primary.Kill(t) })
	})
}
