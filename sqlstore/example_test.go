package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/store"
)

func ExampleOpenSQLite() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	ctx := context.Background()
	s, err := sqlstore.OpenSQLite(ctx, filepath.Join(dir, "chat.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = s.Close() }()

	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	thread := chat.Thread{ID: "thr_1", Title: "Night trains", CreatedAt: created, Owner: chat.Owner{Tenant: "acme", Subject: "ada"}}
	if err := s.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), thread); err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		item, err := chat.NewItem(fmt.Sprintf("msg_%d", i), created.Add(time.Duration(i)*time.Second), chat.EndOfTurn{})
		if err != nil {
			log.Fatal(err)
		}
		if err := s.AddThreadItem(ctx, thread.ID, item); err != nil {
			log.Fatal(err)
		}
	}
	page, err := s.LoadThreadItems(ctx, thread.ID, store.PageQuery{Limit: 2})
	fmt.Println(page.Data[0].ID, page.Data[1].ID, page.HasMore, page.After, err)

	thread.Owner.Subject = "bob"
	err = s.SaveThread(ctx, thread)
	fmt.Println(err, errors.Is(err, store.ErrConflict))
	// Output:
	// msg_2 msg_1 true msg_1 <nil>
	// save_thread: conflict: thread "thr_1" true
}

// A program that has a pool of its own shares it with the Store.
func ExampleNewSQLite() {
	ctx := context.Background()
	pool, err := sqlitex.NewPool("app.db", sqlitex.PoolOptions{PrepareConn: func(c *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(c, "PRAGMA foreign_keys = on", nil)
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	s, err := sqlstore.NewSQLite(ctx, pool)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = s.Close() }()
}

func ExampleOpenPostgres() {
	ctx := context.Background()
	s, err := sqlstore.OpenPostgres(ctx, os.Getenv("DATABASE_URL"), sqlstore.WithSchema("chat"), sqlstore.WithIDs(store.LongIDs{}))
	if err != nil {
		log.Fatal(err)
	}
	stack := store.Wrap(s, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	defer func() { _ = store.Close(stack) }()
}

// If the program itself may not create tables, migrate during the deployment.
func ExampleMigratePostgres() {
	ctx := context.Background()
	if err := sqlstore.MigratePostgres(ctx, os.Getenv("ADMIN_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
	s, err := sqlstore.OpenPostgres(ctx, os.Getenv("DATABASE_URL"), sqlstore.WithoutMigration())
	if errors.Is(err, sqlstore.ErrSchema) {
		log.Fatal("deploy first: ", err)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = s.Close() }()
}
