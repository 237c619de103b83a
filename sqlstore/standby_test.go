package sqlstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// inCommit waits until n sessions of a database wait in COMMIT for the synchronous standby.
func inCommit(t *testing.T, dsn string, n int) {
	t.Helper()
	pgtest.Await(t, dsn, "SELECT count(*) = $1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'", n)
}

func titled(id, title string) chat.Thread { return chat.Thread{ID: id, Title: title, CreatedAt: noon} }

// titleOf returns the title of a thread, or how loading it ended.
func titleOf(ctx context.Context, s store.Store, id string) string {
	th, err := s.LoadThread(ctx, id)
	if err != nil {
		return store.CodeOf(err).String()
	}
	return th.Title
}

// The standby receives nothing more, so no commit can be confirmed. Then the primary fails, and the standby takes its place.
func TestNoWriteIsAcknowledgedThatTheSynchronousStandbyLacks(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsns := map[string]string{"with triggers": primary.DSN(t), "without triggers": primary.DSN(t)}
	standby := primary.SynchronousStandby(t)
	writes := map[string]struct {
		do      func(context.Context, store.Store) error
		applied func(store.Store) bool
	}{
		"a thread is new": {
			func(ctx context.Context, s store.Store) error { return s.SaveThread(ctx, titled("thr_new", "new")) },
			func(s store.Store) bool { return titleOf(t.Context(), s, "thr_new") == "new" },
		},
		"a thread is replaced": {
			func(ctx context.Context, s store.Store) error { return s.SaveThread(ctx, titled("thr_0", "new")) },
			func(s store.Store) bool { return titleOf(t.Context(), s, "thr_0") == "new" },
		},
		"a thread is deleted": {
			func(ctx context.Context, s store.Store) error { return s.DeleteThread(ctx, "thr_1") },
			func(s store.Store) bool { return titleOf(t.Context(), s, "thr_1") == store.CodeNotFound.String() },
		},
		"an item is added": {
			func(ctx context.Context, s store.Store) error { return s.AddThreadItem(ctx, "thr_2", item(t, "msg_1")) },
			func(s store.Store) bool { return errOf(s.LoadItem(t.Context(), "thr_2", "msg_1")) == nil },
		},
		"an item is deleted": {
			func(ctx context.Context, s store.Store) error { return s.DeleteThreadItem(ctx, "thr_3", "msg_0") },
			func(s store.Store) bool { return errOf(s.LoadItem(t.Context(), "thr_3", "msg_0")) != nil },
		},
		"an attachment is new": {
			func(ctx context.Context, s store.Store) error { return s.SaveAttachment(ctx, attachment(t, "atc_1")) },
			func(s store.Store) bool { return errOf(s.LoadAttachment(t.Context(), "atc_1")) == nil },
		},
	}
	stores := map[string]*sqlstore.Store{}
	for name, dsn := range dsns {
		opts := []sqlstore.Option{sqlstore.WithLockTimeout(2 * time.Second)}
		if name == "without triggers" {
			opts = append(opts, sqlstore.WithoutNotify())
		}
		s := openPG(t, dsn, opts...)
		if name == "with triggers" {
			b := get[*pubsub.Bus](t)(s.Bus(t.Context())) // a Bus needs the triggers
			must(t, b.Close())
		}
		for n := range 4 {
			id := fmt.Sprint("thr_", n)
			must(t, s.SaveThread(t.Context(), titled(id, "old")))
			must(t, s.AddThreadItem(t.Context(), id, item(t, "msg_0")))
		}
		stores[name] = s
	}

	standby.Hold(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type key struct{ store, write string }
	var (
		mu   sync.Mutex
		errs = map[key]error{}
		wg   sync.WaitGroup
	)
	for name, s := range stores {
		for what, w := range writes {
			wg.Go(func() {
				err := w.do(ctx, s)
				mu.Lock()
				defer mu.Unlock()
				errs[key{name, what}] = err
			})
		}
	}
	inCommit(t, dsns["without triggers"], len(writes))
	inCommit(t, dsns["with triggers"], 1)
	cancel() // which does not cancel a COMMIT
	wg.Wait()
	primary.Kill(t)
	standby.Promote(t)

	unknown := map[string]int{}
	for name, dsn := range dsns {
		promoted := openPG(t, standby.Same(dsn))
		for n := range 4 {
			if id := fmt.Sprint("thr_", n); titleOf(t.Context(), promoted, id) == store.CodeNotFound.String() && n != 1 {
				t.Errorf("%s: %s, which the standby had, is lost", name, id)
			}
		}
		for what, w := range writes {
			err, there := errs[key{name, what}], w.applied(promoted)
			switch {
			case err == nil:
				t.Errorf("%s, %s: acknowledged, although the standby could not have it; there: %v", name, what, there)
			case !store.IsDefinite(err):
				unknown[name]++
			case there:
				t.Errorf("%s, %s: there, but its error was %v", name, what, err)
			}
		}
	}
	// NOTIFY lets only one transaction at a time commit. The others may have given up before.
	if unknown["with triggers"] == 0 || unknown["without triggers"] < len(writes) {
		t.Errorf("unknown outcomes: %v, want all without triggers, and one with them", unknown)
	}
}

func attachment(t testing.TB, id string) chat.Attachment {
	t.Helper()
	return get[chat.Attachment](t)(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: "tea.txt", MIMEType: "text/plain"}))
}

// If somebody ends the wait for the standby, the server has committed the write, warns, and answers success.
func TestAWarningAtCommitLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	dsn := primary.DSN(t)
	openPG(t, dsn, sqlstore.WithoutNotify())
	_, name, _ := strings.Cut(dsn, "dbname=")
	standby := primary.SynchronousStandby(t)
	hiding := dsn + " options='-c client_min_messages=error'"
	pooler := []sqlstore.Option{sqlstore.WithPooler()}
	n := 0
	for setting, c := range map[string]struct {
		dsn  func(t *testing.T) string
		opts []sqlstore.Option
		set  string // for the database, while the store is opened
	}{
		"the server's settings":        {func(*testing.T) string { return dsn }, nil, ""},
		"behind a pooler":              {func(t *testing.T) string { return pgtest.StartPooler(t, dsn).DSN }, pooler, ""},
		"a DSN that hides warnings":    {func(*testing.T) string { return hiding }, nil, ""},
		"such a DSN behind a pooler":   {func(*testing.T) string { return hiding }, pooler, ""},
		"a database that hides them":   {func(*testing.T) string { return dsn }, nil, "client_min_messages = error"},
		"such a database and a pooler": {func(*testing.T) string { return dsn }, pooler, "client_min_messages = error"},
	} {
		t.Run(setting, func(t *testing.T) {
			if c.set != "" {
				primary.Exec(t, dsn, "ALTER DATABASE "+name+" SET "+c.set)
				defer primary.Exec(t, dsn, "ALTER DATABASE "+name+" RESET ALL")
			}
			defer standby.Continue(t) // after a failure
			s := openPG(t, c.dsn(t), append(slices.Clip(c.opts), sqlstore.WithoutMigration())...)
			for _, how := range []string{"pg_cancel_backend", "pg_terminate_backend"} {
				n++
				standby.Hold(t)
				reported := false
				ctx := callctx.WithVersionRecorder(t.Context(), func(string, uint64, uint64) { reported = true })
				saved := make(chan error, 1)
				go func() { saved <- s.SaveThread(ctx, thread(fmt.Sprint("thr_", n))) }()
				inCommit(t, dsn, 1)
				// From the database postgres, which has no such settings.
				primary.Exec(t, strings.TrimSuffix(dsn, name)+"postgres", "SELECT "+how+"(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
				err := <-saved
				standby.Continue(t)
				if store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
					t.Errorf("%s: got %v, definite %v", how, err, store.IsDefinite(err))
				}
				if reported {
					t.Errorf("%s: a version was reported", how)
				}
			}
		})
	}
}

// Notices at COMMIT, and warnings of statements before it, say nothing about the outcome.
func TestWarningsBeforeTheCommitAndNoticesDoNoHarm(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	s := openPG(t, dsn)
	srv.Exec(t, dsn, `CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF TG_ARGV[0] = 'warning' THEN RAISE WARNING 'beware'; ELSE RAISE NOTICE 'by the way'; END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER now BEFORE INSERT ON chatstore_threads FOR EACH ROW EXECUTE FUNCTION say('warning');
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON chatstore_threads DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION say('notice')`)
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
}

// doubtful saves thr_1 with the title "held", and breaks the connection while the server waits in COMMIT for the standby. No
// request to cancel reaches the server. So its session waits on when doubtful returns.
func doubtful(t *testing.T, n *pgtest.Network, server string, s store.Store) {
	t.Helper()
	n.Do(pgtest.LoseCancels)
	saved := make(chan error, 1)
	go func() { saved <- s.SaveThread(t.Context(), titled("thr_1", "held")) }()
	inCommit(t, server, 1)
	n.Cut()
	err := <-saved
	if store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
		t.Fatalf("a save without an answer: got %v, definite %v", err, store.IsDefinite(err))
	}
	inCommit(t, server, 1)
}

// A session that waits in COMMIT outlives its client, keeps its locks, and commits in the end. Calls on the same thread
// meanwhile end like any others.
func TestCallsOnAThreadBesideACommitThatOutlivesItsClient(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	n := pgtest.NewNetwork(t, primary.DSN(t))
	opts := []sqlstore.Option{sqlstore.WithoutNotify(), sqlstore.WithRetryFor(100 * time.Millisecond), sqlstore.WithLockTimeout(200 * time.Millisecond)}
	s, other := openPG(t, n.DSN, opts...), openPG(t, n.Direct, opts...)
	steady := openPG(t, n.Direct, sqlstore.WithoutNotify(), patient) // a commit keeps its locks for a moment after its wait
	standby := primary.SynchronousStandby(t)
	must(t, s.SaveThread(t.Context(), titled("thr_1", "first")))
	standby.Hold(t)
	doubtful(t, n, n.Direct, s)

	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := map[string]error{}
	for name, s := range map[string]store.Store{"same": s, "other": other} {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if th, err := s.LoadThread(ctx, "thr_1"); err == nil && th.Title != "first" {
				t.Errorf("%s: a write that no standby has is visible: %q", name, th.Title)
			}
		})
		for id, write := range map[string]func(ctx context.Context) error{
			"msg_" + name: func(ctx context.Context) error { return s.AddThreadItem(ctx, "thr_1", item(t, "msg_"+name)) },
			"later":       func(ctx context.Context) error { return s.SaveThread(ctx, titled("thr_1", "later")) },
		} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				err := write(ctx)
				mu.Lock()
				defer mu.Unlock()
				errs[id+" "+name] = err
			})
		}
	}
	wg.Wait()
	for what, err := range errs {
		if err == nil {
			t.Errorf("%s: acknowledged, although no commit can be confirmed", what)
		}
	}

	standby.Continue(t)
	inCommit(t, n.Direct, 0)
	must(t, steady.AddThreadItem(t.Context(), "thr_1", item(t, "msg_last")))
	for name, s := range map[string]store.Store{"same": s, "other": other} {
		ctx, versions := store.WithVersions(t.Context())
		th := get[chat.Thread](t)(s.LoadThread(ctx, "thr_1"))
		p := get[store.Page[chat.Item]](t)(s.LoadThreadItems(ctx, "thr_1", store.PageQuery{}))
		ids := map[string]bool{}
		for _, it := range p.Data {
			ids[it.ID] = true
		}
		for who := range map[string]bool{"same": true, "other": true} {
			if err := errs["msg_"+who+" "+who]; store.IsDefinite(err) && ids["msg_"+who] {
				t.Errorf("%s: msg_%s is there, but its error was %v", name, who, err)
			}
		}
		later := 0 // saves that may have been applied
		for who := range map[string]bool{"same": true, "other": true} {
			if !store.IsDefinite(errs["later "+who]) {
				later++
			}
		}
		if th.Title != "held" && (later == 0 || th.Title != "later") {
			t.Errorf("%s: the title is %q", name, th.Title)
		}
		got, _ := versions.Of("thr_1")
		if sure := uint64(2 + len(p.Data)); got < sure || got > sure+uint64(later) {
			t.Errorf("%s: version %d after two saves, %d perhaps, and %d items", name, got, later, len(p.Data))
		}
	}

	// Close neither waits for such a COMMIT nor ends it.
	must(t, steady.SaveThread(t.Context(), titled("thr_1", "last")))
	standby.Hold(t)
	doubtful(t, n, n.Direct, s)
	must(t, s.Close())
	inCommit(t, n.Direct, 1)
	standby.Continue(t)
	inCommit(t, n.Direct, 0)
	if got := titleOf(t.Context(), other, "thr_1"); got != "held" {
		t.Errorf("after Close the commit ended with the title %q", got)
	}
}

// hits returns how many reads the cache of a stack has answered.
func hits(s store.Store) (n int) {
	for r := range store.All[layer.StatsReporter](s) {
		for _, st := range r.AppendStats(nil) {
			if st.Name == "chatstore_cache_requests_total" && st.Labels[1].Value == "hit" {
				n += int(st.Value)
			}
		}
	}
	return n
}

// A write of which its caller knows no outcome may commit at any time, also long after the timeouts of its statements. A cache
// must not keep what it read before.
func TestACacheSeesACommitThatOutlivesItsClient(t *testing.T) {
	t.Parallel()
	opts := []sqlstore.Option{sqlstore.WithoutNotify(), sqlstore.WithLockTimeout(time.Second), sqlstore.WithStatementTimeout(time.Second)}
	check := func(t *testing.T, n *pgtest.Network, server string, base *sqlstore.Store, standby *pgtest.Server) {
		s := store.Wrap(base, cache.New(cache.WithTTL(0)))
		must(t, s.SaveThread(t.Context(), titled("thr_1", "first")))
		standby.Hold(t)
		doubtful(t, n, server, s)

		hit := func() bool {
			before := hits(s)
			if got := titleOf(t.Context(), s, "thr_1"); got == "held" {
				t.Errorf("a write that no standby has is visible")
			}
			return hits(s) > before
		}
		// Until the cache serves again, or for as long as it might wait for the statement.
		for end := time.Now().Add(base.LongestWrite() + time.Second); !hit() && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond) // spares the processor
		}
		standby.Continue(t)
		inCommit(t, server, 0)
		// The store may need some time to learn of the commit.
		for end := time.Now().Add(time.Minute); titleOf(t.Context(), s, "thr_1") != "held"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the write is committed, but the cache still has the title %q", titleOf(t.Context(), s, "thr_1"))
			}
		}
	}
	t.Run("direct", func(t *testing.T) {
		t.Parallel()
		primary := pgtest.Start(t, fast...)
		n := pgtest.NewNetwork(t, primary.DSN(t))
		base := openPG(t, n.DSN, opts...)
		check(t, n, n.Direct, base, primary.SynchronousStandby(t))
	})
	// The connections to the pooler are older than the failover.
	t.Run("pooler", func(t *testing.T) {
		partly(t, "pooler")
		t.Parallel()
		primary := pgtest.Start(t, fast...)
		n := pgtest.NewNetwork(t, primary.DSN(t))
		must(t, sqlstore.MigratePostgres(t.Context(), n.Direct))
		base := openPooled(t, pgtest.StartPooler(t, n.DSN), opts...)
		must(t, base.SaveThread(t.Context(), thread("thr_0")))
		promoted := primary.Standby(t)
		promoted.CatchUp(t, primary)
		primary.Kill(t)
		promoted.Promote(t)
		server := promoted.Same(n.Direct)
		n.Lead(t, server)
		check(t, n, server, base, promoted.SynchronousStandby(t))
	})
}

// Sessions that outlive their clients count as connections of the pool: a store whose connections break again and again must
// not use up those of the server.
func TestSessionsThatOutliveTheirClientsCountAgainstThePool(t *testing.T) {
	t.Parallel()
	const conns = 2
	primary := pgtest.Start(t, fast...)
	n := pgtest.NewNetwork(t, primary.DSN(t))
	s := openPG(t, n.DSN+" application_name=counted", sqlstore.WithoutNotify(), sqlstore.WithMaxConns(conns))
	standby := primary.SynchronousStandby(t)
	for i := range 3 * conns {
		must(t, s.SaveThread(t.Context(), thread(fmt.Sprint("thr_", i))))
	}
	standby.Hold(t)
	n.Do(pgtest.LoseCancels)
	admin := get[*pgx.Conn](t)(pgx.Connect(t.Context(), n.Direct))
	defer func() { must(t, admin.Close(context.Background())) }()
	sessions := func(which string) (k int) {
		must(t, admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted' AND "+which).Scan(&k))
		return k
	}
	for i := range 3 * conns {
		before := sessions("wait_event = 'SyncRep'")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		saved := make(chan error, 1)
		go func() { saved <- s.AddThreadItem(ctx, fmt.Sprint("thr_", i), item(t, "msg_1")) }()
		var err error
		for ended := false; !ended && sessions("wait_event = 'SyncRep'") == before; {
			select {
			case err = <-saved:
				ended = true
				saved <- err
			case <-time.After(time.Millisecond): // spares the processor
			}
		}
		n.Cut()
		err = <-saved
		cancel()
		if err == nil {
			t.Errorf("save %d: acknowledged", i)
		}
		// One more watches the others. The server may take a moment to end one that was closed; those that wait for the standby stay.
		pgtest.Await(t, n.Direct, "SELECT count(*) <= $1 FROM pg_stat_activity WHERE application_name = 'counted'", conns+1)
	}
	standby.Continue(t)
	pgtest.Await(t, n.Direct, "SELECT count(*) = 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // until the pool has noticed
		err := s.SaveThread(ctx, thread("thr_last"))
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the pool does not recover: %v (cause %v)", err, causeOf(err))
		}
	}
}

// Under load, the synchronous standby goes away and comes back, while connections break and an operator ends the waiting
// sessions. In the end the primary fails while the standby lacks what waits for it.
func TestNothingAcknowledgedIsLostWhileTheStandbyComesAndGoes(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	n := pgtest.NewNetwork(t, primary.DSN(t))
	n.Do(pgtest.LoseCancels)
	s := openPG(t, n.DSN, sqlstore.WithoutNotify(), patient, patientLocks)
	standby := primary.SynchronousStandby(t)
	waiting := "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'"
	l := start(t, s, 4)
	for _, disturb := range []func(){
		func() {},
		func() { n.Cut() },
		func() { primary.Exec(t, n.Direct, "SELECT pg_terminate_backend(pid) "+waiting) },
		func() { primary.Exec(t, n.Direct, "SELECT pg_cancel_backend(pid) "+waiting) },
	} {
		for range tries(5, 1) {
			l.await(t, 50)
			standby.Hold(t)
			pgtest.Await(t, n.Direct, "SELECT count(*) > 0 "+waiting)
			disturb()
			standby.Continue(t)
		}
	}
	l.await(t, 50)
	standby.Hold(t)
	pgtest.Await(t, n.Direct, "SELECT count(*) > 0 "+waiting)
	primary.Kill(t)
	promoted := standby.Same(n.Direct)
	n.Lead(t, promoted)
	standby.Promote(t)
	l.await(t, 50)
	l.end(t, openPG(t, promoted, sqlstore.WithoutMigration()))
	l.patient(t)
}

// What opens a Store or a Bus changes the schema, and its COMMIT may wait for a standby too. It ends after its context.
func TestABusBesideASilentStandbyEndsAfterItsContext(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, fast...)
	s := get[*sqlstore.Store](t)(sqlstore.OpenPostgres(t.Context(), primary.DSN(t)))
	standby := primary.SynchronousStandby(t)
	standby.Hold(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	wantErr(t, errOf(s.Bus(ctx)), store.CodeTimeout)
	must(t, s.Close()) // does not wait for the standby
}
