package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// The migrations, numbered from 1, each in a folder of its engine. They only go forward: what is applied is never changed.
//
//go:embed migrations
var migrations embed.FS

// migrator is what of an engine migrating needs.
type migrator interface {
	dialect() goose.Dialect
	// names replaces the names in the text of a migration.
	names(config) *strings.Replacer
	// schema makes the schema, if one was named.
	makeSchema(context.Context, config) error
	locker(config) lock.SessionLocker // nil: none is needed
	tableExists() string              // the text of a query
	raced(error) bool                 // another program that migrates may be why
}

// MigrateSQLite brings the schema of the database at path up to what this version of the package needs, for those who open it
// [WithoutMigration].
func MigrateSQLite(ctx context.Context, path string, opts ...Option) error {
	return migrated(OpenSQLite(ctx, path, append(slices.Clip(opts), migrating)...))
}

// MigratePostgres is [MigrateSQLite] for PostgreSQL. It needs a direct connection, not through a pooler, and may need rights
// (CREATE) that the program itself does without.
func MigratePostgres(ctx context.Context, dsn string, opts ...Option) error {
	return migrated(OpenPostgres(ctx, dsn, append(slices.Clip(opts), migrating)...))
}

func migrating(c *config) { c.unmigrated = false }

func migrated(s *Store, err error) error {
	if err != nil {
		return err
	}
	return s.Close()
}

// source is a migration.
type source struct {
	number int64
	text   string
}

// sources returns the migrations of an engine in their order, which is that of their files' names.
func sources(e engine) (all []source, err error) {
	dir := path.Join("migrations", e.name())
	files, err := fs.ReadDir(migrations, dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		head, _, _ := strings.Cut(f.Name(), "_")
		number, err := strconv.ParseInt(head, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", f.Name(), err)
		}
		text, err := fs.ReadFile(migrations, path.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, source{number, string(text)})
	}
	return all, nil
}

func provider(cfg config, e engine) (*goose.Provider, error) {
	all, err := sources(e)
	if err != nil {
		return nil, err
	}
	var steps []*goose.Migration
	for _, m := range all {
		text := e.names(cfg).Replace(m.text)
		steps = append(steps, goose.NewGoMigration(m.number, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, text)
			return err
		}}, nil))
	}
	opts := []goose.ProviderOption{
		goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true), goose.WithTableName(cfg.log()),
	}
	if l := e.locker(cfg); l != nil {
		opts = append(opts, goose.WithSessionLocker(l))
	}
	return goose.NewProvider(e.dialect(), e.writer(), nil, opts...)
}

// races is how often migrating is tried again. One program's migration makes that of another, which began at the same time,
// fail; that other then finds it done. The last error is told.
const races = 20

// migrate applies what is missing.
func migrate(ctx context.Context, cfg config, e engine) error {
	for attempt := 1; ; attempt++ {
		current, target, err := versions(ctx, cfg, e)
		if err == nil && current >= target {
			return nil // or newer, which is for checkSchema to say
		}
		if err == nil {
			err = e.makeSchema(ctx, cfg)
		}
		if err == nil {
			var p *goose.Provider
			if p, err = provider(cfg, e); err != nil {
				return err
			}
			if _, err = p.Up(ctx); err == nil {
				return nil
			}
		}
		if attempt == races || !e.raced(err) {
			return fmt.Errorf("migrate: %w", err)
		}
		select {
		case <-time.After(longestPause/2 + rand.N(longestPause)):
		case <-ctx.Done():
			return err
		}
	}
}

// versions returns the version that the schema has, 0 without one, and the one that is needed. It writes nothing.
func versions(ctx context.Context, cfg config, e engine) (current, target int64, err error) {
	all, err := sources(e)
	if err != nil {
		return 0, 0, err
	}
	target = all[len(all)-1].number
	log, err := database.NewStore(e.dialect(), cfg.log())
	if err != nil {
		return 0, 0, err
	}
	var there bool
	err = e.writer().QueryRowContext(ctx, e.tableExists(), cfg.log()).Scan(&there)
	if err == nil && there {
		current, err = log.GetLatestVersion(ctx, e.writer())
	}
	return current, target, err
}

// log returns the name of the table where goose keeps what was applied.
func (c config) log() string { return strings.ReplaceAll(c.qualified("migrations"), `"`, "") }

// ErrSchema: the database's schema is not the one that this version of the package needs. It was not migrated
// ([WithoutMigration]), or by a newer version.
var ErrSchema = errors.New("sqlstore: the schema does not fit")

// checkSchema refuses a schema that is older, where nothing was to be migrated, or newer.
func checkSchema(ctx context.Context, cfg config, e engine) error {
	current, target, err := versions(ctx, cfg, e)
	switch {
	case err != nil:
		return err
	case current < target:
		return fmt.Errorf("%w: it has version %d, needed is %d: migrate it first", ErrSchema, current, target)
	case current > target:
		return fmt.Errorf("%w: it has version %d, and this program knows %d at most: use a newer one", ErrSchema, current, target)
	}
	return nil
}

func (e *sqliteEngine) dialect() goose.Dialect { return goose.DialectSQLite3 }
func (e *sqliteEngine) tableExists() string {
	return "SELECT count(*) FROM sqlite_master WHERE name = ?"
}
func (e *sqliteEngine) makeSchema(context.Context, config) error { return nil }

// There is no lock but SQLite's own: each migration is a transaction that begins with it.
func (e *sqliteEngine) locker(config) lock.SessionLocker { return nil }

func (e *sqliteEngine) names(cfg config) *strings.Replacer {
	return strings.NewReplacer("{prefix}", cfg.prefix)
}

func (e *postgresEngine) dialect() goose.Dialect { return goose.DialectPostgres }
func (e *postgresEngine) tableExists() string    { return "SELECT to_regclass($1) IS NOT NULL" }

func (e *postgresEngine) names(cfg config) *strings.Replacer {
	dot := ""
	if cfg.schema != "" {
		dot = `"` + cfg.schema + `".`
	}
	return strings.NewReplacer("{schema}", dot, "{prefix}", cfg.prefix, "{channel}", cfg.channel())
}

func (e *postgresEngine) makeSchema(ctx context.Context, cfg config) error {
	if cfg.schema == "" {
		return nil
	}
	_, err := e.db.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS "`+cfg.schema+`"`)
	return err
}

func (e *postgresEngine) locker(cfg config) lock.SessionLocker {
	return advisory("chatstore " + cfg.qualified("migrations"))
}

// advisory is a lock of PostgreSQL that a session holds on a name. Whoever has it may take its time: limits are for calls.
type advisory string

func (a advisory) SessionLock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT set_config(name, '0', false) FROM (VALUES ('lock_timeout'), ('statement_timeout')) AS s (name)")
	if err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", string(a))
	return err
}

func (a advisory) SessionUnlock(ctx context.Context, c *sql.Conn) error {
	// The lock and the settings end with the session.
	return c.Raw(func(raw any) error { return raw.(*stdlib.Conn).Conn().Close(ctx) })
}
