package sqltables_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/examples/adapt/sqltables"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// oldTables are those that the application has had all along.
const oldTables = `
CREATE TABLE conversations (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	user_id    TEXT    NOT NULL,
	title      TEXT    NOT NULL,
	created_at INTEGER NOT NULL -- seconds since 1970
);
CREATE TABLE messages (
	id              INTEGER PRIMARY KEY AUTOINCREMENT,
	conversation_id INTEGER NOT NULL REFERENCES conversations (id),
	role            TEXT    NOT NULL,
	body            TEXT    NOT NULL,
	created_at      INTEGER NOT NULL
);
CREATE INDEX messages_by_conversation ON messages (conversation_id);`

func dsn(t *testing.T) string {
	return "file:" + filepath.ToSlash(filepath.Join(t.TempDir(), "app.db")) + "?_txlock=immediate&_pragma=foreign_keys(on)" +
		"&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)"
}

// withTables returns an empty database with the old tables and the adapter's.
func withTables(t *testing.T, db *sql.DB) *sql.DB {
	t.Helper()
	t.Cleanup(func() { _ = db.Close() })
	oldCode(t, db, oldTables)
	if err := sqltables.Migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

func openDB(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(t))
	if err != nil {
		t.Fatal(err)
	}
	return withTables(t, db)
}

func open(t *testing.T) store.Store { return sqltables.New(openDB(t)) }

func TestConformance(t *testing.T) {
	storetest.Run(t, open, storetest.WithVersionsRequired())
}

func TestRandomCalls(t *testing.T) {
	s := open(t)
	storetest.Random(t, func(*testing.T) store.Store { return s })
}

func TestRandomCallsInTheStack(t *testing.T) {
	s := store.Wrap(open(t), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	t.Cleanup(func() { _ = store.Close(s) })
	storetest.Random(t, func(*testing.T) store.Store { return s })
}
