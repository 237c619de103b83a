package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/store"
)

// OpenMySQL opens a database of MariaDB 10.6 or later, or of MySQL 8. dsn is a URL, or a DSN of the driver
// (github.com/go-sql-driver/mysql):
//
//	mysql://chat:secret@db1.internal:3306,db2.internal,db3.internal/chat?tls=true
//	chat:secret@tcp(db1.internal:3306,db2.internal,db3.internal)/chat?tls=true
//	mysql://chat@localhost/chat?socket=/run/mysqld/mysqld.sock
//
// Of several hosts, one is used until it fails, and then the next. A server that is read-only is refused, and so is a node of a
// cluster (Galera) that is not ready. The hosts must be nodes of one cluster, or a primary and its replicas. A failover to
// an asynchronous replica loses the acknowledged writes that had not reached it.
//
// The parameters of the DSN are the driver's. A session of the Store has its own sql_mode, time zone, isolation and limits.
func OpenMySQL(ctx context.Context, dsn string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := newMySQL(dsn, cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e)
}

// NewMySQL opens the database of a handle that the program has made, with its connector, limits and lifetime. Closing the Store
// does not close the handle. Close the Store first.
//
// The handle's DSN must have multiStatements=true and interpolateParams=true, else NewMySQL returns [store.ErrInvalid]. Use the
// handle for nothing else: the Store changes the settings of its sessions, such as sql_mode. [WithMaxConns] and
// [WithConnLifetime] have no effect. When a call's context ends, the driver closes the connection: the server may go on with a
// read until it is done.
func NewMySQL(ctx context.Context, db *sql.DB, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	if db == nil {
		return nil, invalid("db: nil")
	}
	if cfg.schema != "" {
		return nil, errMySQLSchema
	}
	return open(ctx, cfg, newMySQLEngine(cfg, db, nil))
}

var errMySQLSchema = invalid("WithSchema: in MySQL a schema is a database: name it in the DSN")

type mysqlEngine struct {
	cfg   config
	db    *sql.DB
	hosts *mysqlHosts // nil if the handle is the program's
	about mysqlServer // what suits found

	closing context.Context
	stop    context.CancelFunc
	waits   sync.WaitGroup // transactions that outlive their call
}

func newMySQLEngine(cfg config, db *sql.DB, hosts *mysqlHosts) *mysqlEngine {
	e := &mysqlEngine{cfg: cfg, db: db, hosts: hosts}
	e.closing, e.stop = context.WithCancel(context.Background())
	return e
}

func newMySQL(dsn string, cfg config) (*mysqlEngine, error) {
	if cfg.schema != "" {
		return nil, errMySQLSchema
	}
	settings, addrs, err := mysqlDSN(dsn)
	if err != nil {
		return nil, err
	}
	settings.MultiStatements, settings.InterpolateParams = true, true
	settings.ClientFoundRows, settings.ParseTime, settings.RejectReadOnly = false, false, false
	settings.Logger = &mysql.NopLogger{} // it gets what the calls return
	settings.MaxAllowedPacket = 0        // the server's
	settings.Timeout = cmp.Or(settings.Timeout, verdictLimit)
	hosts := &mysqlHosts{cfg: cfg, limit: settings.Timeout}
	for _, addr := range addrs {
		host := settings.Clone()
		host.Addr, host.TLS = addr, nil // the driver makes TLS anew, for the name of this host
		c, err := mysql.NewConnector(host)
		if err != nil {
			return nil, errMySQLDSN
		}
		hosts.all = append(hosts.all, c)
	}
	db := sql.OpenDB(hosts)
	db.SetMaxOpenConns(cfg.maxConns)
	db.SetMaxIdleConns(cfg.maxConns)
	db.SetConnMaxIdleTime(idleFor)
	db.SetConnMaxLifetime(cfg.connLifetime)
	return newMySQLEngine(cfg, db, hosts), nil
}

func (e *mysqlEngine) name() string { return "mysql" }

func (e *mysqlEngine) statements(cfg config) statements {
	return statementsFor(mysqlDialect(cfg, e.about))
}

func (e *mysqlEngine) stats() poolStats {
	s := e.db.Stats()
	return poolStats{inUse: s.InUse, idle: s.Idle, max: s.MaxOpenConnections, waits: uint64(s.WaitCount), waited: s.WaitDuration}
}

// epoch names the server, or the cluster, that the connections lead to. For a handle of the program only the statement knows.
func (e *mysqlEngine) epoch() string {
	if e.hosts == nil {
		return ""
	}
	return *e.hosts.identity.Load() + " "
}

func (e *mysqlEngine) longestWrite() time.Duration {
	return e.cfg.statementTimeout + e.cfg.lockTimeout + checkInterval
}

func (e *mysqlEngine) notify(context.Context, bool) error { return nil }
func (e *mysqlEngine) scrub(context.Context) error        { return nil }

func (e *mysqlEngine) close() error {
	e.stop()
	e.waits.Wait()
	if e.hosts == nil {
		return nil
	}
	_ = e.db.Close() // it fails if a server is gone
	return nil
}

// suits refuses a server that is too old, and settings with which calls cannot work.
func (e *mysqlEngine) suits(ctx context.Context) error {
	if e.hosts == nil {
		err := e.read(ctx, step{"SELECT $1; SELECT $1", []any{1}, only(new(int))})
		if me, ok := errors.AsType[*mysql.MySQLError](err); ok && me.Number == 1064 { // a syntax error
			return &store.Error{Code: store.CodeInvalid, Field: "db: its DSN needs multiStatements=true and interpolateParams=true", Cause: err}
		}
		if err != nil {
			return err
		}
	}
	values, err := e.inquire(ctx)
	if err != nil {
		return err
	}
	e.about = newMySQLServer(values)
	switch {
	case e.about.old():
		return fmt.Errorf("%w: the server is %s: MariaDB 10.6 or MySQL 8.0 is needed", errUnsuitable, e.about.version)
	case values["log_bin"] == "ON" && values["binlog_format"] == "STATEMENT":
		return fmt.Errorf("%w: its binlog_format is STATEMENT: set ROW", errUnsuitable)
	}
	return nil
}

// healthy fails if the server does not answer, is read-only, or is a node of a cluster that has not all writes.
func (e *mysqlEngine) healthy(ctx context.Context) error {
	var err error
	for range 2 { // the second time at the next host, if there is one
		var values map[string]string
		if values, err = e.inquire(ctx); err == nil {
			err = newMySQLServer(values).unhealthy()
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// mysqlFault is an error of the connection to a server: no statement was sent.
type mysqlFault struct{ error }

func (f mysqlFault) Unwrap() error { return f.error }

// classify maps the server's error numbers (mariadb.com/kb, "MariaDB Error Code Reference"). A COMMIT that lost against another
// node of a cluster was rolled back. Every other error of a COMMIT leaves its outcome open.
func (e *mysqlEngine) classify(err error) verdict {
	me, ok := errors.AsType[*mysql.MySQLError](err)
	_, connecting := errors.AsType[mysqlFault](err)
	if !ok {
		_, isNet := errors.AsType[net.Error](err)
		v := verdict{code: store.CodeUnavailable, drop: true}
		switch {
		case errors.Is(err, sql.ErrConnDone), errors.Is(err, errAbandoned): // the program closed its handle
		case connecting:
			v.retry = true
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			v.code, v.drop = store.CodeOf(err), errors.Is(err, driver.ErrBadConn)
		case isNet, errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn):
			v.retry = true
		default:
			v.code = store.CodeInternal
		}
		return v
	}
	switch me.Number {
	case 1213, 3101, 9007, 1305: // deadlock, or another node's write came first; the same in a group of MySQL, in TiDB; no savepoint
		return verdict{code: store.CodeUnavailable, retry: true, settled: true}
	case 1020, 1637: // the row has changed, too many transactions
		return verdict{code: store.CodeUnavailable, retry: true}
	case 1047, // the node is not ready
		1040, 1203, 1226, // too many connections
		1053, 1079, 1152, 1184, 1927, 4031, // the server stops, or ended the session
		1290, 1792, 1836, 3032: // read-only: another server may serve
		return verdict{code: store.CodeUnavailable, retry: true, drop: true}
	case 1205, 1180, 1021, 1026, 1030, 1114: // a lock's limit, COMMIT failed, the disk is full or fails
		return verdict{code: store.CodeUnavailable}
	case 1317, 1969, 3024: // interrupted
		return verdict{code: store.CodeTimeout}
	case 1062: // a key is there
		return verdict{code: store.CodeConflict}
	}
	return verdict{code: store.CodeInternal}
}

// raced reports whether another program may have changed the schema at the same time.
func (e *mysqlEngine) raced(err error) bool {
	me, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return true
	}
	switch me.Number {
	case 1007, 1050, 1051, 1060, 1061, 1062, 1091, 1146, 1205, 1412, 1684: // there already, or being changed
		return true
	}
	return e.classify(err).retry
}

func (e *mysqlEngine) tableExists() string {
	return "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = $1"
}

func (e *mysqlEngine) newLog() string {
	return `CREATE TABLE IF NOT EXISTS {prefix}migrations (id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, version_id bigint NOT NULL UNIQUE,
		is_applied boolean NOT NULL, tstamp timestamp NOT NULL DEFAULT current_timestamp) ENGINE = InnoDB`
}

func (e *mysqlEngine) names(cfg config) *strings.Replacer {
	return strings.NewReplacer("{prefix}", cfg.prefix)
}

// alter runs f outside of a transaction, because a change of the schema ends one. Each statement can run twice.
func (e *mysqlEngine) alter(ctx context.Context, f func(context.Context, script) error) error {
	c, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	c.limit = longestSetting // the limits are for calls
	t := &mysqlTx{e: e, c: c, begun: true}
	defer func() { e.rollback(c, false, err) }()
	err = f(ctx, t)
	return err
}
