package sqlstore_test

import (
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
		spareTheDetector(t, "sqlite", "sqlite_in_memory")
		partly(t, "sqlite", "sqlite_in_memory")
		base := kept{open(t)}
		storetest.Run(t, func(t *testing.T) store.Store {
			partly(t, "Limit", "Order")
			return recommended(t, faulty.New(base))
		})
	})
}

// Whatever becomes of a write, the stack shows what the database has.
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
				agree := func(when string) {
					t.Helper()
					for _, load := range []func(s store.Store) (any, error){
						func(s store.Store) (any, error) {
							th, err := s.LoadThread(ctx, id)
							return th.Title, err
						},
						func(s store.Store) (any, error) {
							p, err := s.LoadThreadItems(ctx, id, store.PageQuery{})
							return len(p.Data), err
						},
						func(s store.Store) (any, error) {
							it, err := s.LoadItem(ctx, id, "msg_1")
							return it.ID, err
						},
					} {
						got, gotErr := load(s)
						want, wantErr := load(base)
						if got != want || store.CodeOf(gotErr) != store.CodeOf(wantErr) {
							t.Errorf("%s: the stack has %v, %v, the database %v, %v", when, got, gotErr, want, wantErr)
						}
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
