package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/grants"
)

func TestGrantsConform(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		grants.Run(t, func(t *testing.T) sharing.Store { return open(t, sqlstore.WithTablePrefix("shared_")) })
	})
	for _, level := range []string{"serializable", "repeatable read"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			open := postgres(pgtest.Shared(t).DSN(t) + " options='-c default_transaction_isolation=" + strings.ReplaceAll(level, " ", `\\ `) + "'")
			grants.Run(t, func(t *testing.T) sharing.Store { return open(t) })
		})
	}
	t.Run("pgbouncer", func(t *testing.T) {
		t.Parallel()
		p, _ := pooled(t, pgtest.Shared(t), "default_pool_size = 3")
		grants.Run(t, func(t *testing.T) sharing.Store { return openPooled(t, p) })
	})
	t.Run("with a bus", func(t *testing.T) {
		t.Parallel()
		s := openPG(t, pgtest.Shared(t).DSN(t), patient)
		bus := get[interface{ Close() error }](t)(s.Bus(t.Context()))
		t.Cleanup(func() { must(t, bus.Close()) })
		grants.Run(t, func(*testing.T) sharing.Store { return s })
	})
}

var bob = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "bob"}, Roles: []string{"eng"}}

// shared returns a store with threads of ada that are shared with bob.
func shared(t testing.TB, open opener, n int) *sqlstore.Store {
	t.Helper()
	s := open(t)
	for i := range n {
		th := thread(fmt.Sprintf("thr_%d", i))
		th.Owner = ada
		must(t, s.SaveThread(t.Context(), th))
		must(t, s.Grant(t.Context(), sharing.Grant{ThreadID: th.ID, To: sharing.Grantee{Tenant: "acme", Subject: "bob"}, Role: sharing.Viewer}))
	}
	return s
}

// A program of the edition before knows no grants, and may run until it is replaced. Its statement ends them all the same.
// MySQL has no older programs.
func TestADeletionByAnOlderProgramEndsTheGrants(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		s := shared(t, open, 2)
		if s.LayerName() == "mysql" {
			return
		}
		must(t, sqlstore.Exec(s, "UPDATE "+sqlstore.Table(s, "threads")+" SET state = 1, doc = '', version = version + 1 WHERE id = 'thr_0' AND state = 0"))
		must(t, sqlstore.Exec(s, "DELETE FROM "+sqlstore.Table(s, "threads")+" WHERE id = 'thr_1'")) // nor does an operator
		var n int
		must(t, sqlstore.Query(s, "SELECT count(*) FROM "+sqlstore.Table(s, "grants"), &n))
		if n != 0 {
			t.Errorf("%d grants are left", n)
		}
	})
}

// The trigger needs neither the program's rights nor its search path.
func TestTheGrantsOfADeletedThreadEndWhateverTheProgramMayAndFinds(t *testing.T) {
	srv := pgtest.Shared(t)
	dsn := srv.DSN(t)
	must(t, sqlstore.MigratePostgres(t.Context(), dsn)) // in public
	other := openPG(t, dsn, sqlstore.WithSchema("other"))
	th := thread("thr_1")
	th.Owner = ada
	to := sharing.Grant{ThreadID: "thr_1", To: sharing.Grantee{Tenant: "acme", Subject: "bob"}, Role: sharing.Viewer}
	must(t, other.SaveThread(t.Context(), th))
	must(t, other.Grant(t.Context(), to))
	s := openPG(t, dsn)
	must(t, s.SaveThread(t.Context(), th))
	must(t, s.Grant(t.Context(), to))

	role := "older_" + strings.ToLower(dsn[strings.LastIndex(dsn, "=")+1:])
	srv.Exec(t, dsn, fmt.Sprintf(`CREATE ROLE %[1]s LOGIN; ALTER ROLE %[1]s SET search_path = other;
		GRANT SELECT, UPDATE ON public.chatstore_threads TO %[1]s; GRANT USAGE ON SCHEMA other TO %[1]s`, role))
	older := closed[*sql.DB](t)(sql.Open("pgx", strings.Replace(dsn, "user=chat", "user="+role, 1)))
	get[sql.Result](t)(older.ExecContext(t.Context(), "UPDATE public.chatstore_threads SET state = 1, doc = '', version = version + 1 WHERE id = 'thr_1'"))
	for _, c := range []struct {
		s    *sqlstore.Store
		want int
	}{{s, 0}, {other, 1}} {
		if p := get[store.Page[sharing.Grant]](t)(c.s.Grantees(t.Context(), "thr_1", "", 0)); len(p.Data) != c.want {
			t.Errorf("%d grants are left, want %d", len(p.Data), c.want)
		}
	}
}

// Of grants of one time, the one of the higher thread id or grantee comes first. Pages may end between them.
func TestGrantsOfOneTime(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		s := shared(t, open, 4)
		for _, to := range []sharing.Grantee{{Tenant: "acme", Group: "eng"}, {Tenant: "acme"}, {Tenant: "acme", Subject: "cleo"}, {Tenant: "bold"}} {
			must(t, s.Grant(t.Context(), sharing.Grant{ThreadID: "thr_1", To: to, Role: sharing.Viewer}))
		}
		must(t, sqlstore.Exec(s, "UPDATE "+sqlstore.Table(s, "grants")+" SET granted_at = 1700000000000000"))
		for limit := 1; limit < 6; limit++ {
			var threads, grantees string
			for after := ""; ; {
				p := get[store.Page[sharing.Grant]](t)(s.SharedWith(t.Context(), bob, after, limit))
				for _, g := range p.Data {
					threads += fmt.Sprint(g.ThreadID, g.To.Subject, " ")
				}
				if after = p.After; !p.HasMore {
					break
				}
			}
			for after := ""; ; {
				p := get[store.Page[sharing.Grant]](t)(s.Grantees(t.Context(), "thr_1", after, limit))
				for _, g := range p.Data {
					grantees += fmt.Sprint(g.To)
				}
				if after = p.After; !p.HasMore {
					break
				}
			}
			if want := "thr_3bob thr_2bob thr_1bob thr_0bob "; threads != want {
				t.Errorf("SharedWith in pages of %d: got %s, want %s", limit, threads, want)
			}
			if want := "{bold  }{acme cleo }{acme bob }{acme  eng}{acme  }"; grantees != want {
				t.Errorf("Grantees in pages of %d: got %s, want %s", limit, grantees, want)
			}
		}
	})
}

// Caches have no grants, so a grant is no change of its thread.
func TestAGrantIsNoChangeOfTheThread(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		s := shared(t, open, 1)
		must(t, s.Revoke(t.Context(), "thr_0", sharing.Grantee{Tenant: "acme", Subject: "bob"}))
		if _, versions, err := s.ThreadVersions(t.Context(), []string{"thr_0"}); err != nil || versions[0] != 1 {
			t.Errorf("the thread has version %d, %v, want 1", versions, err)
		}
	})
}

// BenchmarkAccess asks for the access of a principal with three roles, as package authz does on every call of another owner's
// thread. A busy subject or thread has 10,000 grants. The ratio is to LoadThread, called in turns.
//
//	go test -run '^$' -bench Access -benchtime 2000x .
func BenchmarkAccess(b *testing.B) {
	ctx := context.Background()
	bases := engines(b)
	for _, name := range []string{"sqlite", "postgres"} {
		s := bases[name]
		p := store.Principal{Owner: bob.Owner, Roles: []string{"eng", "ops", "all"}}
		busy := store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "busy"}}
		for i := range 10_000 {
			th := thread(fmt.Sprintf("thr_%d", i))
			th.Owner = ada
			must(b, s.SaveThread(ctx, th))
			for _, g := range []sharing.Grant{
				{ThreadID: th.ID, To: sharing.Grantee{Tenant: "acme", Subject: "busy"}},
				{ThreadID: "thr_0", To: sharing.Grantee{Tenant: "acme", Subject: fmt.Sprint("s", i)}},
				{ThreadID: th.ID, To: sharing.Grantee{Tenant: "acme", Subject: "bob"}},
				{ThreadID: th.ID, To: sharing.Grantee{Tenant: "acme", Group: "eng"}},
			} {
				if g.Role = sharing.Viewer; i < 10 || g.To.Subject == "busy" || g.ThreadID == "thr_0" {
					must(b, s.Grant(ctx, g))
				}
			}
		}
		if name == "postgres" { // it does so itself; SQLite does not
			must(b, sqlstore.Exec(s, "ANALYZE"))
		}
		for _, c := range []struct {
			name string
			call func(i int) error
		}{
			{"access", func(i int) error { return errOf(s.Access(ctx, p, fmt.Sprintf("thr_%d", i%10))) }},
			{"access, none", func(i int) error { return errOf(s.Access(ctx, p, fmt.Sprintf("thr_%d", 10+i%9_990))) }},
			{"access, busy subject", func(i int) error { return errOf(s.Access(ctx, busy, fmt.Sprintf("thr_%d", i%10_000))) }},
			{"access, busy thread", func(int) error { return errOf(s.Access(ctx, p, "thr_0")) }},
			{"shared_with, busy subject", func(int) error { return errOf(s.SharedWith(ctx, busy, "", 20)) }},
			{"grantees, busy thread", func(int) error { return errOf(s.Grantees(ctx, "thr_0", "", 20)) }},
		} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				var took [2]time.Duration
				for i := 0; b.Loop(); i++ {
					begin := time.Now()
					must(b, c.call(i))
					middle := time.Now()
					must(b, errOf(s.LoadThread(ctx, fmt.Sprintf("thr_%d", i%10_000))))
					took[0] += middle.Sub(begin)
					took[1] += time.Since(middle)
				}
				b.ReportMetric(float64(took[0].Microseconds())/float64(b.N), "µs/call")
				b.ReportMetric(float64(took[0])/float64(took[1]), "ratio")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
