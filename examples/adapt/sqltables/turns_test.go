package sqltables_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/examples/customstore"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// TestReadsOfATurn counts the reads that reach the base in 50 turns on one thread, and compares them with the table on the page.
// In a turn, a chat server loads the thread, adds the user's message, loads the newest 20 items for the model, and adds the answer.
func TestReadsOfATurn(t *testing.T) {
	guard := authz.New(authz.OwnerOnly(), authz.ShareBelow())
	silent := layer.Intercept("silent", layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		return next(callctx.WithoutVersionRecorder(ctx))
	}))
	unversioned := func(*testing.T) store.Store { return store.Wrap(customstore.New(), silent) }
	table := "| layers around the base | base reads a turn |\n|---|---|\n"
	for _, tt := range []struct {
		name   string // in the page's table
		base   func(*testing.T) store.Store
		layers []store.Middleware
	}{
		{"none", unversioned, nil},
		{"authz", unversioned, []store.Middleware{guard}},
		{"authz and cache, the base reports no versions", unversioned, []store.Middleware{guard, cache.New()}},
		{"authz and cache, `cache.WithSoleWriter()`: your promise that nothing else writes", unversioned,
			[]store.Middleware{guard, cache.New(cache.WithSoleWriter())}},
		{"authz and cache, the base reports versions", open, []store.Middleware{guard, cache.New()}},
	} {
		const turns = 50
		reads := 0
		count := func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if !c.Op.IsWrite() {
				reads++
			}
			return next(ctx)
		}
		counted := layer.Intercept("count", layer.InterceptorFunc(count))
		s := store.Wrap(tt.base(t), append(tt.layers, counted)...)
		ctx := as(t, "ada")
		err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Unix(1_700_000_000, 0), Owner: ownerOf("ada")})
		reads = 0
		for n := range turns {
			if err == nil {
				err = turn(ctx, s, "thr_1", n)
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		table += fmt.Sprintf("| %s | %v |\n", tt.name, float64(reads)/turns)
		if err := store.Close(s); err != nil {
			t.Error(err)
		}
	}
	t.Logf("measured:\n%s", table)
	page, err := os.ReadFile("../../../docs/adapt.md")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(string(page), "\r\n", "\n"); !strings.Contains(text, "\n\n"+table+"\n") {
		t.Error("docs/adapt.md has another table than was measured")
	}
}

// turn makes a turn on a thread: the nth.
func turn(ctx context.Context, s store.Store, threadID string, n int) error {
	at := time.Unix(1_700_000_001+int64(n), 0)
	if _, err := s.LoadThread(ctx, threadID); err != nil {
		return err
	}
	message, err := chat.NewItem(fmt.Sprintf("msg_%d_user", n), at, chat.UserMessage{Content: []chat.UserContent{{Text: "And then?"}}})
	if err != nil {
		return err
	}
	if err := s.AddThreadItem(ctx, threadID, message); err != nil {
		return err
	}
	if _, err := s.LoadThreadItems(ctx, threadID, store.PageQuery{Limit: 20}); err != nil {
		return err
	}
	said := chat.AssistantMessage{Content: []chat.AssistantContent{{Text: "Then …"}}}
	answer, err := chat.NewItem(fmt.Sprintf("msg_%d_assistant", n), at, said)
	if err != nil {
		return err
	}
	return s.AddThreadItem(ctx, threadID, answer)
}
