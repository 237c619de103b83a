package sqlstore

import (
	"context"
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
)

// migrations has the migrations, numbered from 1, in one folder per engine. They only go forward: never change an applied
// migration.
//
//go:embed migrations
var migrations embed.FS

// migrator is the part of an engine that migrating needs.
type migrator interface {
	// alter runs f in a transaction that no other program's alter runs beside, and that the limits for calls do not limit.
	alter(ctx context.Context, f func(context.Context, script) error) error
	// names returns a replacer for the names in a migration's text.
	names(config) *strings.Replacer
	// tableExists is the text of a query for the table $1.
	tableExists() string
	// newLog is the text that creates the table of applied migrations, in the form of the library goose.
	newLog() string
	raced(error) bool // another program that migrates may be the cause
}

// script is a transaction that changes the schema.
type script interface {
	tx
	// exec runs a text of several statements.
	exec(ctx context.Context, text string) error
}

// MigrateSQLite brings the schema of the database at path to the version that this package needs. Use it with programs that
// open the database [WithoutMigration].
func MigrateSQLite(ctx context.Context, path string, opts ...Option) error {
	return migrated(OpenSQLite(ctx, path, append(slices.Clip(opts), migrating)...))
}

// MigratePostgres is like [MigrateSQLite], for PostgreSQL. It may need rights, such as CREATE, that the program itself does
// not need.
func MigratePostgres(ctx context.Context, dsn string, opts ...Option) error {
	return migrated(OpenPostgres(ctx, dsn, append(slices.Clip(opts), migrating)...))
}

// MigrateMySQL is like [MigratePostgres], for MySQL and MariaDB. It cannot be rolled back there. What was interrupted goes on with the next
// call.
func MigrateMySQL(ctx context.Context, dsn string, opts ...Option) error {
	return migrated(OpenMySQL(ctx, dsn, append(slices.Clip(opts), migrating)...))
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

// races is how often migrate tries. Programs that use other tables of the database may create the schema at the same time.
const races = 20

// migrate applies the missing migrations, all or none.
func migrate(ctx context.Context, cfg config, e engine) error {
	all, err := sources(e)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		current, err := version(ctx, cfg, e, e.read)
		if err == nil && current >= all[len(all)-1].number {
			return nil // checkSchema refuses a newer schema
		}
		if err == nil {
			err = e.alter(ctx, func(ctx context.Context, db script) error { return apply(ctx, cfg, e, db, all) })
		}
		if err == nil {
			return nil
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

// apply applies those of all that are missing, and records them.
func apply(ctx context.Context, cfg config, e engine, db script, all []source) error {
	run := func(ctx context.Context, st step) error { return db.run(ctx, st) }
	current, err := version(ctx, cfg, e, run)
	if err != nil {
		return err
	}
	names := e.names(cfg)
	if current < 0 {
		if err := db.exec(ctx, names.Replace(e.newLog())); err != nil {
			return err
		}
	}
	for _, m := range all {
		if m.number <= current {
			continue
		}
		text := names.Replace(m.text) + fmt.Sprintf("\nINSERT INTO %s (version_id, is_applied) VALUES (%d, true);", cfg.log(), m.number)
		if err := db.exec(ctx, text); err != nil {
			return fmt.Errorf("version %d: %w", m.number, err)
		}
	}
	return nil
}

// version returns the version of the schema: 0 if there are no tables, and -1 if there is no table of applied migrations
// either. It writes nothing.
func version(ctx context.Context, cfg config, e engine, run func(context.Context, step) error) (n int64, err error) {
	var there bool
	if err := run(ctx, step{e.tableExists(), []any{cfg.log()}, only(&there)}); err != nil || !there {
		return -1, err
	}
	err = run(ctx, step{"SELECT coalesce(max(version_id), 0) FROM " + cfg.log(), nil, only(&n)})
	return n, err
}

// log returns the name of the table of applied migrations.
func (c config) log() string { return c.qualified("migrations") }

// ErrSchema reports that the database's schema does not have the version that this package needs. Either it was not migrated
// ([WithoutMigration]), or a newer version of this package migrated it.
var ErrSchema = errors.New("sqlstore: wrong schema version")

// checkSchema refuses a newer schema, and an older one that was not migrated.
func checkSchema(ctx context.Context, cfg config, e engine) error {
	all, err := sources(e)
	if err != nil {
		return err
	}
	current, err := version(ctx, cfg, e, e.read)
	switch target := all[len(all)-1].number; {
	case err != nil:
		return err
	case current < target:
		return fmt.Errorf("%w: the database has version %d, this program needs %d: migrate the database first", ErrSchema, max(current, 0), target)
	case current > target:
		return fmt.Errorf("%w: the database has version %d, this program knows at most %d: use a newer program", ErrSchema, current, target)
	}
	return nil
}

func (e *sqliteEngine) tableExists() string {
	return `SELECT count(*) FROM sqlite_master WHERE name = ?1`
}

func (e *sqliteEngine) newLog() string {
	return `CREATE TABLE {prefix}migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL,
		is_applied INTEGER NOT NULL, tstamp TIMESTAMP DEFAULT (datetime('now')))`
}

func (e *sqliteEngine) names(cfg config) *strings.Replacer {
	return strings.NewReplacer("{prefix}", cfg.prefix)
}

func (e *postgresEngine) tableExists() string { return "SELECT to_regclass($1) IS NOT NULL" }

func (e *postgresEngine) newLog() string {
	return `CREATE TABLE {schema}"{prefix}migrations" (id integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
		version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp NOT NULL DEFAULT now())`
}

func (e *postgresEngine) names(cfg config) *strings.Replacer {
	dot := ""
	if cfg.schema != "" {
		dot = `"` + cfg.schema + `".`
	}
	return strings.NewReplacer("{schema}", dot, "{prefix}", cfg.prefix, "{channel}", cfg.channel())
}

// migrationLock is the name of the lock that programs hold while they migrate. Those of the first edition hold it too.
func (c config) migrationLock() string { return "chatstore " + c.qualified("migrations") }

func (e *postgresEngine) alter(ctx context.Context, f func(context.Context, script) error) error {
	_, err := e.write(ctx, func(ctx context.Context, tx tx) error {
		t := tx.(*pgTx)
		t.begun = true
		// The snapshot of another isolation level would be older than the lock. The limits are for calls.
		const begin = `BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0;
			SET LOCAL client_min_messages = warning`
		if err := t.exec(ctx, begin); err != nil {
			return err
		}
		const lock = "SELECT pg_current_xact_id()::text FROM pg_advisory_xact_lock(hashtextextended($1, 0))"
		if err := t.run(ctx, step{lock, []any{e.cfg.migrationLock()}, only(&t.xid)}); err != nil {
			return err
		}
		if e.cfg.schema != "" {
			// It may exist, and the program may lack the right to create one.
			var there bool
			const exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
			if err := t.run(ctx, step{exists, []any{e.cfg.schema}, only(&there)}); err != nil {
				return err
			}
			if !there {
				if err := t.exec(ctx, `CREATE SCHEMA "`+e.cfg.schema+`"`); err != nil {
					return err
				}
			}
		}
		return f(ctx, t)
	})
	return err
}
