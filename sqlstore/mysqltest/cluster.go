package mysqltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/internal/process"
)

// Cluster is a Galera cluster of private servers. All of its nodes take writes. [Server.Same] names one database at each node.
type Cluster struct {
	Nodes []*Server
}

var sharedCluster = sync.OnceValues(func() (*Cluster, error) { return keep(startCluster(3, noSync)) })

// SharedCluster returns the cluster of three nodes that all tests of a program share. Tests must leave its nodes running. It does not
// sync to disk. If MariaDB or Galera is not installed, the test is skipped; with CHATSTORE_REQUIRE_SERVERS=1 it fails.
func SharedCluster(t testing.TB) *Cluster {
	t.Helper()
	c, err := sharedCluster()
	available(t, err)
	return c
}

// StartCluster returns a cluster for one test, which may stop its nodes and start them. Its files are in memory if there is room.
func StartCluster(t testing.TB, nodes int, args ...string) *Cluster {
	t.Helper()
	c, err := startCluster(nodes, args...)
	available(t, err)
	t.Cleanup(func() { testenv.Must(t, c.remove()) })
	return c
}

// library finds Galera. A node that joins gets files by rsync.
func library() (string, error) {
	for _, folder := range []string{"/usr/lib/galera", "/usr/lib64/galera", "/usr/lib64/galera-4"} {
		path := filepath.Join(folder, "libgalera_smm.so")
		if _, err := os.Stat(path); err == nil {
			_, err := exec.LookPath("rsync")
			if err != nil {
				return "", fmt.Errorf("%w; a cluster needs the package rsync too", errMissing)
			}
			return path, nil
		}
	}
	return "", fmt.Errorf("%w; a cluster needs the package galera-4 too", errMissing)
}

// startCluster starts all nodes from copies of one data folder, so that none needs the files of another.
func startCluster(nodes int, args ...string) (_ *Cluster, err error) {
	galera, err := library()
	if err != nil {
		return nil, err
	}
	c := &Cluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove())
		}
	}()
	for i := range nodes {
		var s *Server
		if i == 0 {
			s, err = prepare(process.InMemory(), args...)
		} else {
			s, err = create(process.InMemory(), args...)
		}
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, s)
	}
	var peers []string
	for _, s := range c.Nodes {
		peers = append(peers, s.address(groupPort))
	}
	for _, s := range c.Nodes {
		host, _, _ := strings.Cut(s.address(0), ":")
		s.args = append(s.args, "--wsrep-on=ON", "--wsrep-provider="+galera, "--wsrep-cluster-name=test",
			"--wsrep-cluster-address=gcomm://"+strings.Join(peers, ","), "--wsrep-node-address="+host,
			"--wsrep-sst-method=rsync", "--wsrep-sst-receive-address="+s.address(filesPort),
			"--binlog-format=ROW", "--innodb-autoinc-lock-mode=2",
			"--wsrep-provider-options="+strings.Join([]string{
				"gmcast.listen_addr=tcp://" + s.address(groupPort), "ist.recv_addr=" + s.address(writesPort), "gcache.size=16M",
				// It starts sooner, and goes on sooner without a node that was killed. The defaults are 1 s, 1 s, 5 s and 5 s.
				"evs.join_retrans_period=PT0.2S", "evs.keepalive_period=PT0.5S", "evs.suspect_timeout=PT2S", "gmcast.time_wait=PT0.5S",
			}, ";"))
	}
	return c, c.start()
}

// The ports of a node: see address.
const (
	groupPort = 1 + iota
	writesPort
	filesPort
)

// start starts a new cluster. Its first node alone makes the cluster's state, which the others get as files. Then all start as a cluster
// does whose nodes stopped at once: each has a list of all nodes, and they wait for each other.
func (c *Cluster) start() error {
	first := c.Nodes[0]
	if err := first.run("--wsrep-new-cluster"); err != nil {
		return err
	}
	if err := errors.Join(first.grant(), first.Stop(syscall.SIGTERM)); err != nil {
		return err
	}
	for _, s := range c.Nodes[1:] {
		cp := exec.Command("cp", "-r", first.data(), s.data())
		cp.SysProcAttr = s.as
		if out, err := cp.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cp, err, out)
		}
	}
	id := func(i int) string { return fmt.Sprintf("%08x-0000-11ef-8000-000000000000", i+1) }
	var members strings.Builder
	for i := range c.Nodes {
		fmt.Fprintf(&members, "member: %s 0\n", id(i))
	}
	for i, s := range c.Nodes {
		view := fmt.Sprintf("my_uuid: %s\n#vwbeg\nview_id: 3 %s 1\nbootstrap: 0\n%s#vwend\n", id(i), id(0), &members)
		if err := os.WriteFile(filepath.Join(s.data(), "gvwstate.dat"), []byte(view), 0o666); err != nil {
			return err
		}
	}
	errs := make([]error, len(c.Nodes))
	var wg sync.WaitGroup
	for i, s := range c.Nodes {
		wg.Go(func() {
			if errs[i] = s.run(); errs[i] == nil {
				errs[i] = s.awaitStatus(append(ready, "WSREP_CLUSTER_SIZE", fmt.Sprint(len(c.Nodes)))...)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ready is the status of a node that takes statements.
var ready = []string{"WSREP_LOCAL_STATE_COMMENT", "Synced", "WSREP_READY", "ON"}

// awaitStatus waits until status variables have values.
func (s *Server) awaitStatus(pairs ...string) error {
	db, err := s.admin("")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	for i := 0; i < len(pairs); i += 2 {
		const query = "SELECT variable_value = ? FROM information_schema.global_status WHERE variable_name = ?"
		if err := await(db, query, pairs[i+1], pairs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) remove() error {
	var errs []error
	for _, s := range c.Nodes {
		errs = append(errs, s.remove())
	}
	return errors.Join(errs...)
}

// DSN returns the data source name of a new database at the first node, when all nodes have it.
func (c *Cluster) DSN(t testing.TB) string {
	t.Helper()
	dsn := c.Nodes[0].DSN(t)
	name := testenv.Value(mysql.ParseDSN(dsn))(t).DBName
	for _, s := range c.Nodes {
		Await(t, s.Admin(t, ""), "SELECT count(*) = 1 FROM information_schema.schemata WHERE schema_name = ?", name)
	}
	return dsn
}

var recovered = regexp.MustCompile(`Recovered position: (\S+:\d+)`)

// Rejoin starts a node that was stopped or killed, as Debian's service does, and waits until it has what it missed. It gets the writes
// that it missed, or, if the others no longer have them all, a copy of another node's files.
func (c *Cluster) Rejoin(t testing.TB, i int) {
	t.Helper()
	s := c.Nodes[i]
	cmd := testenv.Value(s.command("--wsrep-recover"))(t)
	out, err := cmd.CombinedOutput()
	at := recovered.FindSubmatch(out)
	if err != nil || at == nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	testenv.Must(t, s.run("--wsrep-start-position="+string(at[1])))
	testenv.Must(t, s.awaitStatus(ready...))
}

// Isolate cuts a node from the others, and waits until it knows. It then refuses statements (error 1047), and the others go on.
func (c *Cluster) Isolate(t testing.TB, i int) {
	t.Helper()
	c.Nodes[i].Exec(t, "", "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")
	testenv.Must(t, c.Nodes[i].awaitStatus("WSREP_CLUSTER_STATUS", "non-Primary"))
}

// Reconnect ends Isolate, and waits until the node has what it missed.
func (c *Cluster) Reconnect(t testing.TB, i int) {
	t.Helper()
	c.Nodes[i].Exec(t, "", "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'")
	testenv.Must(t, c.Nodes[i].awaitStatus(append(ready, "WSREP_CLUSTER_STATUS", "Primary")...))
}

// Lag makes a node lag behind the cluster until CatchUp, as the donor of a backup does: it receives the commits of others and does not
// apply them. Its sessions read and change the old state. Those with wsrep_sync_wait wait, and so does COMMIT after a change.
func (s *Server) Lag(t testing.TB) {
	t.Helper()
	s.lag = testenv.Value(s.Admin(t, "").Conn(t.Context()))(t)
	for _, stage := range []string{"START", "FLUSH", "BLOCK_DDL"} { // the last one pauses what applies the commits
		_, err := s.lag.ExecContext(t.Context(), "BACKUP STAGE "+stage)
		testenv.Must(t, err)
	}
}

// CatchUp ends Lag, and waits until the node has applied what it received.
func (s *Server) CatchUp(t testing.TB) {
	t.Helper()
	_, err := s.lag.ExecContext(context.Background(), "BACKUP STAGE END")
	testenv.Must(t, errors.Join(err, s.lag.Close()))
	testenv.Must(t, s.awaitStatus("WSREP_LOCAL_STATE_COMMENT", "Synced"))
}
