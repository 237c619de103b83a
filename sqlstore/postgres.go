package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/chatstore/chatstore/store"
)

// OpenPostgres opens a database of PostgreSQL 13 or later. dsn is a URL or a list of keywords and values, as for pgx and
// libpq. It must name the primary: a connection to a standby, which lacks the newest rows, is refused. Of several hosts, the
// primary is found.
func OpenPostgres(ctx context.Context, dsn string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := newPostgres(ctx, dsn, cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e)
}

// NewPostgres opens the database of a pool that the program has made, with the pool's settings, tracers and lifetime. Closing
// the Store does not close the pool. Close the Store first.
//
// The pool must not use the simple protocol (pgx.QueryExecModeSimpleProtocol), else NewPostgres returns [store.ErrInvalid].
// Behind a pooler such as pgbouncer, it must use pgx.QueryExecModeExec, as for [WithPooler], which is an option for
// [OpenPostgres] only. So are [WithMaxConns] and [WithConnLifetime]: the pool has these settings. Only the context limits a
// read, because the pool's sessions have their own statement_timeout.
func NewPostgres(ctx context.Context, pool *pgxpool.Pool, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	if pool == nil {
		return nil, invalid("pool: nil")
	}
	settings := pool.Config().ConnConfig
	switch settings.DefaultQueryExecMode {
	case pgx.QueryExecModeSimpleProtocol:
		return nil, invalid("pool: its DefaultQueryExecMode is QueryExecModeSimpleProtocol: use QueryExecModeExec behind a pooler, else the default")
	case pgx.QueryExecModeExec:
		cfg.pooler = true
	}
	return open(ctx, cfg, newEngine(cfg, pool, settings))
}

type postgresEngine struct {
	cfg  config
	pool *pgxpool.Pool
	own  bool            // the pool belongs to the Store
	dsn  *pgx.ConnConfig // for connections outside of the pool

	mu     sync.Mutex
	server server // which the connections lead to

	closing context.Context
	stop    context.CancelFunc
	waits   sync.WaitGroup // transactions that outlive their call
	asking  sync.Mutex     // held while one of these asks for its end
}

func newEngine(cfg config, pool *pgxpool.Pool, dsn *pgx.ConnConfig) *postgresEngine {
	e := &postgresEngine{cfg: cfg, pool: pool, dsn: dsn}
	e.closing, e.stop = context.WithCancel(context.Background())
	return e
}

// idleFor is how long an idle connection stays open.
const idleFor = 5 * time.Minute

// checkInterval is how often the server checks, during a statement, whether its client is still connected.
const checkInterval = 5 * time.Second

// cancelDelay is how long the server may take to answer after a request to cancel a statement.
const cancelDelay = 5 * time.Second

// unlimited is the life of a connection without a limit.
const unlimited = 100 * 365 * 24 * time.Hour

func newPostgres(ctx context.Context, dsn string, cfg config) (*postgresEngine, error) {
	settings, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		// Leave the error out: it may contain the password.
		return nil, &store.Error{Code: store.CodeInvalid, Field: "dsn: cannot be parsed"}
	}
	conn := settings.ConnConfig
	if cfg.pooler {
		conn.DefaultQueryExecMode = pgx.QueryExecModeExec
		conn.StatementCacheCapacity, conn.DescriptionCacheCapacity = 0, 0
	} else {
		for name, value := range cfg.limits() {
			conn.RuntimeParams[name] = value
		}
	}
	primaryOnly(conn)
	settings.MaxConns, settings.MinConns = int32(min(cfg.maxConns, math.MaxInt32)), 0
	settings.MaxConnIdleTime = idleFor
	settings.MaxConnLifetime = cmp.Or(cfg.connLifetime, unlimited)
	settings.MaxConnLifetimeJitter = cfg.connLifetime / 10
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, err
	}
	e := newEngine(cfg, pool, conn)
	e.own = true
	return e, nil
}

// primaryOnly refuses connections to a standby, unless the DSN has its own rule (target_session_attrs). A standby lacks the
// newest writes.
func primaryOnly(conn *pgx.ConnConfig) {
	if conn.ValidateConnect == nil {
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
}

func (e *postgresEngine) scrub(context.Context) error { return nil }
func (e *postgresEngine) name() string                { return "postgres" }

func (e *postgresEngine) stats() poolStats {
	st := e.pool.Stat()
	return poolStats{
		inUse: int(st.AcquiredConns()), idle: int(st.IdleConns()), max: int(st.MaxConns()),
		waits: uint64(st.EmptyAcquireCount()), waited: st.EmptyAcquireWaitTime(),
	}
}

// epoch names the server that the connections lead to.
func (e *postgresEngine) epoch() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("%s.%d.", e.server.system, e.server.database)
}

func (e *postgresEngine) longestWrite() time.Duration {
	return e.cfg.statementTimeout + e.cfg.lockTimeout + checkInterval
}

func (e *postgresEngine) statements(cfg config) statements {
	return statementsFor(postgresDialect(cfg))
}

// qualified returns the name of a table, with its schema if one was named.
func (c config) qualified(table string) string {
	if c.schema == "" {
		return c.prefix + table // which needs no quotation marks
	}
	return `"` + c.schema + `"."` + c.prefix + table + `"`
}

func (e *postgresEngine) close() error {
	e.stop()
	e.waits.Wait()
	if e.own {
		e.pool.Close()
	}
	return nil
}

// suits refuses a database whose encoding cannot hold every text.
func (e *postgresEngine) suits(ctx context.Context) error {
	var encoding string
	err := e.read(ctx, step{"SELECT current_setting('server_encoding')", nil, only(&encoding)})
	if err == nil && encoding != "UTF8" {
		err = fmt.Errorf("%w: its encoding is %s: create it with ENCODING 'UTF8'", errUnsuitable, encoding)
	}
	return err
}

// healthy fails if the server does not answer, is a replica or is read-only.
func (e *postgresEngine) healthy(ctx context.Context) error {
	var readOnly bool
	err := e.read(ctx, step{"SELECT current_setting('transaction_read_only')::bool", nil, only(&readOnly)})
	if err == nil && readOnly {
		err = fmt.Errorf("%w: the database is read-only", errFound)
	}
	return err
}

// classify maps SQLSTATE codes (PostgreSQL's appendix A). A COMMIT that was answered with an ERROR was rolled back, unless the
// code says that its outcome is unknown: 40003, and class 08, which proxies use. A COMMIT whose session or connection ended
// without an answer may have succeeded.
func (e *postgresEngine) classify(err error) verdict {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return unanswered(err)
	}
	v := verdict{code: store.CodeInternal, settled: pe.SeverityUnlocalized == "ERROR"}
	switch pe.Code {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		v.code, v.retry = store.CodeUnavailable, true
	case "57P01", "57P02": // admin_shutdown, crash_shutdown: this session ended; another may work
		v.code, v.retry = store.CodeUnavailable, true
	case "57P05": // idle_session_timeout: of this session
		v.code, v.retry = store.CodeUnavailable, true
	case "25P04": // transaction_timeout: it may have hit a COMMIT
		v.code, v.retry, v.settled = store.CodeUnavailable, true, false
	case "57P03", "53300": // cannot_connect_now, too_many_connections: for the moment
		v.code, v.retry = store.CodeUnavailable, true
	case "25006": // read_only_sql_transaction: of this session; transact drops it, and another may do
		v.code, v.retry, v.drop = store.CodeUnavailable, true, true
	case "25P03": // idle_in_transaction_session_timeout: the session ended before it read a COMMIT
		v.code, v.retry, v.settled = store.CodeUnavailable, true, true
	case "55P03": // lock_not_available
		v.code = store.CodeUnavailable
	case "40003": // statement_completion_unknown
		v.code, v.settled = store.CodeUnavailable, false
	case "57014": // query_canceled, by a timeout or by request
		v.code = store.CodeTimeout
	case "23505": // unique_violation
		v.code = store.CodeConflict
	case "23503": // foreign_key_violation
		v.code = store.CodeNotFound
	default:
		switch pe.Code[:min(2, len(pe.Code))] {
		case "08": // connection exception: a proxy, for example, lost the server
			v.code, v.retry, v.settled = store.CodeUnavailable, true, false
		case "53", "58": // insufficient resources (disk full), system
			v.code = store.CodeUnavailable
		}
	}
	return v
}

// raced reports whether another program created the schema or a table at the same time, or was changing its catalog row
// ("tuple concurrently updated", an internal error). Missing rights are no such case.
func (e *postgresEngine) raced(err error) bool {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	switch pe.Code {
	case "23505", "42P06", "42P07", "42710", "XX000":
		return true
	}
	return e.classify(err).retry
}

// unanswered classifies errors that do not come from the server. They never settle a COMMIT, even where pgconn.SafeToRetry
// reports true: pgx calls a connection safe ("conn closed") also if it broke while the answer was awaited.
func unanswered(err error) verdict {
	v := verdict{code: store.CodeUnavailable}
	_, isNet := errors.AsType[net.Error](err)
	_, isConnect := errors.AsType[*pgconn.ConnectError](err)
	switch {
	case errors.Is(err, pgx.ErrTxCommitRollback): // the answer to a COMMIT
		return verdict{code: store.CodeInternal, settled: true}
	case errors.Is(err, puddle.ErrClosedPool): // the program closed its pool
	case isConnect, errors.Is(err, errStandby), errors.Is(err, errOldLine), errors.Is(err, errOtherOne): // no statement was sent
		v.retry = true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		v.code = store.CodeOf(err)
	case pgconn.SafeToRetry(err), isNet, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		v.retry = true
	default:
		v.code = store.CodeInternal
	}
	return v
}
