package sqlstore

import (
	"context"
	"fmt"
)

// Size has the numbers of rows of a database, and how large it is.
type Size struct {
	Schema      int64 `json:"schema"` // the version of the schema
	Threads     int64 `json:"threads"`
	Items       int64 `json:"items"`
	Attachments int64 `json:"attachments"`
	Grants      int64 `json:"grants"`
	Deleted     int64 `json:"deleted"` // ids of threads and attachments
	Erased      int64 `json:"erased"`  // ids of threads and attachments
	// Bytes is the size of a SQLite file without its WAL, or of the other databases' tables with their indexes. That of MySQL is an estimate.
	Bytes int64 `json:"bytes"`
}

// Size counts all rows. It takes long for a large database: [WithStatementTimeout] limits it.
func (s *Store) Size(ctx context.Context) (z Size, err error) {
	var names []string
	for _, table := range tables {
		names = append(names, s.cfg.qualified(table))
	}
	var bytes string
	var args []any
	switch s.engine.name() {
	case "sqlite":
		bytes = "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)"
	case "postgres":
		bytes, args = "(SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint FROM unnest($1::text[]) name)", []any{names}
	case "mysql":
		bytes = `(SELECT CAST(coalesce(sum(data_length + index_length), 0) AS SIGNED) FROM information_schema.tables
			WHERE table_schema = database() AND table_name IN ($1))`
		args = []any{texts(names)}
	}
	count := func(table, where string) string {
		return "(SELECT count(*) FROM " + s.cfg.qualified(table) + " WHERE " + where + "), "
	}
	of := func(state int) string {
		where := fmt.Sprintf("state = %d", state)
		return "(SELECT count(*) FROM " + s.cfg.qualified("threads") + " WHERE " + where + ") + " + count("attachments", where)
	}
	text := "SELECT (SELECT max(version_id) FROM " + s.cfg.log() + "), " + count("threads", "state = 0") + count("items", "true") +
		count("attachments", "state = 0") + count("grants", "true") + of(deleted) + of(erased) + bytes
	err = s.read(ctx, call{}, func() step {
		return step{text, args, only(&z.Schema, &z.Threads, &z.Items, &z.Attachments, &z.Grants, &z.Deleted, &z.Erased, &z.Bytes)}
	})
	return z, err
}

// tables are those with rows of conversations.
var tables = []string{"threads", "items", "gone", "attachments", "grants"}
