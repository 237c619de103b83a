package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/chatstore/chatstore/store/driver"
)

// This file has the COMMIT of MySQL, the wait for its answer, and what follows if there is none.

// commit commits and gives the connection back. It waits for the answer, and after the end of ctx for verdictLimit longer. COMMIT
// itself is never cancelled. It has a name, by which the server can be asked whether it still runs.
func (e *mysqlEngine) commit(ctx context.Context, c *mysqlSession) (settled bool, err error) {
	name := rand.Text()
	sending, cut := context.WithCancel(context.Background())
	answered, sent := make(chan error, 1), time.Now()
	go func() {
		_, err := c.ExecContext(sending, "RELEASE SAVEPOINT begun /* "+name+" */; COMMIT /* "+name+" */; SET SESSION "+betweenTransactions)
		answered <- err
	}()
	err, ok := decided(ctx, answered)
	switch {
	case !ok:
		e.outlive(ctx, c, name, sent, answered, cut)
		return false, errAbandoned
	case err == nil:
		cut()
		c.release()
		return true, nil
	case e.classify(err).settled:
		cut()
		e.rollback(c, true, err)
		return true, fmt.Errorf("commit: %w", err)
	}
	e.outlive(ctx, c, name, sent, nil, cut)
	return false, fmt.Errorf("commit: %w", err)
}

// outlive waits for the end of a COMMIT whose outcome is not known, and then gives its connection back. The server may go on with
// it, also after its connection was cut. So outlive tells the layers above to hold the thread back. The session counts as a
// connection of the pool until then. answered is nil if there is an answer, or if the connection is broken.
func (e *mysqlEngine) outlive(ctx context.Context, c *mysqlSession, name string, sent time.Time, answered <-chan error, cut func()) {
	ended := make(chan struct{})
	driver.ReportPending(ctx, ended)
	e.waits.Go(func() {
		defer close(ended)
		defer c.drop()
		defer cut()
		if answered != nil {
			select {
			case err := <-answered:
				if err == nil || e.classify(err).settled {
					return
				}
			case <-e.closing.Done():
				cut() // ends the wait for the answer
				<-answered
			}
		}
		if c.own == nil { // the program's pool may have no other
			c.drop()
		}
		_ = c.Raw(func(raw any) error {
			_ = raw.(sqldriver.Conn).Close()
			return nil
		})
		for e.closing.Err() == nil {
			if running, err := e.running(e.closing, c, name, sent); err == nil && !running {
				return
			} else if _, answered := errors.AsType[*mysql.MySQLError](err); err != nil && !answered {
				c.drop() // no server can be reached, so none has too many connections
			}
			select {
			case <-time.After(pollInterval):
			case <-e.closing.Done():
			}
		}
	})
}

// running reports whether the server still runs a COMMIT, or has yet to read it. If the server cannot be reached, another one
// decides.
func (e *mysqlEngine) running(ctx context.Context, c *mysqlSession, name string, sent time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, verdictLimit)
	defer cancel()
	// A session that sleeps for as long as the COMMIT is away has not read it. Numbers are used again after a restart.
	const text = "SELECT count(*) FROM information_schema.PROCESSLIST WHERE ID <> connection_id() AND INFO LIKE concat('%', $1, '%') OR ID = $2 AND COMMAND = 'Sleep' AND TIME >= $3"
	const slack = 2 * time.Second // the server counts in whole seconds
	count := 0
	st := step{text, []any{name, c.session, int64((time.Since(sent) - slack).Seconds())}, only(&count)}
	if c.own == nil {
		other, err := e.acquire(ctx)
		if err != nil {
			return true, err
		}
		defer func() { e.rollback(other, false, err) }()
		err = e.ask(ctx, other, "", st)
		return count > 0, err
	}
	one := sql.OpenDB(c.own.host)
	defer func() { _ = one.Close() }()
	near, end := context.WithTimeout(ctx, verdictLimit/2)
	defer end()
	same := false // behind one address there may be several servers
	conn, err := one.Conn(near)
	if err == nil {
		defer func() { _ = conn.Close() }()
		err = conn.Raw(func(raw any) error {
			values, err := aboutMySQL(near, raw.(sqldriver.QueryerContext))
			same = newMySQLServer(values).node == c.own.server.node
			return err
		})
	}
	if err != nil || !same {
		gone, err := e.hosts.without(ctx, c.own)
		return !gone, err
	}
	err = e.ask(ctx, &mysqlSession{Conn: conn, limit: verdictLimit}, "", st)
	return count > 0, err
}
