package sqlstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// This file opens connections to one of several servers, and asks each server what it is.

// mysqlServer is what a server tells about itself.
type mysqlServer struct {
	version  string
	node     string // of the server
	identity string // of the server, or of its cluster
	mariadb  bool
	cluster  bool // it is a node of a Galera cluster
	ready    bool // the node serves
	synced   bool // the node has all writes of the cluster, but for those on their way
	readOnly bool
	started  int64 // in seconds since 1970, to within one

	member  string   // the node's address as the cluster names it
	members []string // of the cluster, as the node sees it
}

// mysqlAbout has rows of a name and a value. No server refuses it for a name that it does not know.
const mysqlAbout = `SHOW VARIABLES WHERE Variable_name IN ('version', 'hostname', 'port', 'server_id', 'server_uuid', 'server_uid', 'read_only',
		'log_bin', 'binlog_format', 'wsrep_on');
	SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_local_state', 'wsrep_cluster_state_uuid', 'wsrep_incoming_addresses',
		'wsrep_local_index', 'Uptime');
	SELECT 'session', CONNECTION_ID() UNION SELECT 'now', UNIX_TIMESTAMP()`

// aboutMySQL asks a server what it is.
func aboutMySQL(ctx context.Context, c driver.QueryerContext) (values map[string]string, err error) {
	rows, err := c.QueryContext(ctx, mysqlAbout, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values = map[string]string{}
	for row := make([]driver.Value, 2); ; {
		err := rows.Next(row)
		if err == nil {
			values[fmt.Sprintf("%s", row[0])] = mysqlText(row[1])
			continue
		}
		if err != io.EOF {
			return nil, err
		}
		if more, ok := rows.(driver.RowsNextResultSet); !ok || !more.HasNextResultSet() {
			return values, nil
		} else if err := more.NextResultSet(); err != nil {
			return nil, err
		}
	}
}

func mysqlText(v driver.Value) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(v)
}

func newMySQLServer(values map[string]string) mysqlServer {
	s := mysqlServer{
		version: values["version"], mariadb: strings.Contains(values["version"], "MariaDB"), readOnly: values["read_only"] == "ON",
		cluster: values["wsrep_on"] == "ON", ready: values["wsrep_ready"] == "ON", synced: values["wsrep_local_state"] == "4",
	}
	s.node = strings.Join([]string{values["hostname"], values["port"], values["server_id"], values["server_uuid"], values["server_uid"]}, " ")
	if s.identity = s.node; s.cluster {
		s.identity = values["wsrep_cluster_state_uuid"]
	}
	now, _ := strconv.ParseInt(values["now"], 10, 64)
	uptime, _ := strconv.ParseInt(values["Uptime"], 10, 64)
	s.started = now - uptime
	s.members = strings.Split(values["wsrep_incoming_addresses"], ",")
	if n, err := strconv.Atoi(values["wsrep_local_index"]); err == nil && n < len(s.members) {
		s.member = s.members[n]
	}
	return s
}

// unhealthy returns why another server is the better one, or nil.
func (s mysqlServer) unhealthy() error {
	switch {
	case s.readOnly:
		return fmt.Errorf("%w: the server is read-only", errFound)
	case s.cluster && !(s.ready && s.synced):
		return fmt.Errorf("%w: the node is not synced with its cluster", errFound)
	}
	return nil
}

var mysqlVersion = regexp.MustCompile(`^(\d+)\.(\d+)`)

// old reports whether the server lacks what the statements need.
func (s mysqlServer) old() bool {
	m := mysqlVersion.FindStringSubmatch(s.version)
	if m == nil {
		return true
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if s.mariadb {
		return major < 10 || major == 10 && minor < 6
	}
	return major < 8
}

// betweenTransactions are the settings of a session that waits for a call. Its connection lives longer than an idle one of the pool.
var betweenTransactions = fmt.Sprintf("autocommit = 1, wait_timeout = %d", seconds(idleFor+time.Minute))

// mysqlSettings returns the statements that prepare a session. They set what the statements of calls depend on, and the limits.
// No session outlives its client for long.
func (c config) mysqlSettings(s mysqlServer) string {
	text := fmt.Sprintf(`SET NAMES utf8mb4; SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', completion_type = 0,
		sql_safe_updates = 0, innodb_lock_wait_timeout = %d, %s`, seconds(c.lockTimeout), betweenTransactions)
	if s.cluster && !c.noSyncWait {
		text += `, wsrep_sync_wait = 1`
	}
	return text + `; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED`
}

// seconds returns d in whole seconds, at least 1.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// mysqlDriver is what the driver's connections can do, as far as database/sql needs it.
type mysqlDriver interface {
	driver.Conn
	driver.QueryerContext
	driver.ExecerContext
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

// mysqlConn is a connection whose server is known.
type mysqlConn struct {
	mysqlDriver
	server  mysqlServer
	host    driver.Connector
	session string // its number at the server
}

// Close implements driver.Conn. That the server is gone is no fault of closing.
func (c *mysqlConn) Close() error {
	_ = c.mysqlDriver.Close()
	return nil
}

// mysqlHosts opens connections to the first of several servers that is healthy, beginning with the one that served last. If none
// is, a node that serves and is not synced must do.
type mysqlHosts struct {
	cfg      config
	limit    time.Duration // for a connection
	all      []driver.Connector
	last     atomic.Int64           // index
	identity atomic.Pointer[string] // of the server that answered last

	mu     sync.Mutex
	server mysqlServer // that answered last
}

// Driver implements driver.Connector.
func (h *mysqlHosts) Driver() driver.Driver { return mysql.MySQLDriver{} }

// Connect implements driver.Connector.
func (h *mysqlHosts) Connect(ctx context.Context) (driver.Conn, error) {
	var (
		failed error
		found  *mysqlConn
	)
	first := int(h.last.Load())
	for n := range h.all {
		at := (first + n) % len(h.all)
		limit := h.limit
		if end, ok := ctx.Deadline(); ok { // a host that does not answer leaves time for the next
			limit = min(limit, time.Until(end)/time.Duration(len(h.all)-n))
		}
		c, err := h.greet(ctx, h.all[at], limit)
		if err == nil && (found == nil || c.server.unhealthy() == nil) {
			c, found = found, c
			h.last.Store(int64(at))
		}
		if c != nil {
			_ = c.Close()
		}
		if failed = errors.Join(failed, err); found != nil && found.server.unhealthy() == nil || ctx.Err() != nil {
			break
		}
	}
	if found == nil {
		return nil, mysqlFault{failed}
	}
	found.server.identity = h.recognized(found.server)
	return found, nil
}

// serves reports whether c leads to the server that calls use. Of a cluster's nodes, that is one.
func (h *mysqlHosts) serves(c *mysqlConn) bool {
	return c.server.identity == *h.identity.Load() && (!c.server.cluster || c.host == h.all[h.last.Load()])
}

// leave makes calls use the next host, if they use that of c.
func (h *mysqlHosts) leave(c *mysqlConn) {
	at := slices.Index(h.all, c.host)
	h.last.CompareAndSwap(int64(at), int64((at+1)%len(h.all)))
}

// without reports whether others go on without the server of c. A cluster that has lost a node has its writes already, or never. As
// long as the other nodes count it as theirs, it may still send one. The versions of a server that is no node have another epoch.
func (h *mysqlHosts) without(ctx context.Context, c *mysqlConn) (bool, error) {
	other, err := h.Connect(ctx)
	if err != nil {
		return false, err
	}
	s := other.(*mysqlConn).server
	if !c.server.cluster {
		return s.node != c.server.node, other.Close()
	}
	return s.unhealthy() == nil && s.identity == c.server.identity && !slices.Contains(s.members, c.server.member), other.Close()
}

// recognized returns the identity of a server that answers. One that has started again is another server: InnoDB shows a commit before it
// is on disk, so a crash takes away versions that a read has reported.
func (h *mysqlHosts) recognized(s mysqlServer) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if again := h.server.node == s.node && max(h.server.started-s.started, s.started-h.server.started) <= 1; s.cluster || !again {
		if h.server = s; !s.cluster {
			h.server.identity = fmt.Sprint(s.node, " ", s.started)
		}
	}
	identity := h.server.identity
	h.identity.Store(&identity)
	return identity
}

// errNotServing says that a server is there and cannot be used.
var errNotServing = fmt.Errorf("%w: the server is read-only, or a node that is not ready", errFound)

// greet opens a connection, asks the server what it is, and prepares the session.
func (h *mysqlHosts) greet(ctx context.Context, host driver.Connector, limit time.Duration) (_ *mysqlConn, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	raw, err := host.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = raw.Close()
		}
	}()
	c := &mysqlConn{mysqlDriver: raw.(mysqlDriver), host: host}
	values, err := aboutMySQL(ctx, c)
	if err != nil {
		return nil, err
	}
	c.server, c.session = newMySQLServer(values), values["session"]
	if s := c.server; s.readOnly || s.cluster && !s.ready {
		return nil, errNotServing
	}
	_, err = c.ExecContext(ctx, h.cfg.mysqlSettings(c.server), nil)
	return c, err
}

// interrupt asks the server of c to stop the statement that it runs, on a connection of its own.
func (c *mysqlConn) interrupt(ctx context.Context) error {
	raw, err := c.host.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	other := raw.(mysqlDriver)
	values, err := aboutMySQL(ctx, other)
	if err != nil || newMySQLServer(values).node != c.server.node { // at another server, the number is another session's
		return err
	}
	_, err = other.ExecContext(ctx, "KILL QUERY "+c.session, nil)
	return err
}

// Prepare implements driver.Conn. Only what is too large for one packet is not sent at once.
func (c *mysqlConn) Prepare(string) (driver.Stmt, error) { return nil, refused{errTooLarge} }

var errTooLarge = invalid("the documents are larger than the server's max_allowed_packet")

// explained returns the error of statements, or that the node has lost its cluster. The wait for the writes of other nodes then ends
// with the error of a wait for a lock.
func (s *mysqlSession) explained(ctx context.Context, err error) error {
	me, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok || me.Number != 1205 || s.own == nil || !s.own.server.cluster {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, verdictLimit)
	defer cancel()
	var values map[string]string
	asked := s.Raw(func(any) (err error) {
		values, err = aboutMySQL(limited, s.own)
		return err
	})
	if asked == nil && newMySQLServer(values).ready {
		return err
	}
	return mysqlFault{errNotServing}
}
