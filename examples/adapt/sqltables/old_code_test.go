package sqltables_test

import (
	"context"
	"database/sql"
	"errors"
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
	if len(got) != 1 || got[0].ID != "thr_old_1" || got[0].Title != "Tea" || !got[0].CreatedAt.Equal(time.Unix(1_700_000_000, 0)) {
		t.Fatalf("after Backfill: got %v, want the old conversation", got)
	}
	if got := list("bob"); len(got) != 0 {
		t.Errorf("another user: got %d threads, want none", len(got))
	}
	if diff := cmp.Diff([]string{"msg_old_1", "msg_old_2"}, itemIDs(t, as(t, "ada"), s, "thr_old_1")); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	it, err := s.LoadItem(as(t, "ada"), "thr_old_1", "msg_old_2")
	if err != nil {
		t.Fatal(err)
	}
	if m, ok, err := chat.DecodeItem[chat.AssistantMessage](it); !ok || err != nil || m.Content[0].Text != "Green." {
		t.Errorf("got the item %s, want the assistant's answer", it.JSON())
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

	ctx, thread := t.Context(), "thr_old_1"
	add := func(id string) {
		t.Helper()
		it, err := chat.NewItem(id, time.Unix(1_700_000_002, 0), chat.UserMessage{Content: []chat.UserContent{{Text: "With " + id}}})
		if err == nil {
			err = s.AddThreadItem(ctx, thread, it)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(when string, ids ...string) {
		t.Helper()
		if diff := cmp.Diff(ids, itemIDs(t, ctx, s, thread)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	want("at first", "msg_old_1")

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
	want("from the cache, after old code's writes", "msg_old_1", "milk")
	if diff := cmp.Diff([]string{"msg_old_1", "msg_old_3"}, itemIDs(t, store.WithFresh(ctx), s, thread)); diff != "" {
		t.Errorf("with store.WithFresh (-want +got):\n%s", diff)
	}
	add("lemon")
	want("after a write of chatstore's", "msg_old_1", "msg_old_3", "lemon")

	oldCode(t, db, `DELETE FROM messages WHERE conversation_id = 1`, `DELETE FROM conversations WHERE id = 1`)
	if _, err := base.LoadThread(ctx, thread); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a conversation that old code deleted: got error %v, want %v", err, store.ErrNotFound)
	}
	err := base.SaveThread(ctx, chat.Thread{ID: thread, CreatedAt: time.Unix(1_700_000_003, 0), Owner: ownerOf("bob")})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("another user takes its id: got error %v, want %v", err, store.ErrConflict)
	}
}
