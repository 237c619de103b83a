package sqltables_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/examples/adapt/sqltables"
	"github.com/chatstore/chatstore/store"
)

// ownerOf is the application's rule: all users of the old tables are in one tenant.
func ownerOf(userID string) chat.Owner { return chat.Owner{Tenant: "acme", Subject: userID} }

func as(t *testing.T, userID string) context.Context {
	return store.WithPrincipal(t.Context(), store.Principal{Owner: ownerOf(userID)})
}

// oldCode runs statements as code that knows nothing of chatstore does.
func oldCode(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func backfill(t *testing.T, db *sql.DB) {
	t.Helper()
	if err := sqltables.Backfill(t.Context(), db, ownerOf); err != nil {
		t.Fatal(err)
	}
}

const (
	oldConversation = `INSERT INTO conversations (user_id, title, created_at) VALUES ('ada', 'Tea', 1700000000)`
	oldMessage      = `INSERT INTO messages (conversation_id, role, body, created_at) VALUES (1, 'user', 'Green or black?', 1700000001)`
	oldAnswer       = `INSERT INTO messages (conversation_id, role, body, created_at) VALUES (1, 'assistant', 'Green.', 1700000001)`
)

// oldThread and oldItem return the ids that Backfill gave to rows of the old tables.
func oldThread(t *testing.T, db *sql.DB, key int) string {
	return idOf(t, db, `SELECT id FROM chat_threads WHERE key = ?`, key)
}

func oldItem(t *testing.T, db *sql.DB, key int) string {
	return idOf(t, db, `SELECT id FROM chat_items WHERE key = ?`, key)
}

func idOf(t *testing.T, db *sql.DB, query string, key int) (id string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, key).Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

func version(t *testing.T, db *sql.DB, threadID string) (v int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SELECT version FROM chat_threads WHERE id = ?`, threadID).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func message(t *testing.T, id, text string) chat.Item {
	t.Helper()
	it, err := chat.NewItem(id, time.Unix(1_700_000_002, 0), chat.UserMessage{Content: []chat.UserContent{{Text: text}}})
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// itemIDs returns the ids of a thread's items, oldest first.
func itemIDs(t *testing.T, ctx context.Context, s store.Store, threadID string) (ids []string) {
	t.Helper()
	p, err := s.LoadThreadItems(ctx, threadID, store.PageQuery{Order: store.OldestFirst})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range p.Data {
		ids = append(ids, it.ID)
	}
	return ids
}

func TestBackfillShowsOldRowsToTheirOwners(t *testing.T) {
	db := openDB(t)
	s := store.Wrap(sqltables.New(db), authz.New(authz.OwnerOnly()))
	oldCode(t, db, oldConversation, oldMessage, oldAnswer)

	list := func(userID string) []chat.Thread {
		p, err := s.LoadThreads(as(t, userID), store.ThreadQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return p.Data
	}
	if got := list("ada"); len(got) != 0 {
		t.Errorf("before Backfill: got %d threads, want none", len(got))
	}
	backfill(t, db)
	got := list("ada")
	if len(got) != 1 || got[0].Title != "Tea" || !got[0].CreatedAt.Equal(time.Unix(1_700_000_000, 0)) {
		t.Fatalf("after Backfill: got %v, want the old conversation", got)
	}
	if got := list("bob"); len(got) != 0 {
		t.Errorf("another user: got %d threads, want none", len(got))
	}
	thread := got[0].ID
	if diff := cmp.Diff([]string{oldItem(t, db, 1), oldItem(t, db, 2)}, itemIDs(t, as(t, "ada"), s, thread)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	it, err := s.LoadItem(as(t, "ada"), thread, oldItem(t, db, 2))
	if err != nil {
		t.Fatal(err)
	}
	if m, ok, err := chat.DecodeItem[chat.AssistantMessage](it); !ok || err != nil || m.Content[0].Text != "Green." {
		t.Errorf("got the item %s, want the assistant's answer", it.JSON())
	}
}

// guesses returns a database with two conversations of a message each, after Backfill. A user who knows its ids may guess those
// that Backfill will give the same old rows in another database.
func guesses(t *testing.T) *sql.DB {
	db := openDB(t)
	oldCode(t, db, oldConversation, oldConversation, oldMessage, oldMessage)
	backfill(t, db)
	return db
}

func TestBackfillNeverWritesIntoASavedThread(t *testing.T) {
	db := openDB(t)
	s := store.Wrap(sqltables.New(db), authz.New(authz.OwnerOnly()))
	eve, taken := as(t, "eve"), oldThread(t, guesses(t), 2)
	err := s.SaveThread(eve, chat.Thread{ID: taken, Title: "Mine", CreatedAt: time.Unix(1_700_000_000, 0)}) // it has the key 1
	if err != nil {
		t.Fatal(err)
	}
	oldCode(t, db, oldConversation,
		`INSERT INTO messages (conversation_id, role, body, created_at) VALUES (2, 'user', 'My PIN is 1234', 1700000001)`)
	backfill(t, db)

	if ids := itemIDs(t, eve, s, taken); len(ids) != 0 {
		t.Errorf("got the items %v in another user's thread, want none", ids)
	}
	if th, err := s.LoadThread(eve, taken); err != nil || th.Title != "Mine" || version(t, db, taken) != 1 {
		t.Errorf("got the thread %q of version %d and error %v, want it as it was saved", th.Title, version(t, db, taken), err)
	}
	if th, err := s.LoadThread(as(t, "ada"), oldThread(t, db, 2)); err != nil || th.Title != "Tea" {
		t.Errorf("got the old conversation %q and error %v, want it under another id", th.Title, err)
	}
}

func TestBackfillNeverWritesIntoASavedItem(t *testing.T) {
	db := openDB(t)
	s := sqltables.New(db)
	oldCode(t, db, oldConversation)
	backfill(t, db)
	thread, taken := oldThread(t, db, 1), oldItem(t, guesses(t), 2)
	if err := s.AddThreadItem(t.Context(), thread, message(t, taken, "Mine")); err != nil { // it has the key 1
		t.Fatal(err)
	}
	oldCode(t, db, oldMessage)
	backfill(t, db)

	it, err := s.LoadItem(t.Context(), thread, taken)
	if m, _, _ := chat.DecodeItem[chat.UserMessage](it); err != nil || m.Content[0].Text != "Mine" {
		t.Errorf("got the item %s and error %v, want it as it was saved", it.JSON(), err)
	}
	if ids := itemIDs(t, t.Context(), s, thread); len(ids) != 2 {
		t.Errorf("got the items %v, want the saved one and the old message", ids)
	}
}

func TestBackfillTakesEachRowOnce(t *testing.T) {
	db := openDB(t)
	s := sqltables.New(db)
	oldCode(t, db, oldConversation, oldMessage)
	backfill(t, db)
	thread := oldThread(t, db, 1)
	want := itemIDs(t, t.Context(), s, thread)
	for range 2 {
		backfill(t, db)
	}
	if diff := cmp.Diff(want, itemIDs(t, t.Context(), s, thread)); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if got := oldThread(t, db, 1); got != thread || version(t, db, thread) != 1 {
		t.Errorf("got the id %s and version %d, want %s and 1", got, version(t, db, thread), thread)
	}
}

// TestBackfillCountsAVersion has the cache learn of a message that old code inserted.
func TestBackfillCountsAVersion(t *testing.T) {
	db := openDB(t)
	s := store.Wrap(sqltables.New(db), cache.New())
	t.Cleanup(func() { _ = store.Close(s) })
	oldCode(t, db, oldConversation, oldMessage)
	backfill(t, db)
	thread := oldThread(t, db, 1)
	if got := itemIDs(t, t.Context(), s, thread); len(got) != 1 { // now cached
		t.Fatalf("got the items %v, want one", got)
	}
	oldCode(t, db, oldAnswer, oldAnswer)
	backfill(t, db)
	if got := version(t, db, thread); got != 2 {
		t.Errorf("got version %d, want 2: one more for the whole transaction", got)
	}
	if err := s.AddThreadItem(t.Context(), thread, message(t, "milk", "With milk")); err != nil {
		t.Fatal(err)
	}
	want := []string{oldItem(t, db, 1), oldItem(t, db, 2), oldItem(t, db, 3), "milk"}
	if diff := cmp.Diff(want, itemIDs(t, t.Context(), s, thread)); diff != "" {
		t.Errorf("after the cache's next write (-want +got):\n%s", diff)
	}
}

// TestBackfillReadsAllRowsBeforeItWrites: in many databases, a connection cannot do both at once.
func TestBackfillReadsAllRowsBeforeItWrites(t *testing.T) {
	reading, wrote := "", ""
	db := withTables(t, sql.OpenDB(connector{dsn(t), func(name string, do func() error) error {
		switch {
		case strings.HasPrefix(name, "SELECT"):
			reading = name
		case name == "close the rows":
			reading = ""
		case reading != "":
			wrote = name + " while reading " + reading
		}
		return do()
	}}))
	oldCode(t, db, oldConversation, oldConversation, oldMessage, oldAnswer)
	backfill(t, db)
	if wrote != "" {
		t.Error(wrote)
	}
}

func TestBackfillRefusesTheZeroOwner(t *testing.T) {
	db := openDB(t)
	oldCode(t, db, oldConversation)
	if err := sqltables.Backfill(t.Context(), db, func(string) chat.Owner { return chat.Owner{} }); err == nil {
		t.Error("got no error, want one that names the user")
	}
}

// TestOldCodeGoesOn has both write to one thread, under a cache.
func TestOldCodeGoesOn(t *testing.T) {
	db := openDB(t)
	base := sqltables.New(db)
	s := store.Wrap(base, cache.New())
	oldCode(t, db, oldConversation, oldMessage)
	backfill(t, db)

	ctx, thread, first := t.Context(), oldThread(t, db, 1), oldItem(t, db, 1)
	add := func(id string) {
		t.Helper()
		if err := s.AddThreadItem(ctx, thread, message(t, id, "With "+id)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, ids ...string) {
		t.Helper()
		if diff := cmp.Diff(ids, itemIDs(t, ctx, s, thread)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	want("at first", first)

	// Old code reads what chatstore wrote.
	add("milk")
	var role, text string
	if err := db.QueryRowContext(ctx, `SELECT role, body FROM messages WHERE id = 2`).Scan(&role, &text); err != nil {
		t.Fatal(err)
	}
	if role != "user" || text != "With milk" {
		t.Errorf("old code reads %q by %q, want the message", text, role)
	}

	// The cache does not see what old code writes until its own next write finds another version.
	oldCode(t, db, oldAnswer, `DELETE FROM messages WHERE id = 2`)
	backfill(t, db)
	want("from the cache, after old code's writes", first, "milk")
	if diff := cmp.Diff([]string{first, oldItem(t, db, 3)}, itemIDs(t, store.WithFresh(ctx), s, thread)); diff != "" {
		t.Errorf("with store.WithFresh (-want +got):\n%s", diff)
	}
	add("lemon")
	want("after a write of chatstore's", first, oldItem(t, db, 3), "lemon")

	oldCode(t, db, `DELETE FROM messages WHERE conversation_id = 1`, `DELETE FROM conversations WHERE id = 1`)
	if _, err := base.LoadThread(ctx, thread); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a conversation that old code deleted: got error %v, want %v", err, store.ErrNotFound)
	}
	err := base.SaveThread(ctx, chat.Thread{ID: thread, CreatedAt: time.Unix(1_700_000_003, 0), Owner: ownerOf("bob")})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("another user takes its id: got error %v, want %v", err, store.ErrConflict)
	}
}

// What old code deletes, a condition notices, and a page goes on where it stood.
func TestConditionsAndCursorsSeeWhatOldCodeDeletes(t *testing.T) {
	db := openDB(t)
	s := sqltables.New(db)
	oldCode(t, db, oldConversation, oldMessage, oldAnswer)
	backfill(t, db)
	thread := oldThread(t, db, 1)
	ctx, read := store.WithVersions(t.Context())
	items := itemIDs(t, ctx, s, thread)
	version, ok := read.Of(thread)

	oldCode(t, db, `DELETE FROM messages WHERE id = 1`)
	err := s.AddThreadItem(store.IfVersion(ctx, thread, version), thread, message(t, "msg_1", "And then?"))
	if !ok || !errors.Is(err, store.ErrConflict) {
		t.Errorf("a write under the version before: got error %v, want %v", err, store.ErrConflict)
	}
	behind := store.PageQuery{After: items[0], Order: store.OldestFirst}
	if p, err := s.LoadThreadItems(ctx, thread, behind); err != nil || len(p.Data) != 1 || p.Data[0].ID != items[1] {
		t.Errorf("behind the deleted message: got %d items and error %v, want the answer", len(p.Data), err)
	}

	oldCode(t, db, `DELETE FROM messages WHERE conversation_id = 1`, `DELETE FROM conversations WHERE id = 1`)
	if _, err := s.LoadThreadItems(ctx, thread, behind); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("behind an item of a deleted thread: got error %v, want %v", err, store.ErrNotFound)
	}
	q := store.ThreadQuery{PageQuery: store.PageQuery{After: thread}, Owner: store.OwnedBy(ownerOf("ada"))}
	if p, err := s.LoadThreads(ctx, q); err != nil || len(p.Data) != 0 {
		t.Errorf("behind the deleted thread: got %d threads and error %v, want none", len(p.Data), err)
	}
}
