package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// This file has the use of a connection of MySQL. It sends and cancels statements.

// mysqlSession is a connection of the pool, in use by one call.
type mysqlSession struct {
	*sql.Conn
	own     *mysqlConn    // nil if the handle is the program's
	limit   time.Duration // of its statements
	session string        // its number at the server
}

// acquire returns a connection of the pool to the server that answered last. After a failover, connections to the server
// before are closed.
func (e *mysqlEngine) acquire(ctx context.Context) (*mysqlSession, error) {
	for {
		c, err := e.db.Conn(ctx)
		if err != nil {
			return nil, fmt.Errorf("connection: %w", mysqlFault{err})
		}
		s := &mysqlSession{Conn: c, limit: e.cfg.statementTimeout}
		if e.hosts == nil {
			return s, e.prepare(ctx, s)
		}
		err = c.Raw(func(raw any) error {
			s.own = raw.(*mysqlConn)
			s.session = s.own.session
			return nil
		})
		if err == nil && e.hosts.serves(s.own) {
			return s, nil
		}
		s.drop()
		if err != nil {
			return nil, err
		}
	}
}

// prepare sets up a session of a handle that is the program's: such sessions cannot be told apart. No argument travels with the
// settings, because the driver escapes by the sql_mode that the session has before.
func (e *mysqlEngine) prepare(ctx context.Context, s *mysqlSession) error {
	err := e.watched(ctx, s, func(ctx context.Context) error {
		return s.QueryRowContext(ctx, e.cfg.mysqlSettings(e.about)+"; SELECT CONNECTION_ID()").Scan(&s.session)
	})
	if err != nil {
		s.drop()
	}
	return err
}

// release gives the connection back.
func (s *mysqlSession) release() { _ = s.Close() }

// drop closes the connection.
func (s *mysqlSession) drop() {
	_ = s.Raw(func(any) error { return sqldriver.ErrBadConn })
	_ = s.Close()
}

// inquire asks the server of some connection what it is.
func (e *mysqlEngine) inquire(ctx context.Context) (values map[string]string, err error) {
	c, err := e.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { e.rollback(c, false, err) }()
	err = e.watched(ctx, c, func(ctx context.Context) error {
		return c.Raw(func(raw any) error {
			asked, ok := raw.(sqldriver.QueryerContext)
			if !ok {
				return invalid("db: its driver has no QueryContext")
			}
			values, err = aboutMySQL(ctx, asked)
			return err
		})
	})
	if c.own != nil && ctx.Err() == nil && (err != nil || newMySQLServer(values).unhealthy() != nil) {
		e.hosts.leave(c.own)
	}
	return values, err
}

// watched runs f, which waits for answers of the server. When ctx ends, or after the session's limit, it asks the server to stop
// the statement, and f gets the server's answer. If there is none, it closes the connection. For a handle of the program the
// driver closes the connection at once.
func (e *mysqlEngine) watched(ctx context.Context, c *mysqlSession, f func(context.Context) error) error {
	ctx, end := context.WithTimeout(ctx, c.limit)
	defer end()
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.own == nil {
		return f(ctx)
	}
	inner, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	waiting, answered := context.WithCancel(inner)
	defer answered()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		limited, end := context.WithTimeout(waiting, e.cfg.cancelDelay)
		defer end()
		_ = c.own.interrupt(limited)
		<-limited.Done()
		if waiting.Err() == nil {
			e.hosts.leave(c.own)
			cut()
		}
	})
	err := f(inner)
	answered()
	if stop() {
		return err
	}
	<-ended
	if me, ok := errors.AsType[*mysql.MySQLError](err); ok && me.Number == 1317 { // interrupted
		return err
	}
	return errors.Join(ctx.Err(), sqldriver.ErrBadConn) // the order to stop may hit the next statement
}

func (e *mysqlEngine) read(ctx context.Context, st step) (err error) {
	c, err := e.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { e.rollback(c, false, err) }()
	return e.ask(ctx, c, "", st)
}

// ask sends a text and all steps at once, and reads the answers. A step with a function for rows has one SELECT, and others have
// none.
func (e *mysqlEngine) ask(ctx context.Context, c *mysqlSession, before string, steps ...step) error {
	text, args, err := bound(before, steps)
	if err != nil {
		return err
	}
	err = e.watched(ctx, c, func(ctx context.Context) error {
		rows, err := c.QueryContext(ctx, text, args...)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		more := true
		for _, st := range steps {
			if st.row == nil {
				continue
			}
			if !more {
				return errors.Join(rows.Err(), io.ErrUnexpectedEOF)
			}
			for rows.Next() {
				if err := st.row(rows.Scan); err != nil {
					for rows.Next() { // a row of a statement that was stopped may lack values: the reason comes last
					}
					return cmp.Or(rows.Err(), err)
				}
			}
			more = rows.NextResultSet()
		}
		for more { // an error of the last statements comes last
			more = rows.NextResultSet()
		}
		return rows.Err()
	})
	return c.explained(ctx, err)
}

// bound joins the texts of steps, and replaces $1 and so on by ?, each with its argument. Texts become bytes, which no character set
// changes.
func bound(before string, steps []step) (text string, args []any, err error) {
	var b strings.Builder
	if b.WriteString(before); before != "" && len(steps) > 0 {
		b.WriteString("; ")
	}
	add := func(arg any) {
		if s, ok := arg.(string); ok {
			arg = []byte(s)
		}
		args = append(args, arg)
		b.WriteByte('?')
	}
	for n, st := range steps {
		if n > 0 {
			b.WriteString("; ")
		}
		rest := st.text
		for {
			plain, after, ok := strings.Cut(rest, "$")
			b.WriteString(plain)
			if !ok {
				break
			}
			number, after := digits(after)
			if number < 1 || number > len(st.args) {
				return "", nil, fmt.Errorf("sqlstore: no argument $%d", number)
			}
			list, several := st.args[number-1].(texts)
			switch {
			case !several:
				add(st.args[number-1])
			case strings.HasPrefix(after, ".*"):
				after = after[2:]
				add("\x00" + strings.Join(list, "\x00") + "\x00")
			case strings.HasPrefix(after, "."):
				if number, after = digits(after[1:]); number >= len(list) {
					return "", nil, fmt.Errorf("sqlstore: no text %d", number)
				}
				add(list[number])
			case len(list) == 0:
				b.WriteString("NULL")
			default:
				for n, s := range list {
					if n > 0 {
						b.WriteString(", ")
					}
					add(s)
				}
			}
			rest = after
		}
	}
	return b.String(), args, nil
}

// digits cuts a number off the begin of a text.
func digits(text string) (n int, rest string) {
	i := 0
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		i++
	}
	n, _ = strconv.Atoi(text[:i])
	return n, text[i:]
}

// mysqlTx is a transaction. It begins with the first run.
type mysqlTx struct {
	e     *mysqlEngine
	c     *mysqlSession
	begun bool
}

// mysqlBegin returns the statements that begin a transaction. A node of a cluster may roll a transaction back between two statements of
// one text, because of the write of another node, and report nothing. The next statement must then not take effect by itself, and the
// rest must not be committed: the savepoint is gone. A transaction whose client is gone does not keep its locks for long: the
// server ends it later than a client would.
func (c config) mysqlBegin() string {
	return fmt.Sprintf("SET SESSION autocommit = 0, wait_timeout = %d; START TRANSACTION; SAVEPOINT begun", seconds(c.statementTimeout+checkInterval))
}

func (t *mysqlTx) run(ctx context.Context, steps ...step) error {
	before := ""
	if !t.begun {
		before, t.begun = t.e.cfg.mysqlBegin(), true
	}
	return t.e.ask(ctx, t.c, before, steps...)
}

// exec runs statements that each end with a semicolon at the end of a line.
func (t *mysqlTx) exec(ctx context.Context, text string) error {
	return t.e.watched(ctx, t.c, func(ctx context.Context) error {
		_, err := t.c.ExecContext(ctx, text)
		return err
	})
}

func (e *mysqlEngine) write(ctx context.Context, f func(context.Context, tx) error) (settled bool, err error) {
	c, err := e.acquire(ctx)
	if err != nil {
		return true, err
	}
	committing := false
	defer func() {
		if !committing { // also after a panic
			e.rollback(c, true, err)
		}
	}()
	if err = f(ctx, &mysqlTx{e: e, c: c}); err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return true, err
	}
	committing = true
	return e.commit(ctx, c)
}

// rollback ends a transaction, if there is one, after err and gives the connection back. A connection that cannot go on is closed.
func (e *mysqlEngine) rollback(c *mysqlSession, begun bool, err error) {
	if _, own := errors.AsType[refused](err); err != nil && !own && !errors.Is(err, errMoved) && e.classify(err).drop {
		c.drop()
		return
	}
	if begun {
		limited, cancel := context.WithTimeout(context.Background(), verdictLimit)
		defer cancel()
		if _, err := c.ExecContext(limited, "ROLLBACK; SET SESSION "+betweenTransactions); err != nil {
			c.drop()
			return
		}
	}
	c.release()
}
