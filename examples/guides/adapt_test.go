package guides_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/examples/adapt/sqltables"
	"github.com/chatstore/chatstore/store"
)

// oldApplication returns a database as an application without chatstore has it.
func oldApplication(ctx context.Context, dir string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(dir, "app.db"))+"?_txlock=immediate")
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, `
		CREATE TABLE conversations (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT, title TEXT, created_at INTEGER);
		CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, conversation_id INTEGER, role TEXT, body TEXT, created_at INTEGER);
		INSERT INTO conversations (user_id, title, created_at) VALUES ('ada', 'Tea', 1700000000), ('bob', 'Coffee', 1700000001);
		INSERT INTO messages (conversation_id, role, body, created_at) VALUES (1, 'user', 'Green or black?', 1700000002)`)
	return db, err
}

// Example_adapt puts layers around an application's own tables.
func Example_adapt() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "adapt")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db, err := oldApplication(ctx, dir)
	if err != nil {
		panic(err)
	}
	defer db.Close()

	if err := sqltables.Migrate(ctx, db); err != nil {
		panic(err)
	}
	ownerOf := func(userID string) chat.Owner { return chat.Owner{Tenant: "acme", Subject: userID} }
	if err := sqltables.Backfill(ctx, db, ownerOf); err != nil {
		panic(err)
	}
	s := store.Wrap(sqltables.New(db), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	defer store.Close(s)

	ctx = store.WithPrincipal(ctx, store.Principal{Owner: ownerOf("ada")})
	threads, err := s.LoadThreads(ctx, store.ThreadQuery{})
	if err != nil {
		panic(err)
	}
	for _, t := range threads.Data {
		fmt.Println(t.Title)
	}
	// Output: Tea
}
