package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/mysqltest"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
	"github.com/chatstore/chatstore/store"
)

// catalog has the queries that find what the writers of a database share, and texts that make them share more.
type catalog struct {
	open opener
	// counters returns the names of all sequences and automatic numbers, but for the number of an applied migration.
	counters string
	// locks returns how many locks exist that only their name ties to anything. It is "" if the engine has one writer at a time.
	locks string
	// shared makes all threads share something. {threads} is their table.
	shared map[string]string
}

func catalogs() map[string]catalog {
	const onWrite = `; CREATE TRIGGER share AFTER INSERT OR UPDATE ON {threads} EXECUTE FUNCTION share()`
	function := func(body string) string {
		return `CREATE FUNCTION share() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + body + `; RETURN NULL; END $$` + onWrite
	}
	return map[string]catalog{
		"sqlite": {
			open:     sqliteFile,
			counters: `SELECT coalesce(group_concat(name), '') FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' AND name NOT LIKE '%migrations'`,
			shared:   map[string]string{"a counter": `CREATE TABLE total (n INTEGER PRIMARY KEY AUTOINCREMENT)`},
		},
		"mariadb": {
			open: func(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
				return mysqlOn(mysqltest.Shared(t).DSN(t))(t, opts...)
			},
			counters: `SELECT coalesce(group_concat(table_name), '') FROM information_schema.columns
				WHERE table_schema = database() AND extra LIKE '%auto_increment%' AND table_name NOT LIKE '%migrations'`,
			locks: `SELECT 0`, // a lock by name is exclusive: one writer would wait for the other
			shared: map[string]string{
				"a counter": `ALTER TABLE {threads} ADD n bigint NOT NULL AUTO_INCREMENT UNIQUE`,
				"a row": `CREATE TABLE total ENGINE = InnoDB SELECT 0 AS n;
					CREATE TRIGGER share AFTER UPDATE ON {threads} FOR EACH ROW UPDATE total SET n = n + 1`,
			},
		},
		"postgres": {
			open: func(t testing.TB, opts ...sqlstore.Option) *sqlstore.Store {
				return openPG(t, pgtest.Shared(t).DSN(t), opts...)
			},
			counters: `SELECT coalesce(string_agg(relname, ','), '') FROM pg_class WHERE relkind = 'S' AND relname NOT LIKE '%migrations\_id\_seq'`,
			locks: `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
			shared: map[string]string{
				"a counter":     `ALTER TABLE {threads} ADD n bigint GENERATED ALWAYS AS IDENTITY`,
				"a row":         `CREATE TABLE total AS SELECT 0 AS n; ` + function(`UPDATE total SET n = n + 1`),
				"a table":       function(`LOCK TABLE {threads} IN SHARE ROW EXCLUSIVE MODE`),
				"a lock":        function(`PERFORM pg_advisory_xact_lock(1)`),
				"a shared lock": function(`PERFORM pg_advisory_xact_lock_shared(1)`),
			},
		},
	}
}

// hotWrites returns a write of each kind. They change rows that contain the name, which hotRows has made.
func hotWrites(t *testing.T, s *sqlstore.Store, name string) map[string]func(context.Context) error {
	owner, id, file := chat.Owner{Tenant: "acme", Subject: name}, "thr_"+name, attachment(t, "atc_"+name)
	mode := func(m store.SaveMode, f func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error { return f(store.WithSaveMode(ctx, m)) }
	}
	saveThread := func(ctx context.Context) error { return s.SaveThread(ctx, titled(id, "new")) }
	saveItem := func(ctx context.Context) error { return s.SaveItem(ctx, id, item(t, "msg_0")) }
	return map[string]func(context.Context) error{
		"new thread": mode(store.InsertOnly, func(ctx context.Context) error {
			return s.SaveThread(ctx, chat.Thread{ID: "new_" + name, CreatedAt: noon, Owner: owner})
		}),
		"save thread":       saveThread,
		"update thread":     mode(store.UpdateOnly, saveThread),
		"delete thread":     func(ctx context.Context) error { return s.DeleteThread(ctx, id) },
		"add item":          func(ctx context.Context) error { return s.AddThreadItem(ctx, id, item(t, "msg_1")) },
		"save item":         saveItem,
		"update item":       mode(store.UpdateOnly, saveItem),
		"delete item":       func(ctx context.Context) error { return s.DeleteThreadItem(ctx, id, "msg_0") },
		"new attachment":    func(ctx context.Context) error { return s.SaveAttachment(ctx, attachment(t, "new_"+name)) },
		"update attachment": mode(store.UpdateOnly, func(ctx context.Context) error { return s.SaveAttachment(ctx, file) }),
		"swap attachment":   func(ctx context.Context) error { return s.SwapAttachment(ctx, file.JSON(), file) },
		"delete attachment": func(ctx context.Context) error { return s.DeleteAttachment(ctx, file.ID) },
		"grant":             func(ctx context.Context) error { return s.Grant(ctx, hotGrant(name, "all")) },
		"revoke":            func(ctx context.Context) error { return s.Revoke(ctx, id, hotGrant(name, name).To) },
		"erase owner":       func(ctx context.Context) error { return errOf(s.EraseOwner(ctx, owner)) },
	}
}

// hotRows makes a thread with an item, a grant and an attachment.
func hotRows(t *testing.T, s *sqlstore.Store, name string) {
	t.Helper()
	ctx := t.Context()
	th, file := thread("thr_"+name), attachment(t, "atc_"+name)
	th.Owner = chat.Owner{Tenant: "acme", Subject: name}
	file.Owner = th.Owner
	must(t, errors.Join(s.SaveThread(ctx, th), s.AddThreadItem(ctx, th.ID, item(t, "msg_0")), s.SaveAttachment(ctx, file),
		s.Grant(ctx, hotGrant(name, name))))
}

func hotGrant(name, to string) sharing.Grant {
	return sharing.Grant{
		ThreadID: "thr_" + name, To: sharing.Grantee{Tenant: "acme", Group: "group_" + to}, Role: sharing.Viewer,
		By: chat.Owner{Tenant: "acme", Subject: name},
	}
}

// sharedBy returns what writers of different rows share: counters, and what one holds until its COMMIT and another waits for. The text
// may make them share more.
func sharedBy(t *testing.T, s *sqlstore.Store, c catalog, text string) string {
	t.Helper()
	for kind := range hotWrites(t, s, "") {
		for n := range 2 {
			hotRows(t, s, fmt.Sprint(kind, " ", n))
		}
	}
	if text != "" {
		must(t, sqlstore.Exec(s, strings.ReplaceAll(text, "{threads}", sqlstore.Table(s, "threads"))))
	}
	var counters string
	must(t, sqlstore.Query(s, c.counters, &counters))
	if counters != "" || c.locks == "" {
		return counters
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, release, failed := make(chan bool), make(chan bool), make(chan error, hotWriters)
	held := sqlstore.BeforeCommit(s, func(ctx context.Context) error {
		select {
		case begun <- true:
		case <-release: // it is tried again
		case <-ctx.Done():
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	writes := map[string]func(context.Context) error{}
	for kind := range hotWrites(t, s, "") {
		for n := range 2 {
			name := fmt.Sprint(kind, " ", n)
			writes[name] = hotWrites(t, held, name)[kind]
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for name, write := range writes {
		wg.Go(func() {
			if err := write(ctx); err != nil {
				failed <- fmt.Errorf("%s: %w (cause %w)", name, err, causeOf(err))
			}
		})
	}
	for range writes {
		select {
		case <-begun:
		case err := <-failed:
			return err.Error()
		}
	}
	locks := 0
	must(t, sqlstore.Query(s, c.locks, &locks)) // all transactions are open
	close(release)
	wg.Wait()
	select {
	case err := <-failed:
		return err.Error()
	default:
	}
	if locks > 0 {
		return fmt.Sprint(locks, " locks")
	}
	return ""
}

// hotWriters is at least the number of writers of sharedBy.
const hotWriters = 40

// Writers of different threads, attachments and owners share no row, lock or counter. Two transactions of each kind of write are open
// at once, with all their statements done.
// What COMMIT shares is checked by TestNoWriteIsAcknowledgedThatTheSynchronousStandbyLacks. A SQLite file has one writer at a time, so
// only its counters are looked for.
func TestNoHotPathHasAGlobalRowSequenceOrLock(t *testing.T) { // not parallel: it takes a third of the server's connections
	for name, c := range catalogs() {
		t.Run(name, func(t *testing.T) {
			most := sqlstore.WithMaxConns(hotWriters)
			if shared := sharedBy(t, c.open(t, most), c, ""); shared != "" {
				t.Errorf("writers of different rows share %s", shared)
			}
			for what, text := range c.shared {
				s := c.open(t, most, sqlstore.WithLockTimeout(50*time.Millisecond))
				shared := sharedBy(t, s, c, text)
				t.Logf("with %s that all share: %s", what, shared)
				if shared == "" {
					t.Errorf("all threads share %s, which the test did not notice", what)
				}
			}
		})
	}
}
