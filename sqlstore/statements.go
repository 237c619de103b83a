package sqlstore

import (
	"fmt"
	"strings"

	"github.com/chatstore/chatstore/store"
)

// The states of a thread's or attachment's id.
const (
	live    = 0
	deleted = 1 // its id, owner and, for a thread, its place and version stay
	erased  = 2 // it has no owner, and nobody can use the id again
)

// statements has the texts of all statements. The two databases differ only in the names of tables and the form of
// parameters, and where a text has a name in braces. A write is a fixed list of statements, which are sent together. Each
// decides by the rows that it finds. The caller then looks at what they returned, and commits or rolls back.
type statements struct {
	loadThread   string
	upsertThread string
	insertThread string
	updateThread string
	deleteThread string
	deleteItems  string
	deleteGone   string
	touchThread  string
	insertItem   string
	upsertItem   string
	// touchThread with insertItem or upsertItem in one; "" if the database cannot.
	touchAndInsert string
	touchAndUpsert string
	updateItem     string
	keepPlace      string
	deleteItem     string
	loadItem       string
	insertFile     string
	upsertFile     string
	updateFile     string
	swapFile       string
	loadFile       string
	deleteFile     string
	itemPages      pages
	threadPages    [len(filters)]pages // index: kind of filter
	filePages      [len(filters)]pages
	idlePages      [len(filters)]pages
	versionsOf     string

	eraseThreads  string
	eraseItems    string
	eraseGone     string
	forgetThreads string
	eraseFiles    string
	forgetFiles   string

	grantStatements
}

// mayOwn is the rule of ownership for replacing a row: a save with the zero Owner keeps the stored one.
const mayOwn = `($2 = '' AND $3 = '' OR {row}tenant = $2 AND {row}subject = $3)`

// dialect has the differences between the texts of the two databases.
type dialect struct {
	table func(string) string // the qualified name of a table
	param func(string) string // changes the form of the parameters $1, $2 and so on
	ids   string              // a set of the ids in the JSON array $1
	self  string              // a text that another table of threads would not have
	// groups is a table whose column value has the texts in the JSON array $3. lateral joins the {rows} for each row before it.
	groups, lateral string
	// together says that one statement may change several tables.
	together bool
}

func statementsFor(d dialect) statements {
	names := strings.NewReplacer("{threads}", d.table("threads"), "{items}", d.table("items"), "{gone}", d.table("gone"),
		"{files}", d.table("attachments"), "{grants}", d.table("grants"), "{ids}", d.ids, "{self}", d.self)
	q := func(text string) string { return d.param(names.Replace(text)) }
	own := func(row string) string { return strings.ReplaceAll(mayOwn, "{row}", row) }
	const (
		newThread = `INSERT INTO {threads} AS t (id, tenant, subject, created_at, doc, version, places, state)
			VALUES ($1, $2, $3, $4, $5, 1, 0, 0)
			ON CONFLICT (id) DO UPDATE SET created_at = $4, doc = $5, version = t.version + 1, state = 0 WHERE `
		// A change of an item first locks the thread's row, so versions and places are in the order of commits.
		touch = `UPDATE {threads} SET version = version + 1, places = places + 1 WHERE id = $1 AND state = 0 RETURNING `
		// The place among items of one time comes from the thread's row.
		newItem = `INSERT INTO {items} (thread_id, id, created_at, doc, place)
			SELECT id, $2, CAST($3 AS bigint), $4, places FROM `
		asNew   = ` ON CONFLICT (thread_id, id) DO NOTHING RETURNING place`
		over    = ` ON CONFLICT (thread_id, id) DO UPDATE SET created_at = excluded.created_at, doc = excluded.doc RETURNING place`
		newFile = `INSERT INTO {files} AS t (id, tenant, subject, doc, state) VALUES ($1, $2, $3, $4, 0)
			ON CONFLICT (id) DO UPDATE SET doc = $4, state = 0 WHERE `
		// SQLite uses the index threads_deleted only for exactly its condition.
		noLonger = `tenant = $1 AND subject = $2 AND state > 0 AND subject <> ''`
	)
	st := statements{
		grantStatements: grantStatementsFor(d, q),

		loadThread:   q(`SELECT tenant, subject, state, version, doc FROM {threads} WHERE id = $1`),
		upsertThread: q(newThread + `t.state < 2 AND ` + own("t.") + ` RETURNING version`),
		insertThread: q(newThread + `t.state = 1 AND ` + own("t.") + ` RETURNING version`),
		updateThread: q(`UPDATE {threads} SET created_at = $4, doc = $5, version = version + 1
			WHERE id = $1 AND state = 0 AND ` + own("") + ` RETURNING version`),
		deleteThread: q(`UPDATE {threads} SET state = 1, doc = '', version = version + 1 WHERE id = $1 AND state = 0 RETURNING version`),
		deleteItems:  q(`DELETE FROM {items} WHERE thread_id = $1`),
		deleteGone:   q(`DELETE FROM {gone} WHERE thread_id = $1`),

		touchThread: q(touch + `version`),
		insertItem:  q(newItem + `{threads} WHERE id = $1 AND state = 0` + asNew),
		upsertItem:  q(newItem + `{threads} WHERE id = $1 AND state = 0` + over),
		updateItem:  q(`UPDATE {items} SET created_at = $3, doc = $4 WHERE thread_id = $1 AND id = $2 RETURNING place`),
		keepPlace: q(`INSERT INTO {gone} (thread_id, id, created_at, place)
			SELECT thread_id, id, created_at, place FROM {items} WHERE thread_id = $1 AND id = $2
			ON CONFLICT (thread_id, id) DO UPDATE SET created_at = excluded.created_at, place = excluded.place`),
		deleteItem: q(`DELETE FROM {items} WHERE thread_id = $1 AND id = $2 RETURNING place`),
		loadItem: q(`SELECT t.version, coalesce(i.doc, '') FROM {threads} t LEFT JOIN {items} i ON i.thread_id = t.id AND i.id = $2
			WHERE t.id = $1`),

		upsertFile: q(newFile + `t.state < 2 AND ` + own("t.") + ` RETURNING state`),
		insertFile: q(newFile + `t.state = 1 AND ` + own("t.") + ` RETURNING state`),
		updateFile: q(`UPDATE {files} SET doc = $4 WHERE id = $1 AND state = 0 AND ` + own("") + ` RETURNING state`),
		swapFile:   q(`UPDATE {files} SET doc = $4 WHERE id = $1 AND state = 0 AND doc = $5 AND ` + own("") + ` RETURNING state`),
		loadFile:   q(`SELECT tenant, subject, state, doc FROM {files} WHERE id = $1`),
		deleteFile: q(`UPDATE {files} SET state = 1, doc = '' WHERE id = $1 AND state = 0`),

		versionsOf: q(`SELECT s.name, coalesce(t.id, ''), coalesce(t.version, 0) FROM (SELECT {self} AS name) s
			LEFT JOIN {threads} t ON t.id IN {ids}`),

		// One statement takes live and deleted rows, so none slips through by changing its state. Names and texts stay until
		// the owner is forgotten: they tell which rows were live, and whose items to delete.
		eraseThreads: q(`UPDATE {threads} SET state = 2, version = version + CASE state WHEN 0 THEN 1 ELSE 0 END
			WHERE tenant = $1 AND subject = $2 AND state = 0 OR ` + noLonger + ` AND state = 1 RETURNING id, CASE doc WHEN '' THEN 0 ELSE 1 END`),
		eraseItems:    q(`DELETE FROM {items} WHERE thread_id IN (SELECT id FROM {threads} WHERE ` + noLonger + ` AND state = 2)`),
		eraseGone:     q(`DELETE FROM {gone} WHERE thread_id IN (SELECT id FROM {threads} WHERE ` + noLonger + ` AND state = 2)`),
		forgetThreads: q(`UPDATE {threads} SET tenant = '', subject = '', doc = '' WHERE ` + noLonger + ` AND state = 2`),
		eraseFiles: q(`UPDATE {files} SET state = 2 WHERE tenant = $1 AND subject = $2 AND state < 2
			RETURNING id, CASE doc WHEN '' THEN 0 ELSE 1 END`),
		forgetFiles: q(`UPDATE {files} SET tenant = '', subject = '', doc = '' WHERE tenant = $1 AND subject = $2 AND state = 2`),
	}
	if d.together {
		// A statement reads as of its begin, though it waits for the lock of the thread's row. An insert finds later items all
		// the same. An update or a deletion would not: they stay statements of their own.
		both := func(conflict string) string {
			return q(`WITH t AS (` + touch + `id, version, places), i AS (` + newItem + `t` + conflict + `)
				SELECT version, coalesce((SELECT place FROM i), 0) FROM t`)
		}
		st.touchAndInsert, st.touchAndUpsert = both(asNew), both(over)
	}
	st.itemPages = pagesOf(q, pageOf{
		head: `SELECT t.version, coalesce(i.doc, ''), coalesce(i.id, ''), coalesce(i.created_at, 0), coalesce(i.place, 0), {found}
			FROM {threads} t LEFT JOIN ({rows}) i ON 1 = 1 WHERE t.id = $1`,
		from: `{items}`, columns: `doc, id, created_at, place`, where: `thread_id = $1`, order: []string{"created_at", "place"}, params: 1,
		// A cursor is the place of a live item, or else the last place of a deleted one.
		cursor: `SELECT {order} FROM {items} WHERE thread_id = $1 AND id = {id} UNION ALL
			SELECT {order} FROM {gone} WHERE thread_id = $1 AND id = {id}
				AND NOT EXISTS (SELECT 1 FROM {items} WHERE thread_id = $1 AND id = {id})`,
	})
	for kind, f := range filters {
		place := `SELECT {order} FROM {threads} WHERE id = {id}` + f.cursor + f.where
		page := pageOf{
			head: `SELECT coalesce(t.tenant, ''), coalesce(t.subject, ''), coalesce(t.doc, ''), coalesce(t.id, ''), coalesce(t.created_at, 0), f.found
				FROM (SELECT {found} AS found) f LEFT JOIN ({rows}) t ON 1 = 1`,
			from: `{threads}`, columns: `tenant, subject, doc, id, created_at`, where: `state = 0` + f.where,
			order: []string{"created_at", "id"}, params: f.params, cursor: place,
		}
		st.threadPages[kind] = pagesOf(q, page)

		page.head = `SELECT coalesce(t.id, ''), coalesce(t.version, 0), coalesce(t.created_at, 0), f.found
			FROM (SELECT {found} AS found) f LEFT JOIN ({rows}) t ON 1 = 1`
		page.columns = `id, version, created_at`
		page.params++
		before := fmt.Sprintf("$%d", page.params)
		page.where += ` AND created_at < ` + before + ` AND NOT EXISTS
			(SELECT 1 FROM {items} i WHERE i.thread_id = {threads}.id AND i.created_at >= ` + before + `)`
		st.idlePages[kind] = pagesOf(q, page)

		st.filePages[kind] = pagesOf(q, pageOf{
			head: `SELECT coalesce(t.tenant, ''), coalesce(t.subject, ''), coalesce(t.doc, ''), coalesce(t.id, ''), f.found
				FROM (SELECT {found} AS found) f LEFT JOIN ({rows}) t ON 1 = 1`,
			from: `{files}`, columns: `tenant, subject, doc, id`, where: `state = 0` + f.where,
			order: []string{"id"}, params: f.params, cursor: `SELECT {order} FROM {files} WHERE id = {id}` + f.cursor + f.where,
		})
	}
	return st
}

// filters has the conditions for the kinds of [store.OwnerFilter]. A cursor may be a deleted row. Only a filter for all owners
// accepts an erased one, which has no owner.
var filters = [...]struct {
	where, cursor string
	params        int
}{
	byOwner:  {` AND tenant = $1 AND subject = $2`, ` AND state < 2`, 2}, // rows without an owner have two empty names
	byTenant: {` AND tenant = $1 AND subject <> ''`, ` AND state < 2`, 1},
	byAny:    {``, ``, 0},
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
// one snapshot. The outer SELECT does not sort, because it joins only one row. If the page is empty, the join's row has empty
// columns.
type pageOf struct {
	head, from, columns, where string
	order                      []string // columns
	cursor                     string   // selects the place {order} of the row {id}
	params                     int      // parameters of where; the limit and the cursor's id follow
}

func pagesOf(q func(string) string, p pageOf) (all pages) {
	columns := strings.Join(p.order, ", ")
	for order, by := range map[store.Order][2]string{
		store.NewestFirst: {"<", "DESC"},
		store.OldestFirst: {">", "ASC"},
	} {
		limit, id := fmt.Sprintf("$%d", p.params+1), fmt.Sprintf("$%d", p.params+2)
		cursor := strings.NewReplacer("{order}", columns, "{id}", id).Replace(p.cursor)
		rows := func(after string) string {
			return fmt.Sprintf("SELECT %s FROM %s WHERE %s%s ORDER BY %s %s LIMIT %s",
				p.columns, p.from, p.where, after, strings.Join(p.order, " "+by[1]+", "), by[1], limit)
		}
		text := func(found, rows string) string {
			return q(strings.NewReplacer("{found}", found, "{rows}", rows).Replace(p.head))
		}
		all[order][0] = text("1", rows(""))
		all[order][1] = text("(SELECT count(*) FROM ("+cursor+") c)", rows(fmt.Sprintf(" AND (%s) %s (%s)", columns, by[0], cursor)))
	}
	return all
}
