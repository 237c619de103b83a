package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/chatstore/chatstore/store"
)

// sqliteConn is a connection to SQLite that keeps its statements. One goroutine at a time may use it.
type sqliteConn struct {
	c *sqlite.Conn
	// stmts has the statement of each text. Conn.Prepare itself would clear the arguments of the last run, after which SQLite
	// compiles most statements again.
	stmts map[string]*sqlite.Stmt
	row   *sqlite.Stmt            // what scan reads
	scan  func(into ...any) error // scanRow, made once

	lent bool        // it belongs to a pool of the program, whose Take has set the context
	cut  func()      // interrupts the running statement, and later ones until arm
	stop func() bool // the answer of context.AfterFunc while a context is watched
}

func newSQLiteConn(c *sqlite.Conn, lent bool) *sqliteConn {
	held := &sqliteConn{c: c, stmts: map[string]*sqlite.Stmt{}, lent: lent}
	held.scan = held.scanRow
	if !lent {
		held.arm()
	}
	return held
}

// arm makes a new cut. The driver waits for it in a goroutine, which ends with the connection. If it waited for each context, it
// would start a goroutine per call.
func (c *sqliteConn) arm() {
	end := make(chan struct{})
	c.cut = func() { close(end) }
	c.c.SetInterrupt(end)
}

// watch interrupts statements when ctx ends, until unwatch.
func (c *sqliteConn) watch(ctx context.Context) {
	if !c.lent && ctx.Done() != nil {
		c.stop = context.AfterFunc(ctx, c.cut)
	}
}

// unwatch ends watch. Later statements are not interrupted.
func (c *sqliteConn) unwatch() {
	if c.lent {
		c.c.SetInterrupt(nil)
		return
	}
	if stop := c.stop; stop != nil {
		c.stop = nil
		if !stop() {
			c.arm() // a cut that comes late has no effect
		}
	}
}

// sqliteFault is an error of SQLite.
type sqliteFault struct {
	code sqlite.ResultCode
	error
}

func (f *sqliteFault) Unwrap() error { return f.error }

func fault(err error) error {
	if err == nil {
		return nil
	}
	return &sqliteFault{sqlite.ErrCode(err), err}
}

// run runs the steps. The context of watch interrupts them.
func (c *sqliteConn) run(_ context.Context, steps ...step) error {
	for i := range steps {
		if err := c.ask(&steps[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *sqliteConn) ask(st *step) error {
	s, ok := c.stmts[st.text]
	if !ok {
		var err error
		if s, err = c.c.Prepare(st.text); err != nil {
			return fault(err)
		}
		c.stmts[st.text] = s
	}
	defer func() { _ = s.Reset() }() // Step has returned its error already
	for i, arg := range st.args {
		switch v := arg.(type) {
		case string:
			s.BindText(i+1, v)
		case int:
			s.BindInt64(i+1, int64(v))
		case int64:
			s.BindInt64(i+1, v)
		default:
			return fmt.Errorf("sqlstore: argument %d has type %T", i+1, v)
		}
	}
	for {
		more, err := s.Step()
		if err != nil {
			return fault(err)
		}
		if !more {
			return nil
		}
		if st.row != nil {
			c.row = s
			if err := st.row(c.scan); err != nil {
				return err
			}
		}
	}
}

func (c *sqliteConn) scanRow(into ...any) error {
	for i, to := range into {
		switch to := to.(type) {
		case *string:
			*to = c.row.ColumnText(i)
		case *int:
			*to = c.row.ColumnInt(i)
		case *int64:
			*to = c.row.ColumnInt64(i)
		case *uint64:
			*to = uint64(c.row.ColumnInt64(i))
		case *bool:
			*to = c.row.ColumnBool(i)
		default:
			return fmt.Errorf("sqlstore: column %d into a %T", i, to)
		}
	}
	return nil
}

// exec runs a text of several statements, and ignores their rows.
func (c *sqliteConn) exec(_ context.Context, text string) error {
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		s, rest, err := c.c.PrepareTransient(text)
		if err != nil {
			return fault(err)
		}
		text = text[len(text)-rest:]
		for more := true; more && err == nil; {
			more, err = s.Step()
		}
		_ = s.Finalize() // Step has returned its error already
		if err != nil {
			return fault(err)
		}
	}
	return nil
}

// sqliteConns gives connections to calls.
type sqliteConns interface {
	// take waits for a connection until ctx ends.
	take(ctx context.Context) (*sqliteConn, error)
	put(*sqliteConn)
	close() error
	stats() poolStats
}

// sqlitePool opens connections when they are needed, and keeps them.
type sqlitePool struct {
	connect func() (*sqliteConn, error)
	open    chan struct{} // has an element for each open connection; its capacity limits their number
	idle    chan *sqliteConn
	queue
}

func newSQLitePool(most int, connect func() (*sqliteConn, error)) *sqlitePool {
	return &sqlitePool{connect: connect, open: make(chan struct{}, most), idle: make(chan *sqliteConn, most)}
}

// queue counts the calls that wait.
type queue struct {
	waits  atomic.Uint64
	waited atomic.Int64
}

// leave counts a call that has waited.
func (q *queue) leave(began time.Time) {
	q.waits.Add(1)
	q.waited.Add(int64(time.Since(began)))
}

func (p *sqlitePool) take(ctx context.Context) (*sqliteConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case c := <-p.idle:
		return c, nil
	default:
	}
	select {
	case p.open <- struct{}{}:
		return p.opened()
	default:
	}
	defer p.leave(time.Now())
	select {
	case c := <-p.idle:
		return c, nil
	case p.open <- struct{}{}:
		return p.opened()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *sqlitePool) opened() (*sqliteConn, error) {
	c, err := p.connect()
	if err != nil {
		<-p.open
	}
	return c, err
}

// put takes a connection back. It closes one that could not end its transaction.
func (p *sqlitePool) put(c *sqliteConn) {
	if c.c.AutocommitEnabled() {
		p.idle <- c
		return
	}
	_ = c.c.Close()
	<-p.open
}

// close closes the connections, of which none is in use.
func (p *sqlitePool) close() error {
	var err error
	for len(p.idle) > 0 {
		err = errors.Join(err, fault((<-p.idle).c.Close()))
	}
	return err
}

func (p *sqlitePool) stats() poolStats {
	idle, open := len(p.idle), len(p.open)
	return poolStats{max(open-idle, 0), idle, cap(p.open), p.waits.Load(), time.Duration(p.waited.Load())}
}

// sqliteLoans takes connections from a pool of the program.
type sqliteLoans struct {
	pool *sqlitex.Pool
	fits func(*sqliteConn) error // checks a connection that take sees for the first time

	mu    sync.Mutex
	known map[*sqlite.Conn]*sqliteConn
	inUse int
}

// errOpenTransaction says that the program gave a connection back to its pool in a transaction.
var errOpenTransaction = errors.New("sqlstore: a connection of the pool is in a transaction")

func (l *sqliteLoans) take(ctx context.Context) (*sqliteConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	taken, err := l.pool.Take(ctx)
	if gone := ctx.Err(); err != nil && gone != nil {
		return nil, gone
	}
	if code := sqlite.ErrCode(err); err != nil && code == sqlite.ResultError {
		return nil, fmt.Errorf("%w: %w", store.ErrUnavailable, err) // the pool is closed, or its PrepareConn fails
	} else if err != nil {
		return nil, fault(err)
	}
	c, err := l.checked(taken)
	if err != nil {
		l.pool.Put(taken)
		return nil, err
	}
	return c, nil
}

func (l *sqliteLoans) checked(taken *sqlite.Conn) (*sqliteConn, error) {
	if !taken.AutocommitEnabled() {
		return nil, errOpenTransaction
	}
	l.mu.Lock()
	c, ok := l.known[taken]
	l.mu.Unlock()
	if !ok {
		c = newSQLiteConn(taken, true)
		if err := l.fits(c); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[taken] = c
	l.inUse++
	return c, nil
}

func (l *sqliteLoans) put(c *sqliteConn) {
	l.pool.Put(c.c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inUse--
}

func (l *sqliteLoans) close() error { return nil }

func (l *sqliteLoans) stats() poolStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return poolStats{inUse: l.inUse, idle: len(l.known) - l.inUse}
}

// inTurn lets one call at a time take a connection. Others wait without one.
type inTurn struct {
	sqliteConns
	turn chan struct{}
	queue
}

func (t *inTurn) take(ctx context.Context) (*sqliteConn, error) {
	select {
	case t.turn <- struct{}{}:
	default:
		defer t.leave(time.Now())
		select {
		case t.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c, err := t.sqliteConns.take(ctx)
	if err != nil {
		<-t.turn
	}
	return c, err
}

func (t *inTurn) put(c *sqliteConn) {
	t.sqliteConns.put(c)
	<-t.turn
}

func (t *inTurn) stats() poolStats {
	st := t.sqliteConns.stats()
	st.waits, st.waited = t.waits.Load(), time.Duration(t.waited.Load())
	return st
}
