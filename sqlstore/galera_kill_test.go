package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/store"
)

// atNodes returns a DSN with the TCP addresses of nodes.
func atNodes(t testing.TB, dsn string, nodes ...*mysqltest.Server) string {
	t.Helper()
	var all []string
	for _, node := range nodes {
		all = append(all, node.TCP(dsn))
	}
	return hosts(t, all...)
}

// nodeOf returns the index of the node that a store uses.
func nodeOf(t testing.TB, c *mysqltest.Cluster, s *sqlstore.Store) int {
	t.Helper()
	var port string
	must(t, sqlstore.Query(s, "SELECT CAST(@@port AS char)", &port))
	for i, node := range c.Nodes {
		addr := get[*mysql.Config](t)(mysql.ParseDSN(node.TCP("/"))).Addr
		if _, p, err := net.SplitHostPort(addr); err == nil && p == port {
			return i
		}
	}
	t.Fatalf("no node has the port %s", port)
	return -1
}

// inStatement waits until n sessions at a node are in a statement that begins like text. It reports false if ended is closed before.
func inStatement(t testing.TB, db *sql.DB, ended <-chan struct{}, n int, text string) bool {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		k := 0
		must(t, db.QueryRow("SELECT count(*) FROM information_schema.processlist WHERE user = 'chat' AND info LIKE ?", text+"%").Scan(&k))
		if k >= n {
			return true
		}
		select {
		case <-ended:
			return false
		case <-limit:
			t.Fatalf("%d of %d sessions are in %s", k, n, text)
		case <-time.After(2 * time.Millisecond): // spares the processor
		}
	}
}

// same checks that two stores have the same rows.
func same(t testing.TB, to, from store.Store) {
	t.Helper()
	for d, err := range lifecycle.Verify(t.Context(), to, from) {
		must(t, err)
		t.Errorf("%+v", d)
	}
}

// notingPending returns a context for a write. If its outcome is unknown, pending waits until it cannot take effect anymore.
func notingPending(t testing.TB) (ctx context.Context, pending func()) {
	var until <-chan struct{}
	ctx = callctx.With(t.Context(), func(d *callctx.Data) {
		d.Unsettled = callctx.UnsettledFunc(func(ended <-chan struct{}) { until = ended })
	})
	return ctx, func() {
		if until == nil {
			t.Error("the write is not reported as pending")
			return
		}
		select {
		case <-until:
		case <-time.After(time.Minute):
			t.Error("the report of the pending write does not end")
		}
	}
}

// TestAClusterWithADisturbedNode uses one cluster, one disturbance after the other.
func TestAClusterWithADisturbedNode(t *testing.T) {
	t.Parallel()
	c := mysqltest.StartCluster(t, 3, "--innodb-flush-log-at-trx-commit=2")
	const is = "SELECT variable_value = ? FROM information_schema.global_status WHERE variable_name = ?"

	t.Run("a lagging node waits", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		admin := c.Nodes[2].Admin(t, dsn)
		fresh := openMySQL(t, c.Nodes[2].Same(dsn), sqlstore.WithMaxConns(30), patient)
		stale := openMySQL(t, c.Nodes[2].Same(dsn), sqlstore.WithoutSyncWait(), patient)
		writer := nodes[0]
		must(t, writer.SaveThread(t.Context(), adas("thr_old", "old")))
		get[sharing.Access](t)(fresh.Access(t.Context(), bob, "thr_old")) // it has all writes so far
		c.Nodes[2].Lag(t)
		must(t, writer.SaveThread(t.Context(), adas("thr_old", "old")))
		must(t, writer.SaveThread(t.Context(), adas("thr_1", "new")))
		must(t, writer.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1")))
		must(t, writer.SaveAttachment(t.Context(), attachment(t, "thr_1")))
		must(t, writer.Grant(t.Context(), toBob("thr_1")))
		// Writes that an old state would refuse.
		writes := map[string]func(s *sqlstore.Store) error{
			"SaveThread": func(s *sqlstore.Store) error {
				return s.SaveThread(store.WithSaveMode(t.Context(), store.UpdateOnly), adas("thr_1", "new"))
			},
			"IfVersion": func(s *sqlstore.Store) error {
				return s.SaveThread(store.IfVersion(t.Context(), "thr_old", 2), adas("thr_old", "old"))
			},
			"AddThreadItem": func(s *sqlstore.Store) error { return s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_2")) },
			"Grant":         func(s *sqlstore.Store) error { return s.Grant(t.Context(), toBob("thr_1")) },
			"SaveAttachment": func(s *sqlstore.Store) error {
				return s.SaveAttachment(store.WithSaveMode(t.Context(), store.UpdateOnly), attachment(t, "thr_1"))
			},
		}
		for how, ok := range sees(t, stale, "thr_1", "new") {
			if how != "ListTombstones" && ok() {
				t.Errorf("%s: without the option, a lagging node does not show an old state", how)
			}
		}
		for how, write := range writes {
			if code := store.CodeOf(write(stale)); code != store.CodeNotFound && code != store.CodeConflict {
				t.Errorf("%s: without the option, a write at a lagging node ended with %v", how, code)
			}
		}
		reads := sees(t, fresh, "thr_1", "new")
		var calls sync.WaitGroup
		var done atomic.Int64
		for how, ok := range reads {
			calls.Go(func() {
				if !ok() {
					t.Errorf("%s reads an old state", how)
				}
				done.Add(1)
			})
		}
		for how, write := range writes {
			calls.Go(func() {
				if err := write(fresh); err != nil {
					t.Errorf("%s was refused by an old state: %v (cause %v)", how, err, causeOf(err))
				}
				done.Add(1)
			})
		}
		ended := make(chan struct{})
		go func() {
			calls.Wait()
			close(ended)
		}()
		inStatement(t, admin, ended, len(reads), "SELECT")
		inStatement(t, admin, ended, len(writes), "START")
		if n := done.Load(); n != 0 {
			t.Errorf("%d calls did not wait for the writes of another node", n)
		}
		c.Nodes[2].CatchUp(t)
		<-ended
	})

	// COMMIT at the lagging node waits, and then finds that another node's write came first.
	t.Run("a certification failure at COMMIT is retried", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		stale := openMySQL(t, c.Nodes[2].Same(dsn), sqlstore.WithoutSyncWait(), patient)
		must(t, nodes[0].SaveThread(t.Context(), titled("thr_1", "first")))
		must(t, nodes[2].AddThreadItem(t.Context(), "thr_1", item(t, "msg_1")))
		before := status(t, c, "WSREP_LOCAL_CERT_FAILURES") + status(t, c, "WSREP_LOCAL_BF_ABORTS")
		admin := c.Nodes[2].Admin(t, dsn)
		c.Nodes[2].Lag(t)
		must(t, nodes[0].AddThreadItem(t.Context(), "thr_1", item(t, "msg_2")))
		saved, ended := make(chan error, 1), make(chan struct{})
		go func() {
			saved <- stale.AddThreadItem(t.Context(), "thr_1", item(t, "msg_3"))
			close(ended)
		}()
		inStatement(t, admin, ended, 1, "COMMIT")
		c.Nodes[2].CatchUp(t)
		must(t, <-saved)
		if after := status(t, c, "WSREP_LOCAL_CERT_FAILURES") + status(t, c, "WSREP_LOCAL_BF_ABORTS"); after == before {
			t.Error("there was no conflict")
		}
		for n, s := range nodes {
			if _, versions, err := s.ThreadVersions(t.Context(), []string{"thr_1"}); err != nil || versions[0] != 4 {
				t.Errorf("node %d has version %d after four writes (%v)", n, versions[0], err)
			}
		}
	})

	// The node that shares the thread does not know yet that another has deleted it.
	t.Run("a grant meets a deletion", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		stale := openMySQL(t, c.Nodes[2].Same(dsn), sqlstore.WithoutSyncWait(), patient)
		must(t, nodes[0].SaveThread(t.Context(), adas("thr_1", "")))
		get[sharing.Access](t)(nodes[2].Access(t.Context(), bob, "thr_1"))
		admin := c.Nodes[2].Admin(t, dsn)
		c.Nodes[2].Lag(t)
		must(t, nodes[0].DeleteThread(t.Context(), "thr_1"))
		granted, ended := make(chan error, 1), make(chan struct{})
		go func() {
			granted <- stale.Grant(t.Context(), toBob("thr_1"))
			close(ended)
		}()
		inStatement(t, admin, ended, 1, "COMMIT")
		c.Nodes[2].CatchUp(t)
		wantErr(t, <-granted, store.CodeNotFound)
		left := 0
		must(t, sqlstore.Query(nodes[1], "SELECT count(*) FROM "+sqlstore.Table(nodes[1], "grants"), &left))
		if left != 0 {
			t.Errorf("%d grants are left of a deleted thread", left)
		}
	})

	t.Run("CheckHealth knows a node that is not synced", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		for what, disturb := range map[string][2]func(){
			"lagging":  {func() { c.Nodes[2].Lag(t) }, func() { c.Nodes[2].CatchUp(t) }},
			"isolated": {func() { c.Isolate(t, 2) }, func() { c.Reconnect(t, 2) }},
		} {
			all := openMySQL(t, atNodes(t, dsn, c.Nodes[2], c.Nodes[0]), patient)
			must(t, all.CheckHealth(t.Context()))
			disturb[0]()
			wantErr(t, nodes[2].CheckHealth(t.Context()), store.CodeUnavailable)
			for n, s := range nodes[:2] {
				if err := s.CheckHealth(t.Context()); err != nil {
					t.Errorf("%s: node %d, which is not disturbed: %v", what, n, err)
				}
			}
			if err := all.CheckHealth(t.Context()); err != nil {
				t.Errorf("%s: another host is healthy: %v (cause %v)", what, err, causeOf(err))
			}
			opened := openMySQL(t, atNodes(t, dsn, c.Nodes[2], c.Nodes[0]))
			if n := nodeOf(t, c, opened); n != 0 {
				t.Errorf("%s: a new store uses node %d", what, n)
			}
			disturb[1]()
			must(t, nodes[2].CheckHealth(t.Context()))
		}
	})

	t.Run("an isolated node is left", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		all := openMySQL(t, atNodes(t, dsn, c.Nodes[2], c.Nodes[0], c.Nodes[1]), patient)
		one := openMySQL(t, atNodes(t, dsn, c.Nodes[2]), sqlstore.WithRetryFor(50*time.Millisecond))
		must(t, one.SaveThread(t.Context(), titled("thr_1", "first")))
		must(t, all.SaveThread(t.Context(), titled("thr_1", "second")))
		if n := nodeOf(t, c, all); n != 2 {
			t.Fatalf("the store uses node %d", n)
		}
		c.Isolate(t, 2)
		must(t, all.SaveThread(t.Context(), titled("thr_1", "third")))
		if n := nodeOf(t, c, all); n == 2 {
			t.Error("the store uses the isolated node")
		}
		for range 2 {
			wantErr(t, one.SaveThread(t.Context(), titled("thr_1", "isolated")), store.CodeUnavailable, store.ErrNotApplied)
			wantErr(t, errOf(one.LoadThread(t.Context(), "thr_1")), store.CodeUnavailable)
		}
		must(t, all.SaveThread(t.Context(), titled("thr_1", "fourth")))
		c.Reconnect(t, 2)
		for n, s := range append(nodes, one, all) {
			if title := titleOf(t.Context(), s, "thr_1"); title != "fourth" {
				t.Errorf("store %d has the title %q", n, title)
			}
		}
		must(t, one.SaveThread(t.Context(), titled("thr_1", "fifth")))
	})

	// A machine without power: its connections stay open, and nobody answers.
	t.Run("a node that hangs is left", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		limit := sqlstore.WithStatementTimeout(3 * time.Second)
		all := openMySQL(t, atNodes(t, dsn, c.Nodes[2], c.Nodes[0], c.Nodes[1])+"?timeout=3s", patient, limit)
		must(t, all.SaveThread(t.Context(), titled("thr_1", "first")))
		c.Nodes[2].Freeze(t)
		thawed := false
		defer func() {
			if !thawed {
				c.Nodes[2].Continue(t)
			}
		}()
		var err error
		for range 3 { // of the calls that find it hanging, each has its time limit
			if err = all.SaveThread(t.Context(), titled("thr_1", "second")); err == nil {
				break
			}
			t.Logf("%v (cause %v)", err, causeOf(err))
		}
		must(t, err)
		c.Nodes[2].Continue(t)
		thawed = true
		mysqltest.Await(t, c.Nodes[0].Admin(t, ""), is, 3, "WSREP_CLUSTER_SIZE") // which went on without it
		mysqltest.Await(t, c.Nodes[2].Admin(t, ""), is, 4, "WSREP_LOCAL_STATE")
		for n, s := range nodes {
			if title := titleOf(t.Context(), s, "thr_1"); title != "second" {
				t.Errorf("node %d has the title %q", n, title)
			}
		}
	})

	t.Run("the epoch is that of the cluster", func(t *testing.T) {
		epochs := map[string]bool{}
		for _, c := range []*mysqltest.Cluster{c, mysqltest.SharedCluster(t)} {
			_, nodes := onNodes(t, c)
			for _, s := range nodes {
				epoch, _, err := s.ThreadVersions(t.Context(), nil)
				must(t, err)
				epochs[epoch] = true
			}
		}
		if len(epochs) != 2 || epochs[""] {
			t.Errorf("two clusters have the epochs %v", epochs)
		}
	})

	// The node is killed while COMMIT waits. The write may take effect until the report of it ends, and not later.
	t.Run("COMMIT at a node that is killed", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		s := openMySQL(t, atNodes(t, dsn, c.Nodes[2], c.Nodes[0]), sqlstore.WithoutSyncWait())
		must(t, s.SaveThread(t.Context(), titled("thr_1", "first")))
		admin := c.Nodes[2].Admin(t, dsn)
		c.Nodes[2].Lag(t)
		must(t, nodes[0].SaveThread(t.Context(), titled("thr_2", "first"))) // which the node does not have
		ctx, pending := notingPending(t)
		saved, ended := make(chan error, 1), make(chan struct{})
		go func() {
			saved <- s.SaveThread(ctx, titled("thr_1", "second"))
			close(ended)
		}()
		inStatement(t, admin, ended, 1, "COMMIT")
		c.Nodes[2].Kill(t)
		if err := <-saved; store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
			t.Errorf("got %v, definite %v (cause %v)", err, store.IsDefinite(err), causeOf(err))
		}
		pending()
		after := titleOf(t.Context(), nodes[0], "thr_1")
		c.Rejoin(t, 2)
		for n, s := range append(nodes[:2:2], s, openMySQL(t, c.Nodes[2].Same(dsn))) {
			if title := titleOf(t.Context(), s, "thr_1"); title != after {
				t.Errorf("store %d has the title %q, after %q when the write was no longer pending", n, title, after)
			}
		}
		t.Logf("the title is %q", after)
	})

	// Behind one address, such as that of a balancer, another node answers. It knows nothing of the COMMIT.
	t.Run("COMMIT at a node that a balancer has left", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		balancer := mysqltest.NewNetwork(t, c.Nodes[2].Same(dsn))
		s := openMySQL(t, balancer.DSN, sqlstore.WithoutSyncWait())
		must(t, s.SaveThread(t.Context(), titled("thr_1", "first")))
		c.Nodes[2].Lag(t)
		must(t, nodes[0].SaveThread(t.Context(), titled("thr_2", "first"))) // which the node does not have
		pending := make(unsettled, 1)
		ctx := callctx.With(t.Context(), func(d *callctx.Data) { d.Unsettled = pending })
		saved, ended := make(chan error, 1), make(chan struct{})
		go func() {
			saved <- s.SaveThread(ctx, titled("thr_1", "second"))
			close(ended)
		}()
		inStatement(t, c.Nodes[2].Admin(t, dsn), ended, 1, "COMMIT")
		balancer.Lead(t, c.Nodes[0].Same(dsn))
		balancer.Cut()
		if err := <-saved; store.IsDefinite(err) {
			t.Errorf("got %v", err)
		}
		over := <-pending
		must(t, openMySQL(t, balancer.DSN).CheckHealth(t.Context())) // through the balancer one can ask, meanwhile
		select {
		case <-over:
			t.Error("the node still runs the COMMIT, but it is said to have ended")
		default:
		}
		balancer.Lead(t, c.Nodes[2].Same(dsn))
		c.Nodes[2].CatchUp(t)
		<-over
		if title := titleOf(t.Context(), nodes[0], "thr_1"); title != "second" {
			t.Errorf("the title is %q", title)
		}
	})

	// Only the program cannot reach the node. The node may still send the write, as long as the others count it as theirs.
	t.Run("COMMIT at a node that its client has lost", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		near, far := mysqltest.NewNetwork(t, c.Nodes[2].Same(dsn)), mysqltest.NewNetwork(t, c.Nodes[0].Same(dsn))
		both := strings.Replace(near.DSN, near.Addr.String(), near.Addr.String()+","+far.Addr.String(), 1)
		s := openMySQL(t, both, sqlstore.WithoutSyncWait())
		must(t, s.SaveThread(t.Context(), titled("thr_1", "first")))
		admin := c.Nodes[2].Admin(t, dsn)
		c.Nodes[2].Lag(t)
		must(t, nodes[0].SaveThread(t.Context(), titled("thr_2", "first"))) // which the node does not have
		ctx, pending := notingPending(t)
		saved, ended := make(chan error, 1), make(chan struct{})
		go func() {
			saved <- s.SaveThread(ctx, titled("thr_1", "second"))
			close(ended)
		}()
		inStatement(t, admin, ended, 1, "COMMIT")
		asked := make(chan struct{}, 3)
		far.Do(func(sent []byte) mysqltest.Action {
			if bytes.Contains(sent, []byte("wsrep_incoming_addresses")) {
				select {
				case asked <- struct{}{}:
				default:
				}
			}
			return mysqltest.Pass
		})
		near.Lead(t, "")
		near.Cut()
		if err := <-saved; store.CodeOf(err) != store.CodeUnavailable || store.IsDefinite(err) {
			t.Errorf("got %v, definite %v (cause %v)", err, store.IsDefinite(err), causeOf(err))
		}
		for range cap(asked) { // it asks until the report ends
			select {
			case <-asked:
			case <-time.After(time.Minute):
				t.Error("the report of the pending write has ended, although the node runs it")
			}
		}
		c.Nodes[2].CatchUp(t)
		near.Lead(t, near.Direct)
		pending()
		if title := titleOf(t.Context(), nodes[0], "thr_1"); title != "second" {
			t.Errorf("the title is %q", title)
		}
	})

	// The node loses the others under load.
	t.Run("COMMIT at a node that is isolated", func(t *testing.T) {
		dsn, nodes := onNodes(t, c)
		s := openMySQL(t, atNodes(t, dsn, c.Nodes[2], c.Nodes[0]), patient, sqlstore.WithMaxConns(12))
		var (
			wg             sync.WaitGroup
			saved, unknown atomic.Int64
			isolated       atomic.Bool
			titles         [12]string
			more           = make(chan struct{}, 1)
		)
		for n := range titles {
			wg.Go(func() {
				id := fmt.Sprint("thr_", n)
				for i := 1; ; i++ {
					last := isolated.Load()
					ctx, pending := notingPending(t)
					err := s.SaveThread(ctx, titled(id, strconv.Itoa(i)))
					switch {
					case err == nil:
						titles[n] = strconv.Itoa(i)
					case store.IsDefinite(err):
						t.Errorf("%v (cause %v)", err, causeOf(err))
						return
					default:
						unknown.Add(1)
						pending()
						title := titleOf(t.Context(), nodes[0], id)
						if title != strconv.Itoa(i) && title != titles[n] && titles[n] != "" {
							t.Errorf("%s: the title is %q after %q was acknowledged and %d had an unknown outcome", id, title, titles[n], i)
						}
						titles[n] = title
						return
					}
					saved.Add(1)
					select {
					case more <- struct{}{}:
					default:
					}
					if last {
						return
					}
				}
			})
		}
		for saved.Load() < 100 {
			<-more
		}
		c.Isolate(t, 2)
		isolated.Store(true)
		wg.Wait()
		c.Reconnect(t, 2)
		for n, s := range append(nodes, s) {
			for i, title := range titles {
				if got := titleOf(t.Context(), s, fmt.Sprint("thr_", i)); got != title {
					t.Errorf("store %d: thr_%d has the title %q, after %q when the write was no longer pending", n, i, got, title)
				}
			}
		}
		t.Logf("%d acknowledged, %d unknown", saved.Load(), unknown.Load())
	})

	t.Run("a node rejoins", func(t *testing.T) {
		for _, way := range []string{"it was away too long", "it missed a few writes"}[:tries(2, 1)] { // all tests of kills have the latter
			dsn, nodes := onNodes(t, c)
			for i := range 20 {
				id := fmt.Sprint("thr_", i)
				must(t, nodes[2].SaveThread(t.Context(), titled(id, "old")))
				must(t, nodes[2].AddThreadItem(t.Context(), id, item(t, "msg_1")))
			}
			must(t, nodes[2].Close())
			c.Nodes[2].Kill(t)
			for i := range 10 {
				must(t, nodes[0].SaveThread(t.Context(), titled(fmt.Sprint("thr_", i), "new")))
				must(t, nodes[0].DeleteThread(t.Context(), fmt.Sprint("thr_", 10+i)))
				must(t, nodes[1].SaveAttachment(t.Context(), attachment(t, fmt.Sprint("atc_", i))))
			}
			if way != "it missed a few writes" { // more than the others keep
				c.Nodes[0].Exec(t, dsn, "CREATE TABLE large (n int AUTO_INCREMENT PRIMARY KEY, x longblob)")
				for range 24 {
					c.Nodes[0].Exec(t, dsn, "INSERT INTO large (x) VALUES (repeat('x', 1000000))")
				}
			}
			c.Rejoin(t, 2)
			again := openMySQL(t, c.Nodes[2].Same(dsn), patient)
			same(t, again, nodes[0])
			must(t, again.SaveThread(t.Context(), titled("thr_0", "newer")))
			same(t, nodes[1], again)
		}
	})
}

// The node in use is killed under load, again and again.
func TestNothingAcknowledgedIsLostWhenNodesOfAClusterAreKilled(t *testing.T) {
	t.Parallel()
	c := mysqltest.StartCluster(t, 3, "--innodb-flush-log-at-trx-commit=2")
	dsn := c.DSN(t)
	s := openMySQL(t, atNodes(t, dsn, c.Nodes...), patient, patientLocks)
	l := start(t, s, 4)
	kills, longest := lightly(50, 2), time.Duration(0)
	for range kills {
		l.await(t, 50)
		n := nodeOf(t, c, s)
		l.mark()
		c.Nodes[n].Kill(t)
		l.await(t, 50)
		l.mu.Lock()
		longest = max(longest, l.gap)
		l.mu.Unlock()
		c.Rejoin(t, n)
	}
	l.await(t, 50)
	var nodes []store.Store
	for _, node := range c.Nodes {
		nodes = append(nodes, openMySQL(t, node.Same(dsn), patient))
	}
	l.end(t, nodes[0])
	l.patient(t)
	same(t, nodes[1], nodes[0])
	same(t, nodes[2], nodes[0])
	t.Logf("%d kills; the longest time without an acknowledged write was %d ms", kills, longest.Milliseconds())
}
