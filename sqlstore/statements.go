package sqlstore

import (
	"fmt"
	"strings"

	"github.com/chatstore/chatstore/store"
)

// statements has the texts of all statements. The two databases differ only in the names of tables and the form of
// parameters. The writing statement itself decides ownership, existence and save modes.
type statements struct {
	loadThread   string
	updateThread string
	nextSeq      string
	insertThread string
	upsertThread string
	ownerOf      string
	deleteThread string
	deleteItems  string
	touchThread  string
	insertItem   string
	upsertItem   string
	updateItem   string
	deleteItem   string
	loadItem     string
	insertFile   string
	upsertFile   string
	updateFile   string
	fileOf       string
	loadFile     string
	deleteFile   string
	itemPages    pages
	threadPages  [len(filters)]pages // index: kind of filter

	texts []string // all texts
}

// mayOwn is the rule of ownership for replacing a row: a save with the zero Owner keeps the stored one.
const mayOwn = `($2 = '' AND $3 = '' OR {row}tenant = $2 AND {row}subject = $3)`

func statementsFor(table func(string) string, param func(string) string) statements {
	var texts []string
	q := func(text string) string {
		text = strings.NewReplacer(
			"{threads}", table("threads"), "{items}", table("items"), "{files}", table("attachments"), "{counters}", table("counters"),
		).Replace(text)
		texts = append(texts, param(text))
		return texts[len(texts)-1]
	}
	own := func(row string) string { return strings.ReplaceAll(mayOwn, "{row}", row) }
	st := statements{
		loadThread: q(`SELECT tenant, subject, deleted, version, doc FROM {threads} WHERE id = $1`),

		// A save first tries to update an existing row, then inserts a new row or restores a deleted one.
		updateThread: q(`UPDATE {threads} SET created_at = $4, doc = $5, version = version + 1
			WHERE id = $1 AND deleted = 0 AND ` + own("") + ` RETURNING version`),
		nextSeq: q(`UPDATE {counters} SET n = n + 1 WHERE name = 'threads' RETURNING n`),
		insertThread: q(`INSERT INTO {threads} AS t (id, tenant, subject, created_at, doc, seq, version, item_seq, deleted)
			VALUES ($1, $2, $3, $4, $5, $6, 1, 0, 0)
			ON CONFLICT (id) DO UPDATE SET created_at = $4, doc = $5, seq = $6, version = t.version + 1, deleted = 0
			WHERE t.deleted = 1 AND ` + own("t.") + ` RETURNING version`),
		// Another save may have inserted the row since updateThread looked for it.
		upsertThread: q(`INSERT INTO {threads} AS t (id, tenant, subject, created_at, doc, seq, version, item_seq, deleted)
			VALUES ($1, $2, $3, $4, $5, $6, 1, 0, 0)
			ON CONFLICT (id) DO UPDATE SET created_at = $4, doc = $5, seq = CASE t.deleted WHEN 1 THEN $6 ELSE t.seq END,
				version = t.version + 1, deleted = 0
			WHERE ` + own("t.") + ` RETURNING version`),
		ownerOf: q(`SELECT tenant, subject, deleted, version FROM {threads} WHERE id = $1`),

		deleteThread: q(`UPDATE {threads} SET deleted = 1, doc = '', version = version + 1 WHERE id = $1 AND deleted = 0 RETURNING version`),
		deleteItems:  q(`DELETE FROM {items} WHERE thread_id = $1`),

		// A change of an item first locks the thread's row, so versions and places are in the order of commits.
		touchThread: q(`UPDATE {threads} SET version = version + 1, item_seq = item_seq + 1 WHERE id = $1 AND deleted = 0
			RETURNING version, item_seq`),
		insertItem: q(`INSERT INTO {items} (thread_id, id, created_at, doc, seq) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`),
		upsertItem: q(`INSERT INTO {items} (thread_id, id, created_at, doc, seq) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (thread_id, id) DO UPDATE SET created_at = excluded.created_at, doc = excluded.doc`),
		updateItem: q(`UPDATE {items} SET created_at = $3, doc = $4 WHERE thread_id = $1 AND id = $2`),
		deleteItem: q(`DELETE FROM {items} WHERE thread_id = $1 AND id = $2`),
		loadItem: q(`SELECT t.version, i.doc FROM {threads} t LEFT JOIN {items} i ON i.thread_id = t.id AND i.id = $2
			WHERE t.id = $1`),

		insertFile: q(`INSERT INTO {files} AS t (id, tenant, subject, doc, deleted) VALUES ($1, $2, $3, $4, 0)
			ON CONFLICT (id) DO UPDATE SET doc = $4, deleted = 0 WHERE t.deleted = 1 AND ` + own("t.")),
		upsertFile: q(`INSERT INTO {files} AS t (id, tenant, subject, doc, deleted) VALUES ($1, $2, $3, $4, 0)
			ON CONFLICT (id) DO UPDATE SET doc = $4, deleted = 0 WHERE ` + own("t.")),
		updateFile: q(`UPDATE {files} SET doc = $4 WHERE id = $1 AND deleted = 0 AND ` + own("")),
		fileOf:     q(`SELECT deleted FROM {files} WHERE id = $1`),
		loadFile:   q(`SELECT tenant, subject, doc FROM {files} WHERE id = $1 AND deleted = 0`),
		deleteFile: q(`UPDATE {files} SET deleted = 1, doc = '' WHERE id = $1 AND deleted = 0`),
	}
	st.itemPages = pagesOf(q, pageOf{
		head: `SELECT t.version, i.doc, i.id, i.created_at, i.seq, {found} FROM {threads} t LEFT JOIN ({rows}) i ON 1 = 1 WHERE t.id = $1`,
		from: `{items}`, columns: `doc, id, created_at, seq`, where: `thread_id = $1`, params: 1,
	})
	for kind, f := range filters {
		st.threadPages[kind] = pagesOf(q, pageOf{
			head: `SELECT t.tenant, t.subject, t.doc, t.id, t.created_at, t.seq, f.found FROM (SELECT {found} AS found) f
				LEFT JOIN ({rows}) t ON 1 = 1`,
			from: `{threads}`, columns: `tenant, subject, doc, id, created_at, seq`, where: `deleted = 0` + f.where, params: f.params,
		})
	}
	st.texts = texts
	return st
}

// filters has the conditions for the kinds of [store.OwnerFilter].
var filters = [...]struct {
	where  string
	params int
}{
	byOwner:  {` AND tenant = $1 AND subject = $2`, 2}, // rows without an owner have two empty names
	byTenant: {` AND tenant = $1 AND subject <> ''`, 1},
	byAny:    {``, 0},
}

const (
	byOwner = iota
	byTenant
	byAny
)

// filterOf returns the kind of f and its parameters.
func filterOf(f store.OwnerFilter) (kind int, args []any) {
	if tenant, ok := f.Tenant(); ok {
		return byTenant, []any{tenant}
	}
	if f.IsAny() {
		return byAny, nil
	}
	o, _ := f.Owner()
	return byOwner, []any{o.Tenant, o.Subject}
}

// pages has the statements of a listing, by order, without and with a cursor.
type pages [2][2]string

// pageOf is a listing. One statement reads the page, whether the cursor exists ({found}), and the thread's version, all from
// one snapshot. The outer SELECT does not sort, because it joins only one row.
type pageOf struct {
	head, from, columns, where string
	params                     int // parameters of where; the limit and the cursor's id follow
}

func pagesOf(q func(string) string, p pageOf) (all pages) {
	for order, by := range map[store.Order][2]string{
		store.NewestFirst: {"<", "DESC"},
		store.OldestFirst: {">", "ASC"},
	} {
		limit, cursor := fmt.Sprintf("$%d", p.params+1), fmt.Sprintf("$%d", p.params+2)
		rows := func(after string) string {
			return fmt.Sprintf("SELECT %s FROM %s WHERE %s%s ORDER BY created_at %s, seq %s LIMIT %s",
				p.columns, p.from, p.where, after, by[1], by[1], limit)
		}
		is := fmt.Sprintf("FROM %s WHERE %s AND id = %s", p.from, p.where, cursor)
		text := func(found, rows string) string {
			return q(strings.NewReplacer("{found}", found, "{rows}", rows).Replace(p.head))
		}
		all[order][0] = text("1", rows(""))
		all[order][1] = text("(SELECT count(*) "+is+")",
			rows(fmt.Sprintf(" AND (created_at, seq) %s (SELECT created_at, seq %s)", by[0], is)))
	}
	return all
}
