package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/chatstore/chatstore/store"
)

// PagedQuery is a listing's statement for each engine, with arguments that match existing rows.
type PagedQuery struct {
	Name, SQLite, Postgres string
	Args                   []any
	MySQL                  func(place []any) (text string, args []any) // place is that of the cursor
	Place                  func() (text string, args []any)            // nil if nothing looks it up before
}

func mysqlStatements(cfg config) statements { return statementsFor(mysqlDialect(cfg, mysqlServer{})) }

// onMySQL returns a text and its arguments as the driver gets them.
func onMySQL(text string, args ...any) (string, []any) {
	for n := range args {
		if list, ok := args[n].(string); ok && strings.HasPrefix(list, "[") {
			var all []string
			if err := json.Unmarshal([]byte(list), &all); err != nil {
				panic(err)
			}
			args[n] = texts(all)
		}
	}
	text, args, err := bound("", []step{{text: text, args: args}})
	if err != nil {
		panic(err)
	}
	return text, args
}

// PagedQueries returns the statements of all listings.
func PagedQueries() (all []PagedQuery) {
	cfg, err := configured(nil)
	if err != nil {
		panic(err)
	}
	lite, pg, my := (&sqliteEngine{}).statements(cfg), (&postgresEngine{}).statements(cfg), mysqlStatements(cfg)
	add := func(name string, listing func(statements) pages, cursor string, args ...any) {
		lite, pg, my := listing(lite), listing(pg), listing(my)
		for order := range lite.texts {
			for cursed := range lite.texts[order] {
				q := PagedQuery{
					Name:   fmt.Sprintf("%s %v, cursor %v", name, store.Order(order), cursed == 1),
					SQLite: lite.texts[order][cursed], Postgres: pg.texts[order][cursed], Args: append(args[:len(args):len(args)], 21),
				}
				if cursed == 1 {
					q.Args = append(q.Args, cursor)
					if my.place != "" {
						q.Place = func() (string, []any) { return onMySQL(my.place, append(args[:len(args):len(args)], cursor)...) }
					}
				}
				q.MySQL = func(place []any) (string, []any) {
					return onMySQL(my.texts[order][cursed], append(q.Args[:len(q.Args):len(q.Args)], place...)...)
				}
				all = append(all, q)
			}
		}
	}
	add("items", func(s statements) pages { return s.itemPages }, "msg_10004", "thr_5")
	add("threads of an owner", func(s statements) pages { return s.threadPages[byOwner] }, "thr_5006", "tenant1", "subject2")
	add("threads of a tenant", func(s statements) pages { return s.threadPages[byTenant] }, "thr_5006", "tenant1")
	add("threads of everybody", func(s statements) pages { return s.threadPages[byAny] }, "thr_10004")
	add("deleted threads", func(s statements) pages { return s.goneThreads }, "thr_5006")
	add("deleted attachments", func(s statements) pages { return s.goneFiles }, "thr_5006")
	for kind, filter := range [][]any{byOwner: {"tenant1", "subject2"}, byTenant: {"tenant1"}, byAny: nil} {
		add(fmt.Sprint("attachments, filter ", kind), func(s statements) pages { return s.filePages[kind] }, "thr_5006", filter...)
		add(fmt.Sprint("idle threads, filter ", kind), func(s statements) pages { return s.idlePages[kind] }, "thr_5006", append(filter, int64(15_000))...)
	}
	return all
}

// GrantQueries returns the statements that read grants or end them for an owner, as PagedQueries does. That of SharedWith comes
// last: it alone sorts rows, a page of each grantee.
func GrantQueries() []PagedQuery {
	cfg, err := configured(nil)
	if err != nil {
		panic(err)
	}
	lite, pg, my := (&sqliteEngine{}).statements(cfg), (&postgresEngine{}).statements(cfg), mysqlStatements(cfg)
	const groups = `["","group1","group2"]`
	query := func(name string, of func(statements) string, args ...any) PagedQuery {
		return PagedQuery{Name: name, SQLite: of(lite), Postgres: of(pg), Args: args, MySQL: func([]any) (string, []any) {
			return onMySQL(of(my), slices.Clone(args)...)
		}}
	}
	return []PagedQuery{
		query("Access", func(s statements) string { return s.access }, "thr_5006", "tenant1", "subject1"),
		query("Grantees", func(s statements) string { return s.grantees }, "thr_5", 21, 10_000, "tenant1", "subject2", ""),
		query("EraseOwner, to", func(s statements) string { return s.eraseTo }, "tenant1", "subject1"),
		query("EraseOwner, by", func(s statements) string { return s.eraseBy }, "tenant1", "subject1"),
		query("Revoke", func(s statements) string { return s.revoke }, "thr_5006", "tenant1", "subject1", ""),
		query("SharedWith", func(s statements) string { return s.sharedWith(4) }, "tenant1", "subject1", groups, 21, 10_000, "thr_5006"),
	}
}

// FilterKind returns the index of the listing for a filter.
func FilterKind(f store.OwnerFilter) int {
	kind, _ := filterOf(f)
	return kind
}

// WithCancelDelay sets how long the server may take to answer after a request to cancel a statement.
func WithCancelDelay(d time.Duration) Option { return func(c *config) { c.cancelDelay = d } }

// Exec runs a text on the connection, or a connection, that writes.
func Exec(s *Store, text string) error {
	if e, ok := s.engine.(*postgresEngine); ok {
		_, err := e.pool.Exec(context.Background(), text)
		return err
	}
	if e, ok := s.engine.(*mysqlEngine); ok {
		_, err := e.db.ExecContext(context.Background(), text)
		return err
	}
	return onSQLite(s, func(c *sqliteConn) error { return c.exec(context.Background(), text) })
}

// Query runs a query for one row on the connection, or a connection, that writes.
func Query(s *Store, text string, into ...any) error {
	if e, ok := s.engine.(*postgresEngine); ok {
		return e.pool.QueryRow(context.Background(), text).Scan(into...)
	}
	if e, ok := s.engine.(*mysqlEngine); ok {
		return e.db.QueryRowContext(context.Background(), text).Scan(into...)
	}
	return onSQLite(s, func(c *sqliteConn) error { return c.run(context.Background(), step{text, nil, only(into...)}) })
}

func onSQLite(s *Store, f func(*sqliteConn) error) error {
	writes := s.engine.(*sqliteEngine).writes
	c, err := writes.take(context.Background())
	if err != nil {
		return err
	}
	defer writes.put(c)
	return f(c)
}

// Read runs a query as a call does. It calls row for each row.
func Read(ctx context.Context, s *Store, text string, row func() error) error {
	return s.engine.read(ctx, step{text: text, row: func(func(...any) error) error { return row() }})
}

// Write runs a text in a transaction, and then f, as a call does.
func Write(ctx context.Context, s *Store, text string, f func() error) (settled bool, err error) {
	return s.engine.write(ctx, func(ctx context.Context, tx tx) error {
		if err := tx.run(ctx, step{text: text}); err != nil {
			return err
		}
		return f()
	})
}

// BeforeCommit returns a Store over the engine of s whose writes call f after their statements and before their COMMIT.
func BeforeCommit(s *Store, f func(context.Context) error) *Store {
	return &Store{ids: s.ids, engine: pausing{s.engine, f}, sql: s.sql, cfg: s.cfg}
}

type pausing struct {
	engine
	f func(context.Context) error
}

func (e pausing) write(ctx context.Context, f func(context.Context, tx) error) (settled bool, err error) {
	return e.engine.write(ctx, func(ctx context.Context, tx tx) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		return e.f(ctx)
	})
}

// CodeOfDriver returns what the engine makes of an error of its driver.
func CodeOfDriver(s *Store, err error) store.Code { return s.engine.classify(err).code }

// PoolStats returns the numbers of SQLite's pool.
func PoolStats(s *Store) (inUse, idle, most int, waits uint64, waited time.Duration) {
	st := s.engine.(*sqliteEngine).stats()
	return st.inUse, st.idle, st.max, st.waits, st.waited
}

// Migration returns the text of a migration, with the default prefix.
func Migration(file string) string {
	text, err := migrations.ReadFile("migrations/" + file)
	if err != nil {
		panic(err)
	}
	return strings.NewReplacer("{prefix}", DefaultPrefix).Replace(string(text))
}

// BareTexts returns the statements that load a thread, read the newest items, and add an item in a transaction.
func BareTexts(s *Store) (load, page, touch, insert string) {
	return s.sql.loadThread, s.sql.itemPages.texts[store.NewestFirst][0], s.sql.touchThread, s.sql.insertItem
}

// OFDLocks asks for the locks that OpenSQLite asks for.
func OFDLocks() { ofdLocks() }

// Script runs a text of several statements.
func Script(c *sqlite.Conn, text string) error {
	return (&sqliteConn{c: c}).exec(context.Background(), text)
}

// Newest is the schema version that this package needs.
func Newest(s *Store) int64 {
	all, err := sources(s.engine)
	if err != nil {
		panic(err)
	}
	return all[len(all)-1].number
}

// Table returns the name of a table in statements.
func Table(s *Store, table string) string { return s.cfg.qualified(table) }

// LockName is the name of the migration lock in PostgreSQL, with the default prefix and no schema.
var LockName = config{prefix: DefaultPrefix}.migrationLock()

// FirstEdition returns the text that makes the tables of the first edition in PostgreSQL, as its programs did.
func FirstEdition() string {
	e, cfg := &postgresEngine{}, config{prefix: DefaultPrefix}
	all, err := sources(e)
	if err != nil {
		panic(err)
	}
	text := e.newLog()
	for _, m := range all[:2] {
		text += ";\n" + m.text + fmt.Sprintf("INSERT INTO %s (version_id, is_applied) VALUES (%d, true)", cfg.log(), m.number)
	}
	return e.names(cfg).Replace(text)
}
