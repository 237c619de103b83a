package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/chatstore/chatstore/store"
)

// OpenPostgres opens a database of PostgreSQL 13 or later; dsn is a URL or a list of keywords and values, as pgx and libpq know
// them. It must name the primary: what a replica has not heard of yet is not there.
func OpenPostgres(ctx context.Context, dsn string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := newPostgres(dsn, cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e)
}

type postgresEngine struct {
	db  *sql.DB
	cfg config
	dsn *pgx.ConnConfig
}

// checkInterval is how often a server at work looks whether its client is still there.
const checkInterval = 5 * time.Second

// cancelDelay is how long a server that was asked to cancel a statement has to say what became of it.
const cancelDelay = 5 * time.Second

func newPostgres(dsn string, cfg config) (*postgresEngine, error) {
	conn, err := pgx.ParseConfig(dsn)
	if err != nil {
		// The error may have the password in it.
		return nil, &store.Error{Code: store.CodeInvalid, Field: "dsn: cannot be parsed"}
	}
	// A cancelled call asks the server to cancel, and waits for what it says: by default the connection would be cut, and the
	// statement go on.
	conn.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: cancelDelay}
	}
	e := &postgresEngine{cfg: cfg, dsn: conn}
	var settings []stdlib.OptionOpenDB
	if cfg.pooler {
		conn.DefaultQueryExecMode = pgx.QueryExecModeExec
		conn.StatementCacheCapacity, conn.DescriptionCacheCapacity = 0, 0
	} else {
		settings = append(settings, stdlib.OptionAfterConnect(e.settle))
	}
	e.db = stdlib.OpenDB(*conn, settings...)
	e.db.SetMaxOpenConns(cfg.maxConns)
	e.db.SetMaxIdleConns(max(2, cfg.maxConns/4))
	return e, nil
}

// settle bounds what the server does for a connection. A setting that the server's version or platform does not know is left.
func (e *postgresEngine) settle(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config(name, value, false)
		FROM (VALUES ('statement_timeout', $1), ('lock_timeout', $2)) AS w (name, value)`,
		millis(e.cfg.statementTimeout), millis(e.cfg.lockTimeout))
	if err == nil {
		_, _ = c.Exec(ctx, `SELECT set_config('client_connection_check_interval', $1, false)`, millis(checkInterval))
	}
	return err
}

func (e *postgresEngine) name() string    { return "postgres" }
func (e *postgresEngine) reader() *sql.DB { return e.db }
func (e *postgresEngine) writer() *sql.DB { return e.db }

func (e *postgresEngine) longestWrite() time.Duration {
	return e.cfg.statementTimeout + e.cfg.lockTimeout + checkInterval
}

func (e *postgresEngine) statements(cfg config) statements {
	return statementsFor(cfg.qualified, func(text string) string { return text })
}

// qualified returns the name of a table, with its schema if one was named.
func (c config) qualified(table string) string {
	if c.schema == "" {
		return `"` + c.prefix + table + `"`
	}
	return `"` + c.schema + `"."` + c.prefix + table + `"`
}

// prepare stamps the transaction for those who announce it, and gives it the caller's deadline.
func (e *postgresEngine) prepare(ctx context.Context, tx *sql.Tx) error {
	var (
		set  []string
		args []any
	)
	setting := func(name, value string) {
		args = append(args, value)
		set = append(set, "set_config('"+name+"', $"+strconv.Itoa(len(args))+", true)")
	}
	if s := store.StampFrom(ctx); s.Origin != "" {
		setting("chatstore.stamp", s.Origin+":"+strconv.FormatUint(s.Write, 10))
	}
	limit, deadline := e.cfg.statementTimeout, false
	if t, ok := ctx.Deadline(); ok && time.Until(t) < limit {
		limit, deadline = time.Until(t), true
	}
	if deadline || e.cfg.pooler {
		setting("statement_timeout", millis(limit))
	}
	if e.cfg.pooler {
		setting("lock_timeout", millis(e.cfg.lockTimeout))
	}
	if len(set) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SELECT "+strings.Join(set, ", "), args...)
	return err
}

func (e *postgresEngine) ping(ctx context.Context) error { return e.db.PingContext(ctx) }
func (e *postgresEngine) close() error                   { return e.db.Close() }

// classify knows SQLSTATE (PostgreSQL's appendix A). A COMMIT that was answered with an ERROR was rolled back; one whose session
// was ended, or whose connection broke, may have been carried out before.
func (e *postgresEngine) classify(err error) verdict {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return unanswered(err)
	}
	v := verdict{code: store.CodeInternal, settled: pe.SeverityUnlocalized == "ERROR"}
	switch pe.Code {
	case "40001", "40P01": // serialization_failure, deadlock_detected
		v.code, v.retry = store.CodeUnavailable, true
	case "55P03", "25006", "57P01", "57P02", "57P03": // lock_not_available, read_only_sql_transaction, shutdowns, cannot_connect_now
		v.code = store.CodeUnavailable
	case "57014": // query_canceled, by a time-out or by request
		v.code = store.CodeTimeout
	case "23505": // unique_violation
		v.code = store.CodeConflict
	case "23503": // foreign_key_violation
		v.code = store.CodeNotFound
	default:
		switch pe.Code[:min(2, len(pe.Code))] {
		case "08", "53", "58": // connection, insufficient resources (disk full, too many connections), system
			v.code = store.CodeUnavailable
		}
	}
	return v
}

// unanswered classifies the errors that are not the server's.
func unanswered(err error) verdict {
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return verdict{code: store.CodeInternal, settled: true}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return verdict{code: store.CodeOf(err)}
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return verdict{code: store.CodeUnavailable, settled: true}
	}
	_, isNet := errors.AsType[net.Error](err)
	switch {
	case isNet, pgconn.SafeToRetry(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, driver.ErrBadConn):
		// The connection was lost: what was not committed never will be.
		return verdict{code: store.CodeUnavailable, retry: true}
	}
	return verdict{code: other(err)}
}
