package sqlstore

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/store"
)

// PagedQuery is a listing's statement for both engines, with arguments for rows that are there.
type PagedQuery struct {
	Name, SQLite, Postgres string
	Args                   []any
}

// PagedQueries returns the statements of all listings.
func PagedQueries() (all []PagedQuery) {
	cfg, err := configured(nil)
	if err != nil {
		panic(err)
	}
	lite, pg := (&sqliteEngine{}).statements(cfg), (&postgresEngine{}).statements(cfg)
	add := func(name string, lite, pg pages, cursor string, args ...any) {
		for order := range lite {
			for cursed := range lite[order] {
				q := PagedQuery{
					Name:   fmt.Sprintf("%s %v, cursor %v", name, store.Order(order), cursed == 1),
					SQLite: lite[order][cursed], Postgres: pg[order][cursed], Args: append(args[:len(args):len(args)], 21),
				}
				if cursed == 1 {
					q.Args = append(q.Args, cursor)
				}
				all = append(all, q)
			}
		}
	}
	add("items", lite.itemPages, pg.itemPages, "msg_10004", "thr_5")
	add("threads of an owner", lite.threadPages[byOwner], pg.threadPages[byOwner], "thr_5006", "tenant1", "subject2")
	add("threads of a tenant", lite.threadPages[byTenant], pg.threadPages[byTenant], "thr_5006", "tenant1")
	add("threads of everybody", lite.threadPages[byAny], pg.threadPages[byAny], "thr_10004")
	return all
}

// FilterKind returns which listing answers a filter.
func FilterKind(f store.OwnerFilter) int {
	kind, _ := filterOf(f)
	return kind
}

// WithCancelDelay is how long a server that was asked to cancel a statement has to say what became of it.
func WithCancelDelay(d time.Duration) Option { return func(c *config) { c.cancelDelay = d } }

// Writer returns the connections that s writes with.
func Writer(s *Store) *sql.DB { return s.engine.writer() }

// Reader returns the connections that s reads with.
func Reader(s *Store) *sql.DB { return s.engine.reader() }

// Newest is the version of the schema that this version of the package needs.
func Newest(s *Store) int64 {
	all, err := sources(s.engine)
	if err != nil {
		panic(err)
	}
	return all[len(all)-1].number
}

// Table returns the name of a table as statements write it.
func Table(s *Store, table string) string { return s.cfg.qualified(table) }

// LockName is what programs that migrate lock in PostgreSQL, with the default prefix and no schema.
var LockName = string((&postgresEngine{}).locker(config{prefix: DefaultPrefix}).(advisory))
