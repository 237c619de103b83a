package sqlstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/internal/proxy"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// A write takes two round trips, whatever its stamp and deadline: its statements, then COMMIT. A read takes one. On MySQL, it first
// looks a cursor of threads up.
func TestAWriteTakesTwoRoundTripsAndAReadOne(t *testing.T) {
	one := sqlstore.WithMaxConns(1)
	for name, wire := range map[string]func(t *testing.T) (*proxy.Proxy, *sqlstore.Store){
		"direct": func(t *testing.T) (*proxy.Proxy, *sqlstore.Store) {
			n := broken(t)
			return n.Proxy, openPG(t, n.DSN, one)
		},
		"pooler": func(t *testing.T) (*proxy.Proxy, *sqlstore.Store) {
			n := broken(t)
			return n.Proxy, openPG(t, n.DSN, one, sqlstore.WithPooler())
		},
		"mariadb": func(t *testing.T) (*proxy.Proxy, *sqlstore.Store) {
			n := mysqltest.NewNetwork(t, mysqltest.Shared(t).DSN(t))
			return n.Proxy, openMySQL(t, n.DSN, one)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, s := wire(t)
			cursor := int64(1)
			if name == "mariadb" {
				cursor = 2
			}
			ctx, cancel := context.WithTimeout(bus.WithStamp(t.Context(), bus.Stamp{Origin: "cache", Write: 1}), time.Minute)
			defer cancel()
			a := get[chat.Attachment](t)(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))
			var trips atomic.Int64
			n.Do(func([]byte) proxy.Action { trips.Add(1); return proxy.Pass })
			for _, c := range []struct {
				name string
				want int64
				call func() error
			}{
				{"SaveThread", 2, func() error { return s.SaveThread(ctx, thread("thr_1")) }},
				{"SaveItem", 2, func() error { return s.SaveItem(ctx, "thr_1", item(t, "msg_1")) }},
				{"SaveItem under a condition", 2, func() error {
					ctx, read := store.WithVersions(ctx)
					get[chat.Thread](t)(s.LoadThread(ctx, "thr_1"))
					trips.Store(0)
					version, _ := read.Of("thr_1")
					return s.SaveItem(store.IfVersion(ctx, "thr_1", version), "thr_1", item(t, "msg_1"))
				}},
				{"DeleteThreadItem", 2, func() error {
					must(t, s.SaveItem(ctx, "thr_1", item(t, "msg_1")))
					trips.Store(0)
					return s.DeleteThreadItem(ctx, "thr_1", "msg_1")
				}},
				{"SaveAttachment", 2, func() error { return s.SaveAttachment(ctx, a) }},
				{"DeleteAttachment", 2, func() error { return s.DeleteAttachment(ctx, "atc_1") }},
				{"LoadThread", 1, func() error { return errOf(s.LoadThread(ctx, "thr_1")) }},
				{"LoadThreadItems", 1, func() error { return errOf(s.LoadThreadItems(ctx, "thr_1", store.PageQuery{After: "msg_1"})) }},
				{"LoadThreads", 1, func() error { return errOf(s.LoadThreads(ctx, store.ThreadQuery{})) }},
				{"LoadThreads after a thread", cursor, func() error {
					return errOf(s.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner(), PageQuery: store.PageQuery{After: "thr_1"}}))
				}},
				{"Grant", 2, func() error {
					must(t, s.SaveThread(ctx, chat.Thread{ID: "thr_2", CreatedAt: noon, Owner: ada}))
					trips.Store(0)
					return s.Grant(ctx, sharing.Grant{ThreadID: "thr_2", To: sharing.Grantee{Tenant: "acme", Subject: "eve"}, Role: sharing.Viewer, By: ada})
				}},
				{"EraseOwner", 2, func() error {
					return errOf(s.EraseOwner(ctx, chat.Owner{Tenant: "acme", Subject: "nobody"}))
				}},
				{"DeleteThread", 2, func() error {
					must(t, s.SaveThread(ctx, thread("thr_1")))
					trips.Store(0)
					return s.DeleteThread(ctx, "thr_1")
				}},
			} {
				for range 2 { // the first prepares the statements
					trips.Store(0)
					must(t, c.call())
				}
				if got := trips.Load(); got != c.want {
					t.Errorf("%s: %d round trips, want %d", c.name, got, c.want)
				}
			}
		})
	}
}

// A program's own pool keeps its settings and its life, and the Store keeps its promises on it.
func TestAStoreOverTheProgramsPool(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	cfg := get[*pgxpool.Config](t)(pgxpool.ParseConfig(dsn))
	var queries atomic.Int64
	cfg.ConnConfig.Tracer = counting{&queries}
	user := cfg.ConnConfig.User
	cfg.ConnConfig.User = "nobody"
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error { // as where passwords change
		c.User = user
		return nil
	}
	cfg.MaxConns = 3
	pool := get[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), cfg))
	defer pool.Close()
	s := get[*sqlstore.Store](t)(sqlstore.NewPostgres(t.Context(), pool))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	b := closed[*pubsub.Bus](t)(s.Bus(t.Context())) // it has a connection of its own
	for b.LeasedUntil().IsZero() {
	}
	before := queries.Load()
	get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_1"))
	if queries.Load() == before {
		t.Error("the pool's tracer sees no query")
	}

	// A cancelled call is cancelled at the server, though the pool's own way is to close the connection.
	cancelledWhileBlocked(t, s, dsn)

	must(t, b.Close())
	must(t, s.Close())
	wantErr(t, errOf(s.LoadThread(t.Context(), "thr_1")), store.CodeUnavailable)
	must(t, pool.Ping(t.Context()))
}

func TestAPoolThatTheStoreCannotUseIsRefused(t *testing.T) {
	wantErr(t, errOf(sqlstore.NewPostgres(t.Context(), nil)), store.CodeInvalid)
	cfg := get[*pgxpool.Config](t)(pgxpool.ParseConfig(pgtest.Shared(t).DSN(t)))
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool := get[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), cfg))
	defer pool.Close()
	wantErr(t, errOf(sqlstore.NewPostgres(t.Context(), pool)), store.CodeInvalid)
}

type counting struct{ n *atomic.Int64 }

func (c counting) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}
func (c counting) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestConnectionsWithoutALimitedLifeStay(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	var first, second int
	lasting := openPG(t, dsn, sqlstore.WithMaxConns(1), sqlstore.WithConnLifetime(0))
	must(t, sqlstore.Query(lasting, "SELECT pg_backend_pid()", &first))
	must(t, sqlstore.Query(lasting, "SELECT pg_backend_pid()", &second))
	if first != second {
		t.Error("a connection without a limited life ended")
	}
}

// A metrics layer above finds the pool's numbers.
func TestThePoolsNumbersAreReported(t *testing.T) {
	dsn := pgtest.Shared(t).DSN(t)
	s := openPG(t, dsn, sqlstore.WithMaxConns(2))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	number := func(name, state string) (v float64) {
		for r := range store.All[layer.StatsReporter](s) {
			for _, st := range r.AppendStats(nil) {
				if st.Name == name && st.Labels[0].Value == state {
					return st.Value
				}
			}
		}
		t.Errorf("no %s %s", name, state)
		return 0
	}
	if n := number("chatstore_pool_connections_max", ""); n != 2 {
		t.Errorf("max is %v", n)
	}
	if n := number("chatstore_pool_connections", "idle"); n < 1 {
		t.Errorf("%v connections are idle", n)
	}
	waits := number("chatstore_pool_waits_total", "")
	tx := begun(t, dsn, lockThreads)
	calls := make(chan error)
	for i := range 3 {
		go func() { calls <- s.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprint("msg_", i))) }()
	}
	blocked(t, tx)
	for number("chatstore_pool_connections", "in_use") < 2 {
	}
	must(t, tx.Rollback(t.Context()))
	for range 3 {
		must(t, <-calls)
	}
	if after := number("chatstore_pool_waits_total", ""); after <= waits || number("chatstore_pool_wait_seconds_total", "") == 0 {
		t.Errorf("one call waited for a connection, but the waits went from %v to %v", waits, after)
	}
}

// A tracer that panics must not cost the pool a connection.
func TestAPanicOfTheProgramsTracerLosesNoConnection(t *testing.T) {
	cfg := get[*pgxpool.Config](t)(pgxpool.ParseConfig(pgtest.Shared(t).DSN(t)))
	var panics atomic.Bool
	cfg.ConnConfig.Tracer = panicking{&panics}
	cfg.MaxConns = 1
	pool := get[*pgxpool.Pool](t)(pgxpool.NewWithConfig(t.Context(), cfg))
	defer pool.Close()
	s := closing(t)(sqlstore.NewPostgres(t.Context(), pool))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	calls := map[string]func(){
		"read":  func() { _, _ = s.LoadThread(t.Context(), "thr_1") },
		"write": func() { _ = s.SaveThread(t.Context(), thread("thr_1")) },
	}
	for name, call := range calls {
		for _, fresh := range []bool{false, true} {
			if fresh {
				pool.Reset() // the next connection is greeted
			}
			panics.Store(true)
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", name)
					}
				}()
				call()
			}()
			panics.Store(false)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			must(t, s.SaveThread(ctx, thread("thr_1")))
			cancel()
		}
	}
}

type panicking struct{ on *atomic.Bool }

func (p panicking) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if p.on.Load() {
		panic("in the tracer")
	}
	return ctx
}
func (panicking) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (p panicking) TraceBatchStart(ctx context.Context, c *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return p.TraceQueryStart(ctx, c, pgx.TraceQueryStartData{})
}
func (panicking) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (panicking) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
