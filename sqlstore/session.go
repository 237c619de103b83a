package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/store/driver"
)

// This file has the use of a connection of the pool. It checks a new connection, sends and cancels statements, and waits for the
// answer to COMMIT.

// server identifies the database behind a connection. After a failover, the timeline is higher. The old primary, if it still
// answers, has the lower one.
type server struct {
	system   string // of the cluster; "" if the server does not tell
	database uint32
	timeline string // eight hexadecimal digits
}

// The errors of connections that are not used. Another attempt may find a better one.
var (
	errStandby  = errors.New("sqlstore: the server is a standby (of several hosts, target_session_attrs=primary finds the primary)")
	errOldLine  = errors.New("sqlstore: the server is an old primary: another server was promoted")
	errOtherOne = errors.New("sqlstore: another database answers than before: restart the program to use it")
)

// greeted is the key of a connection's server in its custom data.
const greeted = "chatstore server"

// acquire returns a connection of the pool to the primary.
func (e *postgresEngine) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	for {
		c, err := e.pool.Acquire(ctx)
		if err != nil {
			return nil, fmt.Errorf("connection: %w", err)
		}
		known, err := e.welcome(ctx, c)
		if err == nil {
			return c, nil
		}
		if !known {
			return nil, err
		}
	}
}

// welcome greets a connection of the pool. It drops one that must not be used, also if a hook or tracer of the program panics.
func (e *postgresEngine) welcome(ctx context.Context, c *pgxpool.Conn) (known bool, err error) {
	good := false
	defer func() {
		if !good {
			drop(c)
		}
	}()
	known, err = e.greet(ctx, c.Conn())
	good = err == nil
	return known, err
}

// drop closes a connection and gives it back. It first closes the network connection. The driver's own way to close may ask
// the server to cancel, which must not happen to a COMMIT.
func drop(c *pgxpool.Conn) {
	hangUp(c.Conn())
	c.Release()
}

func hangUp(c *pgx.Conn) {
	_ = c.PgConn().Conn().Close()
	_ = c.Close(context.Background())
}

// greet checks the server of a connection that is new, and compares it with the server of the others. known says that the
// connection was used before.
func (e *postgresEngine) greet(ctx context.Context, c *pgx.Conn) (known bool, err error) {
	data := c.PgConn().CustomData()
	s, known := data[greeted].(server)
	if !known {
		err := e.watched(ctx, c, func() (err error) {
			s, err = identify(context.WithoutCancel(ctx), c)
			return err
		})
		if err != nil {
			return false, err
		}
		if e.own && !e.cfg.pooler {
			noticeLoss(context.WithoutCancel(ctx), c)
		}
		data[greeted] = s
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.server == s:
	case e.server == server{}, e.server.system == s.system && e.server.database == s.database && e.server.timeline < s.timeline:
		e.server = s
	case e.server.system != s.system || e.server.database != s.database:
		return known, errOtherOne
	default:
		return known, errOldLine
	}
	return known, nil
}

// timeline is the expression for a primary's timeline.
const timeline = "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)"

// changesServers reports whether a connection may lead to another server than when it was new, and the servers tell which
// they are.
func (e *postgresEngine) changesServers() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cfg.pooler && e.server.system != ""
}

// identify asks a server what it is.
func identify(ctx context.Context, c *pgx.Conn) (s server, err error) {
	var standby bool
	const database = "SELECT pg_is_in_recovery(), (SELECT oid FROM pg_database WHERE datname = current_database())"
	if err := c.QueryRow(ctx, database).Scan(&standby, &s.database); err != nil {
		return server{}, fmt.Errorf("new connection: %w", err)
	}
	if standby {
		return server{}, errStandby
	}
	const system = "SELECT system_identifier::text, " + timeline + " FROM pg_control_system()"
	err = c.QueryRow(ctx, system).Scan(&s.system, &s.timeline)
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pe.Code {
		case "42501", "42883", "0A000": // insufficient_privilege, undefined_function, feature_not_supported: some services hide it
			return server{database: s.database}, nil
		}
	}
	return s, err
}

// noticeLoss makes the server check during a statement whether its client is still connected. Some servers refuse the
// setting (before version 14, or on some platforms), which does no harm.
func noticeLoss(ctx context.Context, c *pgx.Conn) {
	_, _ = c.Exec(ctx, "SET client_connection_check_interval = "+millis(checkInterval))
}

// watched runs f, which waits for answers of the server. When ctx ends, it asks the server to cancel the statement, and f
// gets the server's answer. So a statement ends with its caller. f must not use ctx itself: the driver's own way to cancel may
// close the connection and leave the statement running.
func (e *postgresEngine) watched(ctx context.Context, c *pgx.Conn, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w := ctxwatch.NewContextWatcher(&pgconn.CancelRequestContextWatcherHandler{Conn: c.PgConn(), DeadlineDelay: e.cfg.cancelDelay})
	w.Watch(ctx)
	defer w.Unwatch()
	return f()
}

func (e *postgresEngine) read(ctx context.Context, st step) error {
	c, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release() // after a panic, it finds the connection busy and closes it
	return e.watched(ctx, c.Conn(), func() error {
		rows, err := c.Query(context.WithoutCancel(ctx), st.text, st.args...)
		if err != nil {
			return err
		}
		return eachRow(rows, st)
	})
}

func eachRow(rows pgx.Rows, st step) error {
	defer rows.Close()
	for rows.Next() {
		if st.row == nil {
			continue
		}
		if err := st.row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// pgTx is a transaction. It begins with the first run.
type pgTx struct {
	e     *postgresEngine
	c     *pgx.Conn
	begun bool
	xid   string
	on    server // where it runs

	asksLine bool // introduce asks for the timeline
}

func (t *pgTx) run(ctx context.Context, steps ...step) error {
	return t.e.watched(ctx, t.c, func() error {
		var b pgx.Batch
		if !t.begun {
			b.Queue("begin")
			text, args := t.introduce(ctx)
			b.Queue(text, args...)
		}
		for _, st := range steps {
			b.Queue(st.text, st.args...)
		}
		res := t.c.SendBatch(context.WithoutCancel(ctx), &b)
		err := t.answers(res, steps)
		return errors.Join(err, res.Close())
	})
}

func (t *pgTx) exec(ctx context.Context, text string) error {
	return t.e.watched(ctx, t.c, func() error {
		_, err := t.c.PgConn().Exec(context.WithoutCancel(ctx), text).ReadAll()
		return err
	})
}

func (t *pgTx) answers(res pgx.BatchResults, steps []step) error {
	if !t.begun {
		if _, err := res.Exec(); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		t.begun = true
		rows, err := res.Query()
		if err == nil {
			err = eachRow(rows, step{row: func(func(...any) error) error {
				values := rows.RawValues()
				t.xid = string(values[0])
				if t.asksLine {
					t.on.timeline = string(values[1])
				}
				return nil
			}})
		}
		if err != nil {
			return fmt.Errorf("introduce: %w", err)
		}
	}
	for _, st := range steps {
		rows, err := res.Query()
		if err != nil {
			return err
		}
		if err := eachRow(rows, st); err != nil {
			return err
		}
	}
	return nil
}

// introduce returns the second statement of a transaction. It asks for the transaction's number, and sets the call's stamp for
// the triggers and what differs from the session's limits.
func (t *pgTx) introduce(ctx context.Context) (text string, args []any) {
	e := t.e
	text = "SELECT pg_current_xact_id()::text"
	if t.asksLine = e.changesServers(); t.asksLine {
		text += ", " + timeline
	}
	set := func(name, value string) {
		args = append(args, value)
		text += ", set_config('" + name + "', $" + strconv.Itoa(len(args)) + ", true)"
	}
	if s := bus.StampFrom(ctx); s.Origin != "" {
		set("chatstore.stamp", s.Origin+":"+strconv.FormatUint(s.Write, 10))
	}
	limit := e.cfg.statementTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end))
	}
	if e.own && !e.cfg.pooler { // newPostgres has set the session's limits
		if limit < e.cfg.statementTimeout {
			set("statement_timeout", millis(limit))
		}
		return text, args
	}
	limits := e.cfg.limits()
	limits["statement_timeout"] = millis(limit)
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		set(name, limits[name])
	}
	return text, args
}

// limits returns the settings of a session or transaction. The idle limit ends the transaction of a client whose machine
// vanished. With fewer messages, a server may hide the warnings that sendCommit looks for.
func (c config) limits() map[string]string {
	return map[string]string{
		"statement_timeout": millis(c.statementTimeout), "lock_timeout": millis(c.lockTimeout),
		"idle_in_transaction_session_timeout": millis(c.statementTimeout), "client_min_messages": "warning",
	}
}

func (e *postgresEngine) write(ctx context.Context, f func(context.Context, tx) error) (settled bool, err error) {
	c, err := e.acquire(ctx)
	if err != nil {
		return true, err
	}
	t := &pgTx{e: e, c: c.Conn(), on: c.Conn().PgConn().CustomData()[greeted].(server)}
	committing := false
	defer func() {
		if !committing { // also after a panic
			e.rollback(c, err)
		}
	}()
	if err = f(ctx, t); err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return true, err
	}
	committing = true
	return e.commit(ctx, c, t)
}

// rollback ends a transaction after err and gives the connection back. A connection that cannot go on is closed.
func (e *postgresEngine) rollback(c *pgxpool.Conn, err error) {
	if err != nil && e.classify(err).drop {
		drop(c)
		return
	}
	defer c.Release() // it closes a connection that is busy or still in a transaction
	if pg := c.Conn().PgConn(); !pg.IsClosed() && !pg.IsBusy() && pg.TxStatus() != 'I' {
		limited, cancel := context.WithTimeout(context.Background(), verdictLimit)
		defer cancel()
		_, _ = c.Exec(limited, "rollback", pgx.QueryExecModeSimpleProtocol)
	}
}

// commit commits and gives the connection back. It waits for the answer, and after the end of ctx for verdictLimit longer.
// COMMIT itself is never cancelled: the server would answer that it has committed, though the standby that it waits for has
// not confirmed. If the outcome is unknown, commit holds the connection's place in the pool until the server has ended the
// transaction.
func (e *postgresEngine) commit(ctx context.Context, c *pgxpool.Conn, t *pgTx) (settled bool, err error) {
	answered := make(chan error, 1)
	go func() { answered <- sendCommit(c.Conn().PgConn()) }()
	err, ok := decided(ctx, answered)
	switch {
	case !ok:
		e.outlive(ctx, c, t, answered)
		return false, errAbandoned
	case err == nil:
		c.Release()
		return true, nil
	case errors.Is(err, errWarned) || e.classify(err).settled:
		c.Release()
	default:
		hangUp(c.Conn()) // also if a proxy lost the server, and is alive
		e.outlive(ctx, c, t, nil)
	}
	return e.classify(err).settled, fmt.Errorf("commit: %w", err)
}

// pollInterval is the time between two looks for the end of a transaction.
const pollInterval = time.Second

// outlive waits for the end of a transaction whose COMMIT has no answer, and then gives its connection back. The server may
// go on with it, also after its connection was cut: it holds its locks, and becomes visible later. So outlive tells the layers
// above to hold the thread back. The server process counts as a connection of the pool until then. answered is nil if the
// connection is broken.
func (e *postgresEngine) outlive(ctx context.Context, c *pgxpool.Conn, t *pgTx, answered <-chan error) {
	ended := make(chan struct{})
	driver.ReportPending(ctx, ended)
	e.waits.Go(func() {
		defer close(ended)
		defer c.Release()
		if answered != nil {
			select {
			case err := <-answered:
				if err == nil || errors.Is(err, errWarned) || e.classify(err).settled {
					return
				}
			case <-e.closing.Done():
				_ = c.Conn().PgConn().Conn().Close() // ends the wait for the answer
				<-answered
			}
			hangUp(c.Conn())
		}
		for e.closing.Err() == nil {
			if running, err := e.running(e.closing, t.on, t.xid); err == nil && !running {
				return
			} else if _, answered := errors.AsType[*pgconn.PgError](err); err != nil && !answered {
				c.Release() // no server can be reached, so none has too many connections
			}
			select {
			case <-time.After(pollInterval):
			case <-e.closing.Done():
			}
		}
	})
}

// connect opens a connection outside of the pool, as the pool opens its own.
func (e *postgresEngine) connect(ctx context.Context, dsn *pgx.ConnConfig) (*pgx.Conn, error) {
	dsn = dsn.Copy()
	if before := e.pool.Config().BeforeConnect; before != nil { // it may set a password that is valid for minutes
		if err := before(ctx, dsn); err != nil {
			return nil, err
		}
	}
	c, err := pgx.ConnectConfig(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if after := e.pool.Config().AfterConnect; after != nil {
		if err := after(ctx, c); err != nil {
			return nil, errors.Join(err, c.Close(ctx))
		}
	}
	return c, nil
}

// running reports whether the server still runs a transaction. It asks on a connection of its own, because the pool may have
// no other. There is at most one such connection.
func (e *postgresEngine) running(ctx context.Context, on server, xid string) (bool, error) {
	e.asking.Lock()
	defer e.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, verdictLimit)
	defer cancel()
	c, err := e.connect(ctx, e.dsn)
	if err != nil {
		return true, err
	}
	defer func() { _ = c.Close(ctx) }()
	if _, err := e.greet(ctx, c); err != nil {
		return true, err
	}
	if c.PgConn().CustomData()[greeted] != on {
		return false, nil // another server was promoted, and uses the same numbers for other transactions
	}
	var status *string
	err = c.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", xid).Scan(&status)
	return err != nil || status != nil && *status == "in progress", err
}

// sendCommit sends COMMIT and returns nil only if the server confirms it without a warning. It reads the answer from the driver's
// frontend, for two reasons. The driver itself passes warnings only to a function that the program may have set. And after a
// broken connection it asks the server to cancel.
func sendCommit(c *pgconn.PgConn) error {
	server := c.Frontend()
	server.SendQuery(&pgproto3.Query{String: "commit"})
	if err := server.Flush(); err != nil {
		return err
	}
	var answer error
	for answered := false; !answered; {
		m, err := server.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.NoticeResponse:
			if code := m.Code + "  "; code[:2] != "00" {
				answer = fmt.Errorf("%w: %w", errWarned, pgconn.ErrorResponseToPgError((*pgproto3.ErrorResponse)(m)))
			}
		case *pgproto3.ErrorResponse:
			answer, answered = pgconn.ErrorResponseToPgError(m), true
		case *pgproto3.CommandComplete:
			if answered = true; string(m.CommandTag) != "COMMIT" {
				answer = pgx.ErrTxCommitRollback
			}
		}
	}
	// The driver itself must read the end of the answer, which has the state of the session.
	for c.TxStatus() != 'I' {
		if _, err := c.ReceiveMessage(context.Background()); err != nil {
			break // the pool notices
		}
	}
	return answer
}

// errWarned says that the server committed with a warning, such as that a standby has not confirmed.
var errWarned = errors.New("sqlstore: warning at COMMIT")
