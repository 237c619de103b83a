package sqlstore

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/chatstore/chatstore/store"
)

// These are the defaults of the options.
const (
	DefaultPrefix           = "chatstore_"
	DefaultConnLifetime     = 30 * time.Minute
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
	connLifetime     time.Duration
	retryFor         time.Duration
	statementTimeout time.Duration
	lockTimeout      time.Duration
	durability       Durability
	pooler           bool
	unmigrated       bool
	silent           bool
	listenDSN        string
	noSyncWait       bool
	cancelDelay      time.Duration
}

// Option configures a [Store]. The functions that open one return [store.ErrInvalid] for an invalid option.
type Option func(*config)

// WithIDs generates new ids with g. The default is [store.DefaultIDs].
func WithIDs(g store.IDGenerator) Option { return func(c *config) { c.ids = g } }

// WithTablePrefix sets the prefix of the tables' names; the default is DefaultPrefix. A prefix has at most 32 characters of
// a-z, 0-9 and _, and does not begin with a digit. Stores with different prefixes in one database are independent.
func WithTablePrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithSchema puts the tables into a PostgreSQL schema, and creates it if it is missing. The default is the first schema of
// the connection's search_path. The rules for its name are those of [WithTablePrefix]. For other databases it is an error: in MySQL a
// schema is a database, which the DSN names.
func WithSchema(schema string) Option { return func(c *config) { c.schema = schema } }

// WithMaxConns limits the number of database connections; the default is DefaultMaxConns. SQLite uses one more connection,
// for writing. Calls wait for a free connection. Idle connections to a server are closed after five minutes. To MySQL, the Store
// opens more for moments: to cancel a statement, and to ask about a COMMIT that was not answered.
func WithMaxConns(n int) Option { return func(c *config) { c.maxConns = n } }

// WithConnLifetime limits how long a connection to a server is used; the default is DefaultConnLifetime. After a failover, or
// behind a proxy, connections then find the right server in the end. With 0, connections are used without a limit. It has no
// effect on SQLite.
func WithConnLifetime(d time.Duration) Option { return func(c *config) { c.connLifetime = d } }

// WithRetryFor sets how long a call is retried while the database is busy, cannot serialize it or cannot be reached. Opening is
// retried for as long. The default is DefaultRetryFor. A call stops retrying when its context ends.
func WithRetryFor(d time.Duration) Option { return func(c *config) { c.retryFor = d } }

// WithStatementTimeout limits the time of a server's statement. The default is DefaultStatementTimeout. The deadline of a write's
// context shortens it. PostgreSQL gets it as statement_timeout. MySQL gets an order to stop the statement, and MariaDB ends a transaction
// that is idle for as long. It has no effect on SQLite, where only the context limits a statement.
func WithStatementTimeout(d time.Duration) Option { return func(c *config) { c.statementTimeout = d } }

// WithLockTimeout limits how long a statement waits for a lock, in PostgreSQL (lock_timeout) and in MySQL (innodb_lock_wait_timeout, in
// whole seconds, rounded up). The default is DefaultLockTimeout.
func WithLockTimeout(d time.Duration) Option { return func(c *config) { c.lockTimeout = d } }

// Durability says which failures an acknowledged write of SQLite survives.
type Durability uint8

// The levels of Durability, strictest first.
const (
	// SurvivesPowerCut is the default. Every commit waits until the disk confirms it (synchronous=FULL).
	SurvivesPowerCut Durability = iota
	// SurvivesKill loses nothing if the program is killed, also by SIGKILL. If the machine crashes or loses power, the last
	// commits may be lost, each as a whole (synchronous=NORMAL). It is much faster on disks that really flush.
	SurvivesKill
)

// WithDurability sets which failures SQLite's acknowledged writes survive. The default is SurvivesPowerCut. It has
// no effect on servers, which have settings of their own: synchronous_commit, or innodb_flush_log_at_trx_commit and sync_binlog.
func WithDurability(d Durability) Option { return func(c *config) { c.durability = d } }

// WithPooler is for PostgreSQL behind a pooler that gives each transaction another connection, such as pgbouncer in
// transaction mode. Statements are not prepared, and settings do not outlive a transaction: so only its context limits a
// read.
func WithPooler() Option { return func(c *config) { c.pooler = true } }

// WithoutNotify switches off the PostgreSQL triggers that announce changes to a [Store.Bus], if an earlier Bus has switched them
// on. They are switched off in the database, for all programs. A later Bus of another program switches them on again, and the
// Bus of this Store is refused. It has no effect on other databases, and with [WithoutMigration] it switches nothing off.
func WithoutNotify() Option { return func(c *config) { c.silent = true } }

// WithListenDSN sets a direct connection for [Store.Bus]. It is necessary if the Store's own connections go through a
// pooler, because LISTEN does not work there.
func WithListenDSN(dsn string) Option { return func(c *config) { c.listenDSN = dsn } }

// WithoutSyncWait is for a node of a MariaDB cluster (Galera), and makes its calls faster. By default, each read and each transaction
// first waits until the node has all writes that the cluster has accepted (wsrep_sync_wait=1). So a read sees every write that has
// returned, at any node. Without, a read may be as old as the node's queue is long, and a cache over it may keep what it read. It
// has no effect on other databases.
func WithoutSyncWait() Option { return func(c *config) { c.noSyncWait = true } }

// WithoutMigration leaves the schema unchanged: see [MigrateSQLite], [MigratePostgres] and [MigrateMySQL]. Opening fails with [ErrSchema] if
// this package needs another schema version.
func WithoutMigration() Option { return func(c *config) { c.unmigrated = true } }

var name = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

func configured(opts []Option) (config, error) {
	c := config{
		ids: store.DefaultIDs{}, prefix: DefaultPrefix, maxConns: DefaultMaxConns, retryFor: DefaultRetryFor,
		connLifetime: DefaultConnLifetime, statementTimeout: DefaultStatementTimeout, lockTimeout: DefaultLockTimeout, cancelDelay: cancelDelay,
	}
	for _, o := range opts {
		o(&c)
	}
	for _, rule := range []struct {
		ok   bool
		text string
	}{
		{c.ids != nil, "WithIDs: nil"},
		{name.MatchString(c.prefix), "WithTablePrefix: must be 1 to 32 characters of a-z, 0-9 and _, not a digit first"},
		{c.schema == "" || name.MatchString(c.schema), "WithSchema: must be 1 to 32 characters of a-z, 0-9 and _, not a digit first"},
		{c.maxConns > 0, "WithMaxConns: not positive"},
		{c.connLifetime >= 0, "WithConnLifetime: negative"},
		{c.retryFor >= 0, "WithRetryFor: negative"},
		{c.statementTimeout >= time.Millisecond && c.statementTimeout <= longestSetting, "WithStatementTimeout: not between a millisecond and 24 days"},
		{c.lockTimeout >= time.Millisecond && c.lockTimeout <= longestSetting, "WithLockTimeout: not between a millisecond and 24 days"},
		{c.durability <= SurvivesKill, "WithDurability: unknown"},
	} {
		if !rule.ok {
			return c, invalid(rule.text)
		}
	}
	return c, nil
}

// longestSetting is the longest time that a setting of PostgreSQL can have.
const longestSetting = math.MaxInt32 * time.Millisecond

// invalid returns the error for an option or argument.
func invalid(text string) error {
	return &store.Error{Code: store.CodeInvalid, Field: text, Cause: errors.New("sqlstore: " + text)}
}

// millis returns d in whole milliseconds, as PostgreSQL's settings take them.
func millis(d time.Duration) string { return fmt.Sprint(max(d.Milliseconds(), 1)) }
