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

// migrations has the migrations, numbered from 1, in one folder per engine. They only go forward: never change an applied
// migration.
//
//go:embed migrations
var migrations embed.FS

// migrator is the part of an engine that migrating needs.
type migrator interface {
	dialect() goose.Dialect
	// names returns a replacer for the names in a migration's text.
	names(config) *strings.Replacer
	// makeSchema creates the PostgreSQL schema if one was named.
	makeSchema(context.Context, config) error
	locker(config) lock.SessionLocker // nil if none is needed
	tableExists() string              // text of a query
	raced(error) bool                 // another program that migrates may be the cause
}

// MigrateSQLite brings the schema of the database at path to the version that this package needs. Use it with programs that
// open the database [WithoutMigration].
func MigrateSQLite(ctx context.Context, path string, opts ...Option) error {
	return migrated(OpenSQLite(ctx, path, append(slices.Clip(opts), migrating)...))
}

// MigratePostgres is like [MigrateSQLite], for PostgreSQL. It needs a direct connection, not one through a pooler. It may
// need rights, such as CREATE, that the program itself does not need.
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

// source is one migration.
type source struct {
	number int64
	text   string
}

// sources returns the migrations of an engine in the order of their file names.
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

// races is how often migrate tries. If two programs migrate at the same time, one of them fails, and finds the work done
// when it tries again. The last error is returned.
const races = 20

// migrate applies the missing migrations.
func migrate(ctx context.Context, cfg config, e engine) error {
	for attempt := 1; ; attempt++ {
		current, target, err := versions(ctx, cfg, e)
		if err == nil && current >= target {
			return nil // checkSchema refuses a newer schema
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

// versions returns the version of the schema, 0 if there is none, and the version that this package needs. It writes
// nothing.
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

// log returns the name of the table in which goose records applied migrations.
func (c config) log() string { return strings.ReplaceAll(c.qualified("migrations"), `"`, "") }

// ErrSchema reports that the database's schema does not have the version that this package needs. Either it was not migrated
// ([WithoutMigration]), or a newer version of this package migrated it.
var ErrSchema = errors.New("sqlstore: wrong schema version")

// checkSchema refuses a newer schema, and an older one that was not migrated.
func checkSchema(ctx context.Context, cfg config, e engine) error {
	current, target, err := versions(ctx, cfg, e)
	switch {
	case err != nil:
		return err
	case current < target:
		return fmt.Errorf("%w: the database has version %d, this program needs %d: migrate the database first", ErrSchema, current, target)
	case current > target:
		return fmt.Errorf("%w: the database has version %d, this program knows at most %d: use a newer program", ErrSchema, current, target)
	}
	return nil
}

func (e *sqliteEngine) dialect() goose.Dialect { return goose.DialectSQLite3 }
func (e *sqliteEngine) tableExists() string {
	return "SELECT count(*) FROM sqlite_master WHERE name = ?"
}
func (e *sqliteEngine) makeSchema(context.Context, config) error { return nil }

// SQLite's own lock is enough: each migration is a transaction that takes it first.
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

// advisory is the name of a PostgreSQL lock that a session holds. Holding it has no time limit: the limits are for calls.
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
