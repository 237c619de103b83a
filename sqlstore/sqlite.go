package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/chatstore/chatstore/store"
)

// OpenSQLite opens the database file at path and creates it if it is missing. The path ":memory:" opens a database in memory
// that ends with the Store. Several Stores and programs on one machine may open the same file.
//
// The file is in WAL mode: readers never wait, and writers wait only for each other. [WithDurability] says what an
// acknowledged write survives.
//
// No other code in the program may open the file, not even to copy it: closing it would release SQLite's POSIX locks. On
// Linux, OpenSQLite makes SQLite (modernc.org/sqlite/lib) use locks without this fault, those of open files. It does so for
// the whole program, and only if no database file was locked yet. For backups, use SQLite's own tools (VACUUM INTO, sqlite3
// .backup): a copy of the file alone lacks the contents of the WAL.
func OpenSQLite(ctx context.Context, path string, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	e, err := newSQLite(path, cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, e)
}

// NewSQLite opens the database of a pool that the program has made. Closing the Store does not close the pool. Close the Store
// first.
//
// The pool has these settings, else calls fail with [store.ErrInvalid]:
//   - a file is in WAL mode, or the database is in memory
//   - its encoding is UTF-8
//   - each connection has PRAGMA foreign_keys = on, which sqlitex.PoolOptions.PrepareConn can set
//   - PRAGMA synchronous is as strict as [WithDurability] asks
//
// [WithMaxConns] has no effect. A write waits for the lock of the file as the pool's connections do: by default until its
// context ends. The pool opens the file before NewSQLite can ask for locks of open files: see [OpenSQLite]. To have them, set
// MODERNC_SQLITE_OFD_LOCK=1 in the program's environment.
func NewSQLite(ctx context.Context, pool *sqlitex.Pool, opts ...Option) (*Store, error) {
	cfg, err := configured(opts)
	if err != nil {
		return nil, err
	}
	if pool == nil {
		return nil, invalid("pool: nil")
	}
	if cfg.schema != "" {
		return nil, errSQLiteSchema
	}
	ofdLocks()
	loans := &sqliteLoans{pool: pool, known: map[*sqlite.Conn]*sqliteConn{}}
	e := &sqliteEngine{cfg: cfg, opened: rand.Text(), reads: loans, writes: &inTurn{sqliteConns: loans, turn: make(chan struct{}, 1)}}
	loans.fits = func(c *sqliteConn) error {
		_, err := e.fits(c)
		if errors.Is(err, errUnsuitable) {
			err = fmt.Errorf("%w (%w)", err, store.ErrInvalid)
		}
		return err
	}
	return open(ctx, cfg, e)
}

// sqliteEngine has the connections to one database. Those of a file are one for writes and others for reads. A database in
// memory has only one, so reads is writes.
type sqliteEngine struct {
	cfg           config
	path          string      // "" in memory
	file          os.FileInfo // of path when it was opened; nil before, and in memory
	opened        string      // is different for each Store
	foreign       bool        // the file has no tables of a Store; they are not to be made
	reads, writes sqliteConns
}

// busyTimeout is short, so that longer waits happen in try, where the caller's context can end them.
const busyTimeout = 20 * time.Millisecond

var errSQLiteSchema = invalid("WithSchema: SQLite has no schemas")

func newSQLite(path string, cfg config) (*sqliteEngine, error) {
	switch {
	case path == "":
		return nil, invalid("path: empty")
	case strings.HasPrefix(path, "file:"):
		return nil, invalid("path: begins with file: (give a path, not a URI; settings are options)")
	case strings.ContainsRune(path, 0):
		return nil, invalid("path: has a zero byte")
	case cfg.schema != "":
		return nil, errSQLiteSchema
	}
	e := &sqliteEngine{cfg: cfg, opened: rand.Text()}
	if path == ":memory:" {
		only := newSQLitePool(1, func() (*sqliteConn, error) { return e.connect(path, sqlite.OpenCreate, "") })
		e.reads, e.writes = only, only
		return e, nil
	}
	ofdLocks()
	var err error
	if e.path, err = filepath.Abs(path); err != nil { // later connections must not depend on the working directory
		return nil, &store.Error{Code: store.CodeUnavailable, Field: cannotOpen, Cause: err}
	}
	e.reads = newSQLitePool(cfg.maxConns, func() (*sqliteConn, error) { return e.connect(e.path, 0, "PRAGMA query_only = on") })
	e.writes = newSQLitePool(1, func() (*sqliteConn, error) {
		return e.connect(e.path, sqlite.OpenCreate, walMode)
	})
	return e, nil
}

// synchronous returns the number of the setting that the Durability needs.
func (c config) synchronous() int {
	if c.durability == SurvivesKill {
		return 1 // NORMAL
	}
	return 2 // FULL
}

const walMode = "PRAGMA journal_mode = WAL"

func (e *sqliteEngine) connect(path string, create sqlite.OpenFlags, setting string) (*sqliteConn, error) {
	raw, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|create)
	if err != nil {
		return nil, fault(err)
	}
	raw.SetBusyTimeout(busyTimeout)
	c := newSQLiteConn(raw, false)
	if e.cfg.unmigrated && setting == walMode { // another program's file stays as it is
		ours := false
		if err := c.run(context.Background(), step{e.tableExists(), []any{e.cfg.log()}, only(&ours)}); err != nil {
			return nil, errors.Join(err, raw.Close())
		}
		if e.foreign = !ours; e.foreign {
			setting = ""
		}
	}
	settings := fmt.Sprintf("PRAGMA foreign_keys = on; PRAGMA synchronous = %d; %s", e.cfg.synchronous(), setting)
	if err := c.exec(context.Background(), settings); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, nil
}

func (e *sqliteEngine) name() string  { return "sqlite" }
func (e *sqliteEngine) epoch() string { return e.opened }

func (e *sqliteEngine) read(ctx context.Context, st step) error {
	c, err := e.reads.take(ctx)
	if err != nil {
		return err
	}
	defer e.reads.put(c)
	c.watch(ctx)
	defer c.unwatch()
	return c.run(ctx, st)
}

func (e *sqliteEngine) write(ctx context.Context, f func(context.Context, tx) error) (settled bool, err error) {
	return e.transact(ctx, func(ctx context.Context, c *sqliteConn) error { return f(ctx, c) })
}

func (e *sqliteEngine) alter(ctx context.Context, f func(context.Context, script) error) error {
	_, err := e.transact(ctx, func(ctx context.Context, c *sqliteConn) error { return f(ctx, c) })
	return err
}

// The statements that begin and end a transaction.
var sqliteBegin, sqliteCommit, sqliteRollback = step{text: "BEGIN IMMEDIATE"}, step{text: "COMMIT"}, step{text: "ROLLBACK"}

// transact runs f in a transaction, and commits it. The end of ctx interrupts statements, but not COMMIT.
func (e *sqliteEngine) transact(ctx context.Context, f func(context.Context, *sqliteConn) error) (settled bool, err error) {
	c, err := e.writes.take(ctx)
	if err != nil {
		return true, err
	}
	defer e.writes.put(c)
	c.watch(ctx)
	defer func() {
		c.unwatch()
		if !c.c.AutocommitEnabled() { // after a panic, or an error that has not rolled back by itself
			_ = c.run(ctx, sqliteRollback) // put closes a connection that is still in a transaction
		}
	}()
	if err := c.run(ctx, sqliteBegin); err != nil {
		return true, err
	}
	if err := f(ctx, c); err != nil {
		return true, err
	}
	c.unwatch()
	if err := ctx.Err(); err != nil {
		return true, err
	}
	if err := c.run(ctx, sqliteCommit); err != nil {
		return e.classify(err).settled, err
	}
	return true, nil
}

// notify does nothing: SQLite does not announce changes.
func (e *sqliteEngine) notify(context.Context, bool) error { return nil }

// scrub rebuilds the file without what was deleted. PRAGMA secure_delete would not do: pages that were split keep copies of rows. A
// reader may keep the WAL from being truncated, which is no error.
func (e *sqliteEngine) scrub(ctx context.Context) error {
	if e.path == "" {
		return nil
	}
	c, err := e.writes.take(ctx)
	if err != nil {
		return err
	}
	defer e.writes.put(c)
	c.watch(ctx)
	defer c.unwatch()
	if err := c.run(ctx, step{text: "VACUUM"}); err != nil {
		return err
	}
	return c.run(ctx, step{text: "PRAGMA wal_checkpoint(TRUNCATE)"})
}

func (e *sqliteEngine) longestWrite() time.Duration { return 0 } // a write never outlives its call

func (e *sqliteEngine) statements(cfg config) statements {
	return statementsFor(sqliteDialect(cfg))
}

// suits refuses a database on which the engine cannot depend, and remembers the file.
func (e *sqliteEngine) suits(ctx context.Context) error {
	c, err := e.writes.take(ctx)
	if err != nil {
		return err
	}
	defer e.writes.put(c)
	found, err := e.fits(c)
	if err != nil || found == "" {
		return err
	}
	if e.path == "" {
		e.path = found // the pool knows it
	}
	e.file, err = os.Stat(e.path)
	return err
}

// fits checks the settings of a connection, and returns the path of its file, or "" in memory. Ids of a database in UTF-16 have
// another order.
func (e *sqliteEngine) fits(c *sqliteConn) (path string, err error) {
	var (
		mode, encoding string
		keys           bool
		synchronous    int
	)
	const settings = `SELECT file, journal_mode, encoding, foreign_keys, synchronous FROM pragma_database_list,
		pragma_journal_mode, pragma_encoding, pragma_foreign_keys, pragma_synchronous WHERE name = 'main'`
	err = c.run(context.Background(), step{settings, nil, only(&path, &mode, &encoding, &keys, &synchronous)})
	switch {
	case err != nil:
	case path != "" && mode != "wal" && !e.foreign:
		err = fmt.Errorf("%w: the file is not in WAL mode; its journal mode is %s", errUnsuitable, mode)
	case path == "" && mode != "memory":
		err = fmt.Errorf("%w: the database is neither a file nor in memory", errUnsuitable)
	case encoding != "UTF-8":
		err = fmt.Errorf("%w: its encoding is %s: create it with PRAGMA encoding = 'UTF-8'", errUnsuitable, encoding)
	case !keys:
		err = fmt.Errorf("%w: PRAGMA foreign_keys is off: switch it on in PoolOptions.PrepareConn", errUnsuitable)
	case synchronous < e.cfg.synchronous():
		err = fmt.Errorf("%w: PRAGMA synchronous is %d: set %d, or use WithDurability", errUnsuitable, synchronous, e.cfg.synchronous())
	}
	return path, err
}

// healthy fails if the file cannot be read, is gone, or was truncated. It does not try to write.
func (e *sqliteEngine) healthy(ctx context.Context) error {
	if e.file != nil {
		if err := e.whole(ctx); err != nil {
			return fmt.Errorf("sqlstore: %w", err)
		}
	}
	return e.read(ctx, step{text: "PRAGMA schema_version"})
}

// looks is how often a file must look truncated, without growing, before it counts as truncated. A checkpoint writes the new
// number of pages before the pages.
const looks = 20

// whole fails unless path leads to the open file and the file has all of its pages. SQLite itself does not notice: it answers
// from its page cache, and goes on writing to a file without a name.
func (e *sqliteEngine) whole(ctx context.Context) error {
	var before int64
	for n := 0; n < looks; n++ {
		now, err := os.Stat(e.path)
		if err != nil {
			return err
		}
		if !os.SameFile(e.file, now) {
			return errors.New("another file was put in the place of the database")
		}
		least, err := e.leastSize()
		if err != nil || now.Size() >= least {
			return err
		}
		if now.Size() > before {
			before, n = now.Size(), 0
		}
		select {
		case <-time.After(busyTimeout):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.New("the database file was truncated")
}

// leastSize returns how large the file must be, by its header (sqlite.org/fileformat.html, 1.3): as many pages as there were at
// the last checkpoint.
func (e *sqliteEngine) leastSize() (int64, error) {
	const least = 512  // of any database
	if !ofdLocksOn() { // closing the file would release the locks
		return least, nil
	}
	f, err := os.Open(e.path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	var head [100]byte
	if _, err := f.ReadAt(head[:], 0); errors.Is(err, io.EOF) {
		return least, nil
	} else if err != nil {
		return 0, err
	}
	page := int64(binary.BigEndian.Uint16(head[16:]))
	if page == 1 {
		page = 1 << 16
	}
	if !bytes.Equal(head[24:28], head[92:96]) { // written by an old SQLite, which kept no number of pages
		return least, nil
	}
	return page * int64(binary.BigEndian.Uint32(head[28:])), nil
}

func (e *sqliteEngine) close() error {
	if e.reads == e.writes {
		return e.reads.close()
	}
	return errors.Join(e.reads.close(), e.writes.close()) // the last close copies the WAL into the file
}

// stats adds up the connections for reads and writes. The size of a pool of the program is unknown: max is 0.
func (e *sqliteEngine) stats() poolStats {
	s := e.writes.stats()
	if _, own := e.writes.(*sqlitePool); own && e.reads != e.writes {
		r := e.reads.stats()
		s = poolStats{s.inUse + r.inUse, s.idle + r.idle, s.max + r.max, s.waits + r.waits, s.waited + r.waited}
	}
	return s
}

// classify maps SQLite's result codes (sqlite.org/rescode.html). A failed COMMIT leaves the transaction open and is rolled
// back. After a disk error, the outcome of a COMMIT is unknown.
func (e *sqliteEngine) classify(err error) verdict {
	f, ok := errors.AsType[*sqliteFault](err)
	if !ok {
		return verdict{code: store.CodeOf(err)}
	}
	switch f.code {
	case sqlite.ResultConstraintUnique, sqlite.ResultConstraintPrimaryKey:
		return verdict{code: store.CodeConflict, settled: true}
	case sqlite.ResultConstraintForeignKey:
		return verdict{code: store.CodeNotFound, settled: true}
	}
	switch f.code.ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultProtocol:
		return verdict{code: store.CodeUnavailable, retry: true, settled: true}
	case sqlite.ResultReadOnly, sqlite.ResultFull, sqlite.ResultCantOpen, sqlite.ResultNoMem:
		return verdict{code: store.CodeUnavailable, settled: true}
	case sqlite.ResultIOErr:
		return verdict{code: store.CodeUnavailable}
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return verdict{code: store.CodeInternal}
	case sqlite.ResultInterrupt:
		return verdict{code: store.CodeCanceled, settled: true}
	}
	return verdict{code: store.CodeInternal, settled: true}
}

// raced reports whether another program created a table at the same time. SQLite has no error code of its own for that.
func (e *sqliteEngine) raced(err error) bool {
	f, ok := errors.AsType[*sqliteFault](err)
	if !ok {
		return true
	}
	switch f.code.ToPrimary() {
	case sqlite.ResultError, sqlite.ResultSchema, sqlite.ResultConstraint:
		return true
	}
	return e.classify(err).retry
}
