package sqlstore

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/chatstore/chatstore/store"
)

// The defaults of the options.
const (
	DefaultPrefix           = "chatstore_"
	DefaultRetryFor         = 5 * time.Second
	DefaultStatementTimeout = 30 * time.Second
	DefaultLockTimeout      = 10 * time.Second
	DefaultMaxConns         = 16
)

type config struct {
	ids              store.IDGenerator
	prefix           string
	schema           string
	maxConns         int
	retryFor         time.Duration
	statementTimeout time.Duration
	lockTimeout      time.Duration
	durability       Durability
	pooler           bool
	unmigrated       bool
	silent           bool
	listenDSN        string
	cancelDelay      time.Duration
}

// Option changes what [OpenSQLite] and [OpenPostgres] make. An option that makes no sense is an error of theirs
// ([store.ErrInvalid]).
type Option func(*config)

// WithIDs draws new ids from g; without it, from [store.DefaultIDs].
func WithIDs(g store.IDGenerator) Option { return func(c *config) { c.ids = g } }

// WithTablePrefix names the tables; the default is DefaultPrefix. A prefix has up to 32 of a-z, 0-9 and _, and begins with no
// digit. Stores with different prefixes in one database know nothing of each other.
func WithTablePrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithSchema puts the tables into a schema of PostgreSQL, which is made if it is not there; the default is the first of the
// connection's search_path. It is named as a table prefix is. SQLite has none.
func WithSchema(schema string) Option { return func(c *config) { c.schema = schema } }

// WithMaxConns bounds the connections to the database; the default is DefaultMaxConns. SQLite has one more, for writing. What
// is needed beyond that waits. Those to PostgreSQL that nobody needs are closed after five minutes.
func WithMaxConns(n int) Option { return func(c *config) { c.maxConns = n } }

// WithRetryFor sets how long a call is tried again for while the database is busy or could not serialize it; the default is
// DefaultRetryFor. The end of the caller's context ends it sooner.
func WithRetryFor(d time.Duration) Option { return func(c *config) { c.retryFor = d } }

// WithStatementTimeout bounds a statement in PostgreSQL, by its statement_timeout; the default is DefaultStatementTimeout. A
// deadline of a write's context shortens it. SQLite has none: there the context is all.
func WithStatementTimeout(d time.Duration) Option { return func(c *config) { c.statementTimeout = d } }

// WithLockTimeout bounds how long a statement waits for a lock in PostgreSQL, by its lock_timeout; the default is
// DefaultLockTimeout.
func WithLockTimeout(d time.Duration) Option { return func(c *config) { c.lockTimeout = d } }

// Durability is what an acknowledged write of SQLite survives.
type Durability uint8

// The strictest comes first.
const (
	// SurvivesPowerCut is the default: every commit waits until the disk says that it has it (synchronous=FULL).
	SurvivesPowerCut Durability = iota
	// SurvivesKill: a program that is killed, also with SIGKILL, loses nothing. A machine that crashes or loses power may lose
	// the last commits, each as a whole (synchronous=NORMAL). Much faster where disks are honest.
	SurvivesKill
)

// WithDurability sets what SQLite's acknowledged writes survive; the default is SurvivesPowerCut. PostgreSQL is configured at
// the server (synchronous_commit).
func WithDurability(d Durability) Option { return func(c *config) { c.durability = d } }

// WithPooler is for PostgreSQL behind a pooler that gives each transaction another connection, such as pgbouncer in
// transaction mode. Nothing is prepared, and no setting outlives a transaction: only their context bounds reads. Migrate over
// a direct connection ([MigratePostgres]), because the lock that keeps programs from migrating at once belongs to a session.
func WithPooler() Option { return func(c *config) { c.pooler = true } }

// WithoutNotify switches off the triggers of PostgreSQL by which a [Store.Bus] hears of changes. They cost commits: NOTIFY makes
// commits wait for one another (the README has figures). The triggers are switched off in the database, for all programs: the
// last program to migrate it decides. SQLite has none.
func WithoutNotify() Option { return func(c *config) { c.silent = true } }

// WithListenDSN names a direct connection for [Store.Bus]. It is needed where the Store's own connections go through a pooler,
// as nobody can listen there.
func WithListenDSN(dsn string) Option { return func(c *config) { c.listenDSN = dsn } }

// WithoutMigration leaves the schema as it is: see [MigrateSQLite] and [MigratePostgres]. Opening then fails if the schema is
// not what this version of the package needs.
func WithoutMigration() Option { return func(c *config) { c.unmigrated = true } }

var name = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

func configured(opts []Option) (config, error) {
	c := config{
		ids: store.DefaultIDs{}, prefix: DefaultPrefix, maxConns: DefaultMaxConns, retryFor: DefaultRetryFor,
		statementTimeout: DefaultStatementTimeout, lockTimeout: DefaultLockTimeout, cancelDelay: cancelDelay,
	}
	for _, o := range opts {
		o(&c)
	}
	for _, rule := range []struct {
		ok   bool
		text string
	}{
		{c.ids != nil, "WithIDs: nil"},
		{name.MatchString(c.prefix), "WithTablePrefix: not up to 32 of a-z, 0-9 and _"},
		{c.schema == "" || name.MatchString(c.schema), "WithSchema: not up to 32 of a-z, 0-9 and _"},
		{c.maxConns > 0, "WithMaxConns: not positive"},
		{c.retryFor >= 0, "WithRetryFor: negative"},
		{c.statementTimeout >= time.Millisecond, "WithStatementTimeout: less than a millisecond"},
		{c.lockTimeout >= time.Millisecond, "WithLockTimeout: less than a millisecond"},
		{c.durability <= SurvivesKill, "WithDurability: unknown"},
	} {
		if !rule.ok {
			return c, invalid(rule.text)
		}
	}
	return c, nil
}

// invalid is the error of an option or argument of Open.
func invalid(text string) error {
	return &store.Error{Code: store.CodeInvalid, Field: text, Cause: errors.New("sqlstore: " + text)}
}

// millis returns d in whole milliseconds, as PostgreSQL's settings take them.
func millis(d time.Duration) string { return fmt.Sprint(max(d.Milliseconds(), 1)) }
