package sqlstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
)

var ada = chat.Owner{Tenant: "acme", Subject: "ada"}

func TestTheRecommendedStackConformsOverFaulty(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, open opener) {
		t.Parallel()
		spareTheDetector(t, "sqlite", "sqlite_in_memory", "mariadb")
		partly(t, "sqlite", "sqlite_in_memory")
		base := kept{open(t)}
		storetest.Run(t, func(t *testing.T) store.Store {
			partly(t, "Limit", "Order")
			return recommended(t, faulty.New(base))
		})
	})
}

// However a write ends, the stack must return the rows of the database.
func TestUnderFaultsTheStackAgreesWithTheDatabase(t *testing.T) {
	faults := map[string]layer.InterceptorFunc{
		"not applied":          faulty.Fail(store.ErrNotApplied),
		"unknown, not applied": faulty.Fail(store.ErrUnavailable),
		"unknown, but applied": faulty.FailAfter(store.ErrUnavailable),
	}
	onEach(t, func(t *testing.T, open opener) {
		base := open(t)
		for name, fault := range faults {
			t.Run(name, func(t *testing.T) {
				id := "thr_" + name
				failing := faulty.New(base, faulty.WithLongestWrite(time.Minute))
				s := recommended(t, failing)
				ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: ada})
				th := thread(id)
				must(t, s.SaveThread(ctx, th))
				must(t, s.AddThreadItem(ctx, id, item(t, "msg_1")))
				look := func(s store.Store) string {
					th, err1 := s.LoadThread(ctx, id)
					p, err2 := s.LoadThreadItems(ctx, id, store.PageQuery{})
					it, err3 := s.LoadItem(ctx, id, "msg_1")
					return fmt.Sprintf("title %q, %v; %d items, %v; item %q, %v", th.Title, store.CodeOf(err1),
						len(p.Data), store.CodeOf(err2), it.ID, store.CodeOf(err3))
				}
				agree := func(when string) {
					t.Helper()
					if got, want := look(s), look(base); got != want {
						t.Errorf("%s: the stack has %s, the database %s", when, got, want)
					}
				}
				agree("at first")
				for _, w := range []struct {
					op    store.Op
					write func() error
				}{
					{store.OpSaveThread, func() error { th.Title = "new"; return s.SaveThread(ctx, th) }},
					{store.OpAddThreadItem, func() error { return s.AddThreadItem(ctx, id, item(t, "msg_2")) }},
					{store.OpSaveItem, func() error { return s.SaveItem(ctx, id, item(t, "msg_3")) }},
					{store.OpDeleteThreadItem, func() error { return s.DeleteThreadItem(ctx, id, "msg_1") }},
					{store.OpDeleteThread, func() error { return s.DeleteThread(ctx, id) }},
				} {
					failing.Inject(faulty.Fault{Op: w.op, Times: 1, Do: fault})
					if err := w.write(); err == nil {
						t.Errorf("%v did not fail", w.op)
					}
					agree(w.op.String())
				}
			})
		}
	})
}
