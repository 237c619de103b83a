package sqlstore

import "database/sql"

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
