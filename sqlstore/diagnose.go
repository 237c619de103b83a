package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chatstore/chatstore/store"
)

// Diagnosis says whether programs can use a database.
type Diagnosis struct {
	Schema int64   `json:"schema"` // the version of the schema; 0 without tables, and -1 if it could not be read
	Needed int64   `json:"needed"` // the version that this package needs
	Checks []Check `json:"checks"`
}

// Check is one check of a [Diagnosis].
type Check struct {
	Name   string `json:"name"`   // connection, server, schema, permissions, health, triggers or clock
	Result string `json:"result"` // ok, FAIL or skipped
	Text   string `json:"text"`   // a sentence without content and without secrets
}

// Diagnose checks the database that url names, as for [Open], and changes no row and no table. The options are those of the programs
// that use the database. The error is one of url or of an option; what is wrong with the database is in the Diagnosis. Only ctx limits the time.
func Diagnose(ctx context.Context, url string, opts ...Option) (Diagnosis, error) {
	d := Diagnosis{Schema: -1}
	cfg, err := configured(opts)
	if err != nil {
		return d, err
	}
	cfg.unmigrated = true
	e, err := engineOf(ctx, url, cfg)
	if errors.Is(err, fs.ErrNotExist) {
		all, err := sources(&sqliteEngine{})
		if err != nil {
			return d, err
		}
		d.Schema, d.Needed = 0, all[len(all)-1].number
		d.add("connection", &store.Error{Code: store.CodeUnavailable, Field: cannotOpen + noFile}, "")
		d.skip("server", "schema", "permissions", "health", "triggers", "clock")
		return d, nil
	}
	if err != nil {
		return d, err
	}
	defer func() { _ = e.close() }()
	err = d.diagnose(ctx, cfg, e)
	return d, err
}

func (d *Diagnosis) diagnose(ctx context.Context, cfg config, e engine) error {
	all, err := sources(e)
	if err != nil {
		return err
	}
	d.Needed = all[len(all)-1].number
	begun := time.Now()
	if err := e.read(ctx, step{text: "SELECT 1"}); err != nil {
		d.add("connection", err, "")
		d.skip("server", "schema", "permissions", "health", "triggers", "clock")
		return nil
	}
	answered := time.Now()
	_ = e.read(ctx, step{text: "SELECT 1"})
	d.add("connection", nil, fmt.Sprintf("The first statement took %v, with connecting, and the second %v.",
		answered.Sub(begun).Round(time.Microsecond), time.Since(answered).Round(time.Microsecond)))
	d.server(ctx, e)
	version, err := version(ctx, cfg, e, e.read)
	if lacksRight(err) {
		err = fmt.Errorf("%w: the role may not read %s: it needs USAGE of its schema and SELECT", errFound, cfg.log())
	}
	if err == nil {
		d.Schema = max(0, version)
	}
	if usable := true; err == nil && d.Schema == 0 && e.name() == "postgres" {
		query := "SELECT coalesce(bool_and(has_schema_privilege(oid, 'USAGE')), true) FROM pg_namespace WHERE nspname = $1"
		name := cmp.Or(cfg.schema, "public")
		if err = e.read(ctx, step{query, []any{name}, only(&usable)}); err == nil && !usable {
			d.Schema, err = -1, fmt.Errorf("%w: the role may not use the schema %q", errFound, name)
		}
	}
	if err == nil && d.Schema != d.Needed {
		err = fmt.Errorf("%w: the database has version %d, this program needs %d", ErrSchema, d.Schema, d.Needed)
	}
	d.add("schema", err, fmt.Sprintf("It has version %d.", d.Schema))
	if err != nil {
		d.skip("permissions")
	} else {
		d.permissions(ctx, cfg, e)
	}
	d.add("health", e.healthy(ctx), "The database serves.")
	if err != nil {
		d.skip("triggers")
	} else {
		d.triggers(ctx, cfg, e)
	}
	d.clock(ctx, e)
	return nil
}

// add adds the outcome of a check. Errors of drivers are not shown: see Reason.
func (d *Diagnosis) add(name string, err error, text string) {
	c := Check{name, "ok", text}
	if f, ok := errors.AsType[*store.Error](err); ok {
		c.Result, c.Text = "FAIL", f.Error()
	} else if own := errors.Is(err, ErrSchema) || errors.Is(err, errUnsuitable) || errors.Is(err, errFound); own {
		c.Result, c.Text = "FAIL", strings.ReplaceAll(err.Error(), "\n", "; ")
	} else if err != nil {
		c.Result, c.Text = "FAIL", cmp.Or(Reason(err), "unknown error")
	}
	d.Checks = append(d.Checks, c)
}

// errFound marks a fault whose text may be shown.
var errFound = errors.New("sqlstore")

func (d *Diagnosis) skip(names ...string) {
	for _, name := range names {
		d.Checks = append(d.Checks, Check{name, "skipped", "A check above failed."})
	}
}

// lacksRight reports whether the role or user may not do something.
func lacksRight(err error) bool {
	if pe, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pe.Code == "42501"
	}
	me, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && (me.Number == 1142 || me.Number == 1143)
}

// oldest is the oldest version of PostgreSQL that the package supports.
const oldest = 13

func (d *Diagnosis) server(ctx context.Context, e engine) {
	var text string
	number := oldest * 10_000
	query := step{"SELECT current_setting('server_version'), current_setting('server_version_num')::int", nil, only(&text, &number)}
	names := map[string]string{"sqlite": "SQLite", "postgres": "PostgreSQL", "mysql": "MySQL"}
	switch e.name() {
	case "sqlite":
		query = step{"SELECT sqlite_version()", nil, only(&text)}
	case "mysql": // whose versions suits compares
		query = step{"SELECT version()", nil, only(&text)}
	}
	err := e.suits(ctx)
	if err == nil {
		err = e.read(ctx, query)
	}
	if err == nil && number < oldest*10_000 {
		err = fmt.Errorf("%w: PostgreSQL %s is too old: version %d is needed", errFound, text, oldest)
	}
	d.add("server", err, fmt.Sprintf("It is %s %s.", names[e.name()], text))
}

// permissions tries all kinds of statements, on no rows, in transactions that it rolls back.
func (d *Diagnosis) permissions(ctx context.Context, cfg config, e engine) {
	updated := map[string]string{"threads": "doc", "items": "doc", "attachments": "doc", "grants": "role"}
	var missing []string
tables:
	for _, table := range tables {
		there := false
		if err := e.read(ctx, step{e.tableExists(), []any{cfg.qualified(table)}, only(&there)}); err == nil && !there {
			missing = append(missing, "the table "+cfg.qualified(table)+" is missing")
			continue
		}
		names := strings.NewReplacer("{table}", cfg.qualified(table), "{column}", updated[table])
		for _, text := range []string{"SELECT 1 FROM {table} WHERE false", "INSERT INTO {table} SELECT * FROM {table} WHERE false",
			"DELETE FROM {table} WHERE false", "UPDATE {table} SET {column} = {column} WHERE false"} {
			right, _, _ := strings.Cut(text, " ")
			if right == "UPDATE" && updated[table] == "" {
				continue
			}
			_, err := e.write(ctx, func(ctx context.Context, tx tx) error {
				if err := tx.run(ctx, step{text: names.Replace(text)}); err != nil {
					return err
				}
				return refused{}
			})
			switch _, rolledBack := errors.AsType[refused](err); {
			case rolledBack:
			case lacksRight(err):
				missing = append(missing, "the role may not "+right+" "+cfg.qualified(table))
			default:
				missing = append(missing, right+" "+cfg.qualified(table)+": "+cmp.Or(Reason(err), "unknown error"))
				break tables // the others would fail in the same way
			}
		}
	}
	var err error
	if len(missing) > 0 {
		err = fmt.Errorf("%w: %s", errFound, strings.Join(missing, "; "))
	}
	d.add("permissions", err, "Rows of all tables can be read and written.")
}

func (d *Diagnosis) triggers(ctx context.Context, cfg config, e engine) {
	if e.name() == "mysql" {
		d.Checks = append(d.Checks, Check{"triggers", "skipped", "The Store has none in MySQL."})
		return
	}
	var grants, on, off int
	query := step{"SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name = $1", []any{cfg.prefix + "end_grants"}, only(&grants)}
	if e.name() == "postgres" {
		query = step{`SELECT count(*) FILTER (WHERE tgname = $1 || 'end_grants' AND tgenabled IN ('O', 'A')),
			count(*) FILTER (WHERE tgname LIKE $1 || 'notify\_%' AND tgenabled IN ('O', 'A')),
			count(*) FILTER (WHERE tgname LIKE $1 || 'notify\_%' AND tgenabled NOT IN ('O', 'A'))
			FROM pg_trigger WHERE tgrelid IN (to_regclass($2), to_regclass($3), to_regclass($4))`,
			[]any{cfg.prefix, cfg.qualified("threads"), cfg.qualified("items"), cfg.qualified("attachments")}, only(&grants, &on, &off)}
	}
	err := e.read(ctx, query)
	text := "The trigger that ends grants is there."
	if e.name() == "postgres" {
		text += map[bool]string{true: " Those that announce changes are on.", false: " Those that announce changes are off: no program uses a Bus."}[on > 0]
	}
	switch {
	case err != nil:
	case grants != 1:
		err = fmt.Errorf("%w: the trigger that ends the grants of a deleted thread is missing or disabled", errFound)
	case e.name() == "postgres" && (on+off != notifications || on > 0 && off > 0):
		err = fmt.Errorf("%w: of %d triggers that announce changes, %d are on and %d off", errFound, notifications, on, off)
	}
	d.add("triggers", err, text)
}

// skewed is how far clocks may differ. Grants and Prune compare times of several machines.
const skewed = 5 * time.Second

func (d *Diagnosis) clock(ctx context.Context, e engine) {
	if e.name() == "sqlite" {
		d.Checks = append(d.Checks, Check{"clock", "skipped", "SQLite uses this machine's clock."})
		return
	}
	var micros int64
	before := time.Now()
	text := "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
	if e.name() == "mysql" {
		text = "SELECT CAST(unix_timestamp(sysdate(6)) * 1000000 AS SIGNED)"
	}
	err := e.read(ctx, step{text, nil, only(&micros)})
	difference := time.UnixMicro(micros).Sub(before.Add(time.Since(before) / 2)).Round(time.Millisecond)
	if err == nil && difference.Abs() > skewed {
		err = fmt.Errorf("%w: the server's clock differs from this machine's by %v", errFound, difference)
	}
	d.add("clock", err, fmt.Sprintf("The server's clock differs from this machine's by %v.", difference))
}
