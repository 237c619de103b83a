package sqlstore

import (
	"encoding/json"
	"fmt"
	"strings"
)

// dialect has the differences between the texts of the databases.
type dialect struct {
	table func(string) string // the qualified name of a table
	param func(string) string // changes the form of the parameters $1, $2 and so on
	ids   string              // a set of the ids in the parameter $1
	list  func([]string) any  // the value of a parameter with several texts
	self  string              // a text that another table of threads would not have
	// bigint and text are the names of types in CAST.
	bigint, text string
	// asNew and over end the insertion of an item: they keep a present one or replace it, and return the place of what was written.
	asNew, over string
	// groups is a table whose column value has the texts in the parameter $3. lateral joins the {rows} for each row before it.
	groups, lateral string
	// together says that one statement may change several tables.
	together bool
	// mysql is for MySQL and MariaDB. They lack RETURNING, ON CONFLICT, and indexes with a condition or an expression. A comparison of rows
	// is no range of an index.
	mysql bool
}

// standard has what PostgreSQL and SQLite have in common.
var standard = dialect{
	param: func(text string) string { return text }, bigint: "bigint", text: "text",
	asNew: ` ON CONFLICT (thread_id, id) DO NOTHING RETURNING place`,
	over:  ` ON CONFLICT (thread_id, id) DO UPDATE SET created_at = excluded.created_at, doc = excluded.doc RETURNING place`,
	list: func(texts []string) any {
		list, _ := json.Marshal(append([]string{}, texts...)) // strings cannot fail; not null
		return string(list)
	},
}

func sqliteDialect(cfg config) dialect {
	d := standard
	d.table = func(table string) string { return `"` + cfg.prefix + table + `"` }
	d.param = func(text string) string { return strings.ReplaceAll(text, "$", "?") }
	d.ids, d.self = "(SELECT value FROM json_each($1))", "''"
	d.groups, d.lateral = "json_each($3)", "JOIN {grants} g ON g.rowid IN (SELECT g.rowid {rows})"
	return d
}

func postgresDialect(cfg config) dialect {
	d := standard
	d.table, d.together = cfg.qualified, true
	d.ids, d.self = "(SELECT json_array_elements_text($1::text::json))", "'"+cfg.qualified("threads")+"'::regclass::oid::text || '.' || "+timeline
	d.groups, d.lateral = "json_array_elements_text($3::text::json)", "CROSS JOIN LATERAL (SELECT g.* {rows}) g"
	return d
}

// texts is a parameter with several texts. In a statement, ($1) is all of them, and $1.0 is the first. $1.* is one text. In it, zero bytes
// stand before and behind each text. No text has one.
type texts []string

func mysqlDialect(cfg config, on mysqlServer) dialect {
	// Versions go back at another server, but not at another node of a cluster. A restore makes the table anew.
	self := `concat_ws(' ', @@hostname, @@port, @@server_id, (SELECT create_time FROM information_schema.tables
		WHERE table_schema = database() AND table_name = '` + cfg.prefix + `threads'))`
	if on.cluster {
		self = `'` + on.identity + `'`
	}
	return dialect{
		table: cfg.qualified, param: func(text string) string { return text }, ids: "($1)", list: func(t []string) any { return texts(t) },
		self: self, bigint: "SIGNED", text: "BINARY",
		// The thread's row was changed just now, so a new item has its number of places.
		asNew: ` ON DUPLICATE KEY UPDATE place = place; SELECT i.place FROM {items} i JOIN {threads} t ON t.id = i.thread_id
			WHERE i.thread_id = $1 AND i.id = $2 AND i.place = t.places`,
		over: ` ON DUPLICATE KEY UPDATE created_at = VALUES(created_at), doc = VALUES(doc);
			SELECT place FROM {items} WHERE thread_id = $1 AND id = $2`,
		mysql: true,
	}
}

// saving is an INSERT of a row, or an UPDATE of the present one, which is t, if where holds.
type saving struct {
	table, columns, values string
	absent                 string // the values of a deleted row, which where and set make the new one
	set, where, returning  string
}

func (d dialect) save(s saving) string {
	if d.mysql { // a condition for the UPDATE needs a statement of its own
		return fmt.Sprintf(`INSERT INTO %s (%s) VALUES (%s) ON DUPLICATE KEY UPDATE state = state; `, s.table, s.columns, s.absent) +
			d.update(s.table+` AS t`, s.set, `t.id = $1 AND `+s.where, s.returning)
	}
	return fmt.Sprintf(`INSERT INTO %s AS t (%s) VALUES (%s) ON CONFLICT (id) DO UPDATE SET %s WHERE %s RETURNING %s`,
		s.table, s.columns, s.values, s.set, s.where, s.returning)
}

// update returns the columns of a changed row, as they are then.
func (d dialect) update(table, set, where, returning string) string {
	text := fmt.Sprintf(`UPDATE %s SET %s WHERE %s`, table, set, where)
	if d.mysql {
		before := strings.ReplaceAll(returning, `version`, `version + 1`)
		return fmt.Sprintf(`SELECT %s FROM %s WHERE %s FOR UPDATE; %s`, before, table, where, text)
	}
	return text + ` RETURNING ` + returning
}

// delete returns the columns of a deleted row.
func (d dialect) delete(table, where, returning string) string {
	text := fmt.Sprintf(`DELETE FROM %s WHERE %s`, table, where)
	if d.mysql {
		return fmt.Sprintf(`SELECT %s FROM %s WHERE %s FOR UPDATE; %s`, returning, table, where, text)
	}
	return text + ` RETURNING ` + returning
}

// changed ends an UPDATE of several rows, which where finds afterwards, and returns columns of them.
func (d dialect) changed(table, where, columns string) string {
	if d.mysql {
		return fmt.Sprintf(`; SELECT %s FROM %s WHERE %s`, columns, table, where)
	}
	return ` RETURNING ` + columns
}

// byKey returns the rows of a page whose keys are known, and how to find them.
func (d dialect) byKey(keys string, p pageOf) (rows, same string) {
	row := "t"
	if p.from == `{items}` {
		row = "i"
	}
	var conditions []string
	for _, column := range p.keys {
		conditions = append(conditions, row+"."+column+" = k."+column)
	}
	return keys + " k ON 1 = 1 LEFT JOIN " + p.from, strings.Join(conditions, " AND ")
}

// using names the index whose order a listing has. Left alone, MariaDB reads all rows before a cursor too if there are not many.
func (d dialect) using(index string) string {
	if !d.mysql {
		return ``
	}
	return ` FORCE INDEX (` + index + `)`
}

// plain hides a column from all indexes but those with the same expression.
func (d dialect) plain(column string) string {
	if d.mysql { // an index cannot have an expression
		return column
	}
	return column + ` || ''`
}

// deleteOf deletes the rows of the threads that where finds.
func (d dialect) deleteOf(table, where string) string {
	if d.mysql { // for IN it would read the whole table, and lock other owners' rows
		of := strings.NewReplacer("tenant", "t.tenant", "subject", "t.subject", "state", "t.state").Replace(where)
		return fmt.Sprintf(`DELETE r FROM {threads} t STRAIGHT_JOIN %s r ON r.thread_id = t.id WHERE %s`, table, of)
	}
	return fmt.Sprintf(`DELETE FROM %s WHERE thread_id IN (SELECT id FROM {threads} WHERE %s)`, table, where)
}

// onConflict ends an INSERT which replaces these columns of a present row with the key.
func (d dialect) onConflict(key string, columns ...string) string {
	text, value := ` ON CONFLICT (`+key+`) DO UPDATE SET `, `%s = excluded.%[1]s`
	if d.mysql {
		text, value = ` ON DUPLICATE KEY UPDATE `, `%s = VALUES(%[1]s)`
	}
	for n, column := range columns {
		columns[n] = fmt.Sprintf(value, column)
	}
	return text + strings.Join(columns, `, `)
}

// beyond compares columns with a place, which is a value for each, or one query for all.
func (d dialect) beyond(columns, by string, place ...string) string {
	if !d.mysql {
		return fmt.Sprintf(`(%s) %s (%s)`, columns, by, strings.Join(place, `, `))
	}
	// Of a comparison of rows, MySQL makes no range of an index.
	names := strings.Split(columns, `, `)
	text := ``
	for n := len(names) - 1; n >= 0; n-- {
		rest := ``
		if text != `` {
			rest = fmt.Sprintf(` OR %s = %s AND (%s)`, names[n], place[n], text)
		}
		text = fmt.Sprintf(`%s %s %s`, names[n], by, place[n]) + rest
	}
	return `(` + text + `)`
}
