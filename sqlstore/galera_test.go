package sqlstore_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// onNodes opens a store of a new database at each node of a cluster.
func onNodes(t testing.TB, c *mysqltest.Cluster, opts ...sqlstore.Option) (dsn string, stores []*sqlstore.Store) {
	t.Helper()
	dsn = c.DSN(t)
	for _, node := range c.Nodes {
		stores = append(stores, openMySQL(t, node.Same(dsn), append([]sqlstore.Option{patient, patientLocks}, opts...)...))
	}
	return dsn, stores
}

func TestOfSeveralHostsEachIsTried(t *testing.T) {
	t.Parallel()
	node := mysqltest.Shared(t)
	dsn := atNodes(t, node.DSN(t), node)
	s := openMySQL(t, strings.Replace(dsn, "tcp(", "tcp(127.0.0.1:1,127.0.0.2:1,", 1), sqlstore.WithRetryFor(time.Second))
	must(t, s.SaveThread(t.Context(), thread("thr_1")))
	must(t, s.CheckHealth(t.Context()))
}

// status adds up a status variable of all nodes.
func status(t testing.TB, c *mysqltest.Cluster, variable string) (sum int) {
	t.Helper()
	for _, node := range c.Nodes {
		n := 0
		const query = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = ?"
		must(t, node.Admin(t, "").QueryRow(query, variable).Scan(&n))
		sum += n
	}
	return sum
}

// sees returns the ways to read a thread with an item, an attachment and a grant to bob. Each reports whether it finds the title.
// Without one, it reports whether it finds nothing.
func sees(t testing.TB, s *sqlstore.Store, id, title string) map[string]func() bool {
	ctx := t.Context()
	there := title != ""
	in := func(found bool, err error) bool {
		switch {
		case store.CodeOf(err) == store.CodeNotFound:
			return !there
		case err != nil:
			t.Errorf("%v (cause %v)", err, causeOf(err))
		}
		return found == there
	}
	return map[string]func() bool{
		"LoadThread": func() bool {
			th, err := s.LoadThread(ctx, id)
			return in(th.Title == title, err)
		},
		"LoadThreads": func() bool {
			p, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada)})
			return in(slices.ContainsFunc(p.Data, func(th chat.Thread) bool { return th.ID == id && (th.Title == title || !there) }), err)
		},
		"LoadItem": func() bool {
			_, err := s.LoadItem(ctx, id, "msg_1")
			return in(true, err)
		},
		"LoadThreadItems": func() bool {
			p, err := s.LoadThreadItems(ctx, id, store.PageQuery{})
			return in(len(p.Data) > 0, err)
		},
		"LoadAttachment": func() bool {
			_, err := s.LoadAttachment(ctx, id)
			return in(true, err)
		},
		"ListAttachments": func() bool {
			p, err := s.ListAttachments(ctx, store.ThreadQuery{Owner: store.AnyOwner()})
			return in(slices.ContainsFunc(p.Data, func(a chat.Attachment) bool { return a.ID == id }), err)
		},
		"ListTombstones": func() bool {
			before := id[:len(id)-1] + string(id[len(id)-1]-1) // the page has no room for all
			p, err := s.ListTombstones(ctx, store.RowThread, store.PageQuery{Order: store.OldestFirst, After: before})
			return in(!slices.ContainsFunc(p.Data, func(d driver.Tombstone) bool { return d.ID == id }), err)
		},
		"Access": func() bool {
			a, err := s.Access(ctx, bob, id)
			return in(a.Role == sharing.Viewer, err)
		},
		"Grantees": func() bool {
			p, err := s.Grantees(ctx, id, "", 0)
			return in(len(p.Data) == 1, err)
		},
		"SharedWith": func() bool {
			p, err := s.SharedWith(ctx, bob, "", 0)
			return in(slices.ContainsFunc(p.Data, func(g sharing.Grant) bool { return g.ThreadID == id }), err)
		},
	}
}

func toBob(id string) sharing.Grant {
	return sharing.Grant{ThreadID: id, To: sharing.Grantee{Tenant: "acme", Subject: "bob"}, Role: sharing.Viewer}
}

func adas(id, title string) chat.Thread {
	th := titled(id, title)
	th.Owner = ada
	return th
}

// Each call is at another node than the one before it. It reads or decides by what the one before has written. Others write
// meanwhile, so that the nodes are behind.
func TestCallsAtOtherNodesOfAClusterSeeWritesThatHaveReturned(t *testing.T) {
	t.Parallel()
	_, nodes := onNodes(t, mysqltest.SharedCluster(t))
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	for n, s := range nodes {
		must(t, s.SaveThread(t.Context(), thread(fmt.Sprint("thr_busy_", n))))
		others.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				must(t, s.AddThreadItem(t.Context(), fmt.Sprint("thr_busy_", n), item(t, fmt.Sprint("msg_", i))))
			}
		})
	}
	mode := func(m store.SaveMode) context.Context { return store.WithSaveMode(t.Context(), m) }
	for round := range tries(60, 10) {
		id := fmt.Sprint("thr_", round)
		turn := round
		next := func() *sqlstore.Store {
			turn++
			return nodes[turn%len(nodes)]
		}
		look := func(title string) {
			t.Helper()
			var wg sync.WaitGroup
			for n, s := range nodes {
				for how, ok := range sees(t, s, id, title) {
					wg.Go(func() {
						if !ok() {
							t.Errorf("round %d, title %q: %s at node %d reads an old state", round, title, how, n)
						}
					})
				}
			}
			wg.Wait()
		}
		for _, title := range []string{"first", "again"} { // the second time, the rows are deleted ones
			must(t, next().SaveThread(mode(store.InsertOnly), adas(id, "before")))
			wantErr(t, next().SaveThread(mode(store.InsertOnly), adas(id, "before")), store.CodeConflict)
			a := attachment(t, id)
			must(t, next().SaveAttachment(mode(store.InsertOnly), a))
			must(t, next().SaveAttachment(mode(store.UpdateOnly), a))
			must(t, next().AddThreadItem(t.Context(), id, item(t, "msg_1")))
			must(t, next().Grant(t.Context(), toBob(id)))
			must(t, next().SaveItem(mode(store.UpdateOnly), id, item(t, "msg_1")))
			_, versions, err := next().ThreadVersions(t.Context(), []string{id})
			must(t, err)
			must(t, next().SaveThread(store.IfVersion(t.Context(), id, versions[0]), adas(id, title)))
			wantErr(t, next().SaveThread(store.IfVersion(t.Context(), id, versions[0]), adas(id, title)), store.CodeConflict)
			look(title)
			must(t, next().Revoke(t.Context(), id, toBob(id).To))
			if a := get[sharing.Access](t)(next().Access(t.Context(), bob, id)); a.Role != 0 {
				t.Errorf("round %d: the grant is there after Revoke", round)
			}
			must(t, next().Grant(t.Context(), toBob(id)))
			must(t, next().DeleteThreadItem(t.Context(), id, "msg_1"))
			wantErr(t, next().SaveItem(mode(store.UpdateOnly), id, item(t, "msg_1")), store.CodeNotFound)
			must(t, next().DeleteAttachment(t.Context(), id))
			wantErr(t, next().SaveAttachment(mode(store.UpdateOnly), a), store.CodeNotFound)
			must(t, next().DeleteThread(t.Context(), id))
			wantErr(t, next().AddThreadItem(t.Context(), id, item(t, "msg_1")), store.CodeNotFound)
			wantErr(t, next().Grant(t.Context(), toBob(id)), store.CodeNotFound)
			look("")
		}
	}
}

// Several programs at each node write one thread. A certification failure at COMMIT is definite, so all writes are retried until they
// are acknowledged. None is lost or made twice, and no version goes back.
func TestWritersOfOneThreadAtAllNodesOfACluster(t *testing.T) {
	t.Parallel()
	c := mysqltest.SharedCluster(t)
	_, nodes := onNodes(t, c)
	must(t, nodes[0].SaveThread(t.Context(), titled("thr_1", "0")))
	const certified, aborted = "WSREP_LOCAL_CERT_FAILURES", "WSREP_LOCAL_BF_ABORTS" // at COMMIT, and before or at COMMIT
	certifiedBefore, abortedBefore := status(t, c, certified), status(t, c, aborted)
	th := &loaded{id: "thr_1"}
	var (
		acknowledged atomic.Int64
		wg, readers  sync.WaitGroup
	)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for n, s := range nodes {
		for w := range 3 {
			wg.Go(func() {
				for i := range tries(100, 20) {
					it := item(t, fmt.Sprintf("msg_%d_%d_%d", n, w, i))
					must(t, th.call(t, true, func(ctx context.Context) error { return s.AddThreadItem(ctx, "thr_1", it) }))
					acknowledged.Add(1)
				}
			})
		}
		wg.Go(func() { // counts in the title
			for range tries(100, 20) {
				for {
					ctx, versions := store.WithVersions(t.Context())
					th := get[chat.Thread](t)(s.LoadThread(ctx, "thr_1"))
					v, _ := versions.Of("thr_1")
					n := get[int](t)(strconv.Atoi(th.Title))
					err := s.SaveThread(store.IfVersion(t.Context(), "thr_1", v), titled("thr_1", strconv.Itoa(n+1)))
					if err == nil {
						break
					}
					if store.CodeOf(err) != store.CodeConflict {
						t.Errorf("%v (cause %v)", err, causeOf(err))
						return
					}
				}
				acknowledged.Add(1)
			}
		})
	}
	for r := range 2 {
		readers.Go(func() {
			for i := r; ctx.Err() == nil; i++ { // at one node after the other
				must(t, th.call(t, true, func(ctx context.Context) error { return errOf(nodes[i%len(nodes)].LoadThread(ctx, "thr_1")) }))
			}
		})
	}
	wg.Wait()
	cancel()
	readers.Wait()
	for n, s := range nodes {
		_, versions, err := s.ThreadVersions(t.Context(), []string{"thr_1"})
		must(t, err)
		if want := uint64(1 + acknowledged.Load()); versions[0] != want {
			t.Errorf("node %d has version %d after %d acknowledged writes", n, versions[0], want)
		}
		if got, want := titleOf(t.Context(), s, "thr_1"), fmt.Sprint(len(nodes)*tries(100, 20)); got != want {
			t.Errorf("node %d counted %s of %s saves under a version", n, got, want)
		}
	}
	failures, aborts := status(t, c, certified)-certifiedBefore, status(t, c, aborted)-abortedBefore
	if failures+aborts == 0 {
		t.Error("there were no conflicts between the nodes")
	}
	t.Logf("%d acknowledged writes, %d certification failures, %d transactions that a write of another node ended", acknowledged.Load(), failures, aborts)
}

// It runs alone: all writes of a cluster wait for each change of a schema.
func TestProgramsAtAllNodesOfAClusterMigrateAtOnce(t *testing.T) {
	c := mysqltest.SharedCluster(t)
	for range tries(10, 2) {
		dsn := c.DSN(t)
		errs := make(chan error)
		for n := range 6 {
			go func() {
				s, err := sqlstore.OpenMySQL(t.Context(), c.Nodes[n%len(c.Nodes)].Same(dsn), sqlstore.WithMaxConns(2), patient)
				if err == nil {
					err = s.SaveThread(t.Context(), thread(fmt.Sprint("thr_", n)))
					_ = s.Close()
				}
				errs <- err
			}()
		}
		for range 6 {
			if err := <-errs; err != nil {
				t.Errorf("%v (cause %v)", err, causeOf(err))
			}
		}
		for _, node := range c.Nodes {
			s := openMySQL(t, node.Same(dsn), sqlstore.WithoutMigration())
			if p := get[store.Page[chat.Thread]](t)(s.LoadThreads(t.Context(), store.ThreadQuery{})); len(p.Data) != 6 {
				t.Errorf("%d threads", len(p.Data))
			}
			var applied, migrations int
			must(t, sqlstore.Query(s, "SELECT count(*), count(DISTINCT version_id) FROM "+sqlstore.Table(s, "migrations"), &applied, &migrations))
			if applied != migrations {
				t.Errorf("%d rows of %d migrations", applied, migrations)
			}
		}
	}
}

// A thread is deleted at one node, and shared at another.
func TestNoGrantOutlivesItsThreadInACluster(t *testing.T) {
	t.Parallel()
	_, nodes := onNodes(t, mysqltest.SharedCluster(t))
	granted := 0
	for round := range tries(200, 30) {
		id := fmt.Sprint("thr_", round)
		at := func(n int) *sqlstore.Store { return nodes[(round+n)%len(nodes)] }
		must(t, at(0).SaveThread(t.Context(), adas(id, "")))
		var wg sync.WaitGroup
		wg.Go(func() { must(t, at(1).DeleteThread(t.Context(), id)) })
		wg.Go(func() {
			if err := at(2).Grant(t.Context(), toBob(id)); err == nil {
				granted++
			} else {
				wantErr(t, err, store.CodeNotFound)
			}
		})
		wg.Wait()
		left := 0
		must(t, sqlstore.Query(at(0), "SELECT count(*) FROM "+sqlstore.Table(at(0), "grants"), &left))
		if left != 0 {
			t.Fatalf("round %d: %d grants are left of a deleted thread", round, left)
		}
	}
	t.Logf("%d threads were shared before they were deleted", granted)
}

// BenchmarkClusterSyncWait measures what the wait for the writes of other nodes costs.
func BenchmarkClusterSyncWait(b *testing.B) {
	c := mysqltest.SharedCluster(b)
	dsn := c.DSN(b)
	stores := map[string]*sqlstore.Store{
		"waits": openMySQL(b, c.Nodes[0].Same(dsn)), "does not wait": openMySQL(b, c.Nodes[0].Same(dsn), sqlstore.WithoutSyncWait()),
	}
	var n atomic.Int64
	for _, name := range slices.Sorted(maps.Keys(stores)) {
		s := stores[name]
		must(b, s.SaveThread(b.Context(), thread("thr_0")))
		b.Run("read/"+name, func(b *testing.B) {
			for b.Loop() {
				get[chat.Thread](b)(s.LoadThread(b.Context(), "thr_0"))
			}
		})
		for _, writers := range []int{1, 12} {
			b.Run(fmt.Sprintf("write/%d writers/%s", writers, name), func(b *testing.B) {
				var wg sync.WaitGroup
				begun := time.Now()
				var left atomic.Int64
				left.Store(int64(b.N))
				for range writers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							must(b, s.SaveThread(b.Context(), thread(fmt.Sprint("thr_", n.Add(1)))))
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "commits/s")
			})
		}
	}
}
