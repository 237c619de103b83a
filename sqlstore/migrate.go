package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/chatstore/chatstore/store"
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
}

// MigrateSQLite brings the schema of the database at path up to what this version of the package needs, for those who open it
// [WithoutMigration].
func MigrateSQLite(ctx context.Context, path string, opts ...Option) error {
	return migrated(OpenSQLite(ctx, path, append(opts, migrating)...))
}

// MigratePostgres is [MigrateSQLite] for PostgreSQL. It needs a direct connection, not through a pooler, and may need rights
// (CREATE) that the program itself does without.
func MigratePostgres(ctx context.Context, dsn string, opts ...Option) error {
	return migrated(OpenPostgres(ctx, dsn, append(opts, migrating)...))
}

func migrating(c *config) { c.unmigrated = false }

func migrated(s *Store, err error) error {
	if err != nil {
		return err
	}
	return s.Close()
}

func provider(cfg config, e engine) (*goose.Provider, error) {
	dir := path.Join("migrations", e.name())
	files, err := fs.ReadDir(migrations, dir)
	if err != nil {
		return nil, err
	}
	var all []*goose.Migration
	for _, f := range files {
		number, err := strconv.ParseInt(strings.SplitN(f.Name(), "_", 2)[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", f.Name(), err)
		}
		text, err := fs.ReadFile(migrations, path.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(all, goose.NewGoMigration(number, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, e.names(cfg).Replace(string(text)))
			return err
		}}, nil))
	}
	opts := []goose.ProviderOption{
		goose.WithGoMigrations(all...), goose.WithDisableGlobalRegistry(true),
		goose.WithTableName(strings.ReplaceAll(cfg.qualified("migrations"), `"`, "")),
	}
	if l := e.locker(cfg); l != nil {
		opts = append(opts, goose.WithSessionLocker(l))
	}
	return goose.NewProvider(e.dialect(), e.writer(), nil, opts...)
}

// migrateFor bounds how long programs that open one database wait for one another.
const migrateFor = time.Minute

// migrate applies what is missing. Each migration is a transaction: of several programs that race, one carries it out, and the
// others find it done when they look again.
func migrate(ctx context.Context, cfg config, e engine) error {
	ctx, cancel := context.WithTimeout(ctx, migrateFor)
	defer cancel()
	for {
		err := e.makeSchema(ctx, cfg)
		if err == nil {
			var p *goose.Provider
			if p, err = provider(cfg, e); err != nil {
				return err
			}
			if _, err = p.Up(ctx); err == nil {
				return nil
			}
		}
		if current, target, err := versions(ctx, cfg, e); err == nil && current >= target {
			return nil // another program did it; or is newer, which is for checkSchema to say
		}
		select {
		case <-time.After(longestPause):
		case <-ctx.Done():
			return err
		}
		if !e.classify(err).retry && !again(err) {
			return err
		}
	}
}

// again reports whether err may come of another program that migrates at the same time: what one is making, is there.
func again(err error) bool {
	return strings.Contains(err.Error(), "already exists") || strings.Contains(err.Error(), "duplicate key") ||
		strings.Contains(err.Error(), "UNIQUE constraint")
}

func versions(ctx context.Context, cfg config, e engine) (current, target int64, err error) {
	p, err := provider(cfg, e)
	if err != nil {
		return 0, 0, err
	}
	return p.GetVersions(ctx)
}

// errSchema: the database's schema is not the one that this version of the package needs.
var errSchema = errors.New("sqlstore: the schema is not the one that this version needs")

// checkSchema refuses a schema that is older, where nothing was to be migrated, or newer.
func checkSchema(ctx context.Context, cfg config, e engine) error {
	current, target, err := versions(ctx, cfg, e)
	switch {
	case err != nil:
		return err
	case current < target:
		return fmt.Errorf("%w: it is at version %d, needed is %d: migrate it first", errSchema, current, target)
	case current > target:
		return fmt.Errorf("%w: it is at version %d, and this version knows %d at most: use a newer one", errSchema, current, target)
	}
	return nil
}

// openError makes what went wrong in opening an error of a Store, which may be shown.
func openError(ctx context.Context, e engine, err error) error {
	if gone := store.CheckContext(ctx, 0, "", ""); gone != nil {
		return gone
	}
	if errors.Is(err, errSchema) {
		return err
	}
	return &store.Error{Code: e.classify(err).code, Field: "cannot open the database", Cause: err}
}

func (e *sqliteEngine) dialect() goose.Dialect                   { return goose.DialectSQLite3 }
func (e *sqliteEngine) makeSchema(context.Context, config) error { return nil }

// There is no lock: SQLite has one writer at a time anyway.
func (e *sqliteEngine) locker(config) lock.SessionLocker { return nil }

func (e *sqliteEngine) names(cfg config) *strings.Replacer {
	return strings.NewReplacer("{prefix}", cfg.prefix)
}

func (e *postgresEngine) dialect() goose.Dialect { return goose.DialectPostgres }

func (e *postgresEngine) names(cfg config) *strings.Replacer {
	dot := ""
	if cfg.schema != "" {
		dot = `"` + cfg.schema + `".`
	}
	return strings.NewReplacer("{schema}", dot, "{prefix}", cfg.prefix)
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

// advisory is a lock of PostgreSQL that a session holds on a name.
type advisory string

func (a advisory) SessionLock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_lock(hashtextextended($1, 0))", string(a))
	return err
}

func (a advisory) SessionUnlock(ctx context.Context, c *sql.Conn) error {
	_, err := c.ExecContext(ctx, "SELECT pg_advisory_unlock(hashtextextended($1, 0))", string(a))
	return err
}
