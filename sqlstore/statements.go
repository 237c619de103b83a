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

// statements has the texts of all statements. The databases differ in what a [dialect] has. A write is a fixed list of
// statements, which are sent together. Each decides by the rows that it finds. The caller then looks at what they returned, and
// commits or rolls back.
type statements struct {
	loadThread   string
	upsertThread string
	insertThread string
	updateThread string
	deleteThread string
	deleteItems  string
	deleteGone   string
	deleteGrants string // "" if a trigger does it
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
	goneThreads    pages
	goneFiles      pages
	versionsOf     string

	eraseThreads  string
	eraseItems    string
	eraseGone     string
	eraseGrants   string // "" if a trigger does it
	forgetThreads string
	eraseFiles    string
	forgetFiles   string

	list func([]string) any // the parameter that has several texts
	grantStatements
}

// mayOwn is the rule of ownership for replacing a row: a save with the zero Owner keeps the stored one.
const mayOwn = `($2 = '' AND $3 = '' OR {row}tenant = $2 AND {row}subject = $3)`

func statementsFor(d dialect) statements {
	names := strings.NewReplacer("{threads}", d.table("threads"), "{items}", d.table("items"), "{gone}", d.table("gone"),
		"{files}", d.table("attachments"), "{grants}", d.table("grants"), "{ids}", d.ids, "{self}", d.self, "{bigint}", d.bigint, "{text}", d.text)
	q := func(text string) string { return d.param(names.Replace(text)) }
	own := func(row string) string { return strings.ReplaceAll(mayOwn, "{row}", row) }
	const (
		// A change of an item first locks the thread's row, so versions and places are in the order of commits.
		touched = `version = version + 1, places = places + 1`
		isLive  = `id = $1 AND state = 0`
		// The place among items of one time comes from the thread's row.
		newItem = `INSERT INTO {items} (thread_id, id, created_at, doc, place)
			SELECT id, $2, CAST($3 AS {bigint}), $4, places FROM `
		item = `thread_id = $1 AND id = $2`
		// SQLite uses the index threads_deleted only for exactly its condition.
		noLonger = `tenant = $1 AND subject = $2 AND state > 0 AND subject <> ''`
		hadText  = `id, CASE doc WHEN '' THEN 0 ELSE 1 END`
		ended    = `state = 1, doc = ''`
	)
	saveThread := func(where string) string {
		return q(d.save(saving{
			table: `{threads}`, columns: `id, tenant, subject, created_at, doc, version, places, state`,
			values: `$1, $2, $3, $4, $5, 1, 0, 0`, absent: `$1, $2, $3, $4, '', 0, 0, 1`,
			set: `created_at = $4, doc = $5, version = t.version + 1, state = 0`, where: where + own("t."), returning: `version`,
		}))
	}
	saveFile := func(where string) string {
		return q(d.save(saving{
			table: `{files}`, columns: `id, tenant, subject, doc, state`, values: `$1, $2, $3, $4, 0`, absent: `$1, $2, $3, '', 1`,
			set: `doc = $4, state = 0`, where: where + own("t."), returning: `state`,
		}))
	}
	st := statements{
		grantStatements: grantStatementsFor(d, q),
		list:            d.list,

		loadThread:   q(`SELECT tenant, subject, state, version, doc FROM {threads} WHERE id = $1`),
		upsertThread: saveThread(`t.state < 2 AND `),
		insertThread: saveThread(`t.state = 1 AND `),
		updateThread: q(d.update(`{threads}`, `created_at = $4, doc = $5, version = version + 1`, isLive+` AND `+own(""), `version`)),
		deleteThread: q(d.update(`{threads}`, ended+`, version = version + 1`, isLive, `version`)),
		deleteItems:  q(`DELETE FROM {items} WHERE thread_id = $1`),
		deleteGone:   q(`DELETE FROM {gone} WHERE thread_id = $1`),

		touchThread: q(d.update(`{threads}`, touched, isLive, `version`)),
		insertItem:  q(newItem + `{threads} WHERE ` + isLive + d.asNew),
		upsertItem:  q(newItem + `{threads} WHERE ` + isLive + d.over),
		updateItem:  q(d.update(`{items}`, `created_at = $3, doc = $4`, item, `place`)),
		keepPlace: q(`INSERT INTO {gone} (thread_id, id, created_at, place)
			SELECT thread_id, id, created_at, place FROM {items} WHERE ` + item + d.onConflict(`thread_id, id`, `created_at`, `place`)),
		deleteItem: q(d.delete(`{items}`, item, `place`)),
		loadItem: q(`SELECT t.version, coalesce(i.doc, '') FROM {threads} t LEFT JOIN {items} i ON i.thread_id = t.id AND i.id = $2
			WHERE t.id = $1`),

		upsertFile: saveFile(`t.state < 2 AND `),
		insertFile: saveFile(`t.state = 1 AND `),
		updateFile: q(d.update(`{files}`, `doc = $4`, isLive+` AND `+own(""), `state`)),
		swapFile:   q(d.update(`{files}`, `doc = $4`, isLive+` AND doc = $5 AND `+own(""), `state`)),
		loadFile:   q(`SELECT tenant, subject, state, doc FROM {files} WHERE id = $1`),
		deleteFile: q(`UPDATE {files} SET ` + ended + ` WHERE ` + isLive),

		versionsOf: q(`SELECT s.name, coalesce(t.id, ''), coalesce(t.version, 0) FROM (SELECT {self} AS name) s
			LEFT JOIN {threads} t ON t.id IN {ids}`),

		// One statement takes live and deleted rows, so none slips through by changing its state. Names and texts stay until
		// the owner is forgotten: they tell which rows were live, and whose items to delete.
		eraseThreads: q(`UPDATE {threads} SET version = version + CASE state WHEN 0 THEN 1 ELSE 0 END, state = 2
			WHERE tenant = $1 AND subject = $2 AND state = 0 OR ` + noLonger + ` AND state = 1` + d.changed(`{threads}`, noLonger+` AND state = 2`, hadText)),
		eraseItems:    q(d.deleteOf(`{items}`, noLonger+` AND state = 2`)),
		eraseGone:     q(d.deleteOf(`{gone}`, noLonger+` AND state = 2`)),
		forgetThreads: q(`UPDATE {threads} SET tenant = '', subject = '', doc = '' WHERE ` + noLonger + ` AND state = 2`),
		eraseFiles: q(`UPDATE {files} SET state = 2 WHERE tenant = $1 AND subject = $2 AND state IN (0, 1)` +
			d.changed(`{files}`, `tenant = $1 AND subject = $2 AND state = 2`, hadText)),
		forgetFiles: q(`UPDATE {files} SET tenant = '', subject = '', doc = '' WHERE tenant = $1 AND subject = $2 AND state = 2`),
	}
	if d.mysql { // which may refuse triggers, to users without the right SUPER
		st.deleteGrants = q(`DELETE FROM {grants} WHERE thread_id = $1`)
		st.eraseGrants = q(d.deleteOf(`{grants}`, noLonger+` AND state = 2`))
	}
	if d.together {
		// A statement reads as of its begin, though it waits for the lock of the thread's row. An insert finds later items all
		// the same. An update or a deletion would not: they stay statements of their own.
		both := func(conflict string) string {
			return q(`WITH t AS (` + d.update(`{threads}`, touched, isLive, `id, version, places`) + `), i AS (` + newItem + `t` + conflict + `)
				SELECT version, coalesce((SELECT place FROM i), 0) FROM t`)
		}
		st.touchAndInsert, st.touchAndUpsert = both(d.asNew), both(d.over)
	}
	st.itemPages = d.pagesOf(q, pageOf{
		head: `SELECT t.version, coalesce(i.doc, ''), coalesce(i.id, ''), coalesce(i.created_at, 0), coalesce(i.place, 0), {found}
			FROM {threads} t LEFT JOIN {rows} i ON {same} WHERE t.id = $1`, keys: []string{"thread_id", "id"},
		from: `{items}`, columns: `doc, id, created_at, place`, where: `thread_id = $1`, order: []string{"created_at", "place"}, params: 1, index: "by_time",
		// A cursor is the place of a live item, or else the last place of a deleted one.
		cursor: `SELECT {order} FROM {items} WHERE thread_id = $1 AND id = {id} UNION ALL
			SELECT {order} FROM {gone} WHERE thread_id = $1 AND id = {id}
				AND NOT EXISTS (SELECT 1 FROM {items} WHERE thread_id = $1 AND id = {id})`,
		key: `coalesce((SELECT {column} FROM {items} WHERE thread_id = $1 AND id = {id}), (SELECT {column} FROM {gone} WHERE thread_id = $1 AND id = {id}))`,
	})
	gone := func(table, created string) pages {
		return d.pagesOf(q, pageOf{
			head: `SELECT coalesce(t.tenant, ''), coalesce(t.subject, ''), coalesce(t.id, ''), coalesce(t.created_at, 0), coalesce(t.state, 0), f.found
				FROM (SELECT {found} AS found) f LEFT JOIN {rows} t ON {same}`,
			from: table, columns: `tenant, subject, id, ` + created + ` AS created_at, state`, where: `state > 0`,
			order: []string{"id"}, index: "PRIMARY", cursor: `SELECT CAST({id} AS {text}) AS id`,
		})
	}
	st.goneThreads, st.goneFiles = gone(`{threads}`, `created_at`), gone(`{files}`, `0`)
	for kind, f := range filters {
		place := `SELECT {order} FROM {threads} WHERE id = {id}` + f.cursor + f.where
		page := pageOf{
			head: `SELECT coalesce(t.tenant, ''), coalesce(t.subject, ''), coalesce(t.doc, ''), coalesce(t.id, ''), coalesce(t.created_at, 0), f.found
				FROM (SELECT {found} AS found) f LEFT JOIN {rows} t ON {same}`,
			from: `{threads}`, columns: `tenant, subject, doc, id, created_at`, keys: []string{"id"}, where: `state = 0` + f.where,
			order: []string{"created_at", "id"}, params: f.params, cursor: place, index: f.index,
		}
		st.threadPages[kind] = d.pagesOf(q, page)

		page.head = `SELECT coalesce(t.id, ''), coalesce(t.version, 0), coalesce(t.created_at, 0), coalesce(t.newest, t.created_at, 0), f.found
			FROM (SELECT {found} AS found) f LEFT JOIN {rows} t ON {same}`
		page.params++
		page.keys = nil
		// It reads only the end of an index. For EXISTS, PostgreSQL may read all items into a hash table. For max, MariaDB reads all
		// items of a thread.
		page.columns = `id, version, created_at, (SELECT i.created_at FROM {items} i WHERE i.thread_id = {threads}.id
			ORDER BY i.created_at DESC, i.place DESC LIMIT 1) AS newest`
		page.where += fmt.Sprintf(` AND created_at < $%d`, page.params)
		st.idlePages[kind] = d.pagesOf(q, page)

		st.filePages[kind] = d.pagesOf(q, pageOf{
			head: `SELECT coalesce(t.tenant, ''), coalesce(t.subject, ''), coalesce(t.doc, ''), coalesce(t.id, ''), f.found
				FROM (SELECT {found} AS found) f LEFT JOIN {rows} t ON {same}`,
			from: `{files}`, columns: `tenant, subject, doc, id`, keys: []string{"id"}, where: `state = 0` + f.where,
			order: []string{"id"}, params: f.params, index: f.files, cursor: `SELECT {order} FROM {files} WHERE id = {id}` + f.cursor + f.where,
		})
	}
	return st
}

// filters has the conditions for the kinds of [store.OwnerFilter]. A cursor may be a deleted row. Only a filter for all owners
// accepts an erased one, which has no owner.
var filters = [...]struct {
	where, cursor string
	params        int
	index, files  string // for MySQL: of threads and of attachments
}{
	byOwner:  {` AND tenant = $1 AND subject = $2`, ` AND state < 2`, 2, `by_owner`, `by_owner`}, // rows without an owner have two empty names
	byTenant: {` AND tenant = $1 AND subject <> ''`, ` AND state < 2`, 1, `by_tenant`, `by_tenant`},
	byAny:    {``, ``, 0, `by_time`, `PRIMARY`},
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

// pages has the statements of a listing.
type pages struct {
	texts [2][2]string // by order, without and with a cursor
	// place looks up the place of a cursor before, if it is not "". The place has order columns. For a proxy that spreads rows over
	// servers, such as Vitess, a cursor within the page's statement would be too much.
	place string
	order int
}

// pageOf is a listing. One statement reads the page, whether the cursor exists ({found}), and the thread's version, all from
// one snapshot. The outer SELECT does not sort, because it joins only one row. If the page is empty, the join's row has empty
// columns.
type pageOf struct {
	head, from, columns, where string
	order                      []string // columns
	cursor                     string   // selects the place {order} of the row {id}
	key                        string   // a {column} of that place, where the statement must have it: it has the thread's version
	params                     int      // parameters of where; the limit and the cursor's id follow
	index                      string   // what MySQL must use
	// MySQL finds the keys of rows first, because a table in between that has documents would be on its disk. The head calls the rows t,
	// or i for items.
	keys []string
}

func (d dialect) pagesOf(q func(string) string, p pageOf) pages {
	columns := strings.Join(p.order, ", ")
	param := func(n int) string { return fmt.Sprintf("$%d", p.params+n) }
	cursor := func(id string) string { return strings.NewReplacer("{order}", columns, "{id}", id).Replace(p.cursor) }
	all := pages{order: len(p.order)}
	found, place := "(SELECT count(*) FROM ("+cursor(param(2))+") c)", []string{cursor(param(2))}
	if d.mysql {
		place = nil
		for n, column := range p.order {
			value := param(3 + n)
			if p.key != "" {
				value = strings.NewReplacer("{column}", column, "{id}", param(2)).Replace(p.key)
			}
			place = append(place, value)
		}
		if p.key == "" {
			all.place, found = q(cursor(param(1))), "1"
		}
	}
	for order, by := range map[store.Order][2]string{
		store.NewestFirst: {"<", "DESC"},
		store.OldestFirst: {">", "ASC"},
	} {
		text := func(found, after string) string {
			selected, same := p.columns, "1 = 1"
			if d.mysql && p.keys != nil {
				selected = strings.Join(p.keys, ", ")
			}
			rows := fmt.Sprintf("(SELECT %s FROM %s WHERE %s%s ORDER BY %s %s LIMIT %s)",
				selected, p.from+d.using(p.index), p.where, after, strings.Join(p.order, " "+by[1]+", "), by[1], param(1))
			if d.mysql && p.keys != nil {
				rows, same = d.byKey(rows, p)
			}
			return q(strings.NewReplacer("{found}", found, "{rows}", rows, "{same}", same).Replace(p.head))
		}
		all.texts[order][0] = text("1", "")
		all.texts[order][1] = text(found, " AND "+d.beyond(columns, by[0], place...))
	}
	return all
}
