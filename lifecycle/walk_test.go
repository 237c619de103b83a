package lifecycle_test

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

func length[T any](t *testing.T, rows iter.Seq2[T, error]) (n int) {
	t.Helper()
	for _, err := range rows {
		testenv.Must(t, err)
		n++
	}
	return n
}

// A walk neither takes another caller's page nor fills a cache.
func TestWalksReadTheBaseItself(t *testing.T) {
	base := memstore.New()
	for i := range 250 {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: noon, Owner: ada}))
		it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), noon, chat.EndOfTurn{}))
		testenv.Must(t, base.AddThreadItem(t.Context(), "thr_0", it))
		a := testenv.OrPanic(chat.NewAttachment(fmt.Sprint("atc_", i), chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))
		testenv.Must(t, base.SaveAttachment(t.Context(), a))
	}
	pages := 0
	s := store.Wrap(base, layer.Intercept("spy", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op == store.OpLoadThreads || c.Op == store.OpLoadThreadItems {
				pages++
			}
			if h := layer.HintsFor(ctx, c.Op); !h.Fresh() || !h.NoStore() {
				t.Errorf("%v: fresh %v, no store %v", c.Op, h.Fresh(), h.NoStore())
			}
			return next(ctx)
		})))
	if n := length(t, lifecycle.Threads(t.Context(), s, store.OwnedBy(ada))); n != 250 {
		t.Errorf("%d threads", n)
	}
	if n := length(t, lifecycle.Items(t.Context(), s, "thr_0")); n != 250 {
		t.Errorf("%d items", n)
	}
	if n := length(t, lifecycle.Items(t.Context(), s, "thr_missing")); n != 0 {
		t.Errorf("%d items of a missing thread", n)
	}
	if n := length(t, lifecycle.Attachments(t.Context(), s, store.OwnedBy(chat.Owner{}))); n != 250 {
		t.Errorf("%d attachments", n)
	}
	if pages != 3+3+1 { // attachments are no calls of the Store
		t.Errorf("%d pages", pages)
	}
}

// A thread on the edge of a page gets another CreatedAt during the walk, and is perhaps deleted then. No other thread is missed.
func TestAWalkMissesNoThreadIfItsCursorMoves(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		for _, deleted := range []bool{false, true} {
			base := memstore.New()
			for i := range 250 {
				testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: noon.Add(time.Duration(i) * time.Second), Owner: ada}))
			}
			s := faulty.New(base)
			s.Inject(faulty.Fault{Op: store.OpLoadThreads, Skip: 1, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				for _, id := range []string{"thr_99", "thr_98"} {
					testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: noon.Add(by), Owner: ada}))
					if deleted {
						testenv.Must(t, base.DeleteThread(t.Context(), id))
					}
				}
				return next(ctx)
			}})
			found := map[string]int{}
			for th, err := range lifecycle.Threads(t.Context(), s, store.AnyOwner()) {
				testenv.Must(t, err)
				found[th.ID]++
			}
			for i := range 250 {
				if id := fmt.Sprint("thr_", i); found[id] != 1 && i != 98 && i != 99 || found[id] == 0 {
					t.Errorf("moved by %v, deleted %v: %s was found %d times", by, deleted, id, found[id])
				}
			}
		}
	}
}

// All rows of a page are deleted behind the walk.
func TestAWalkGoesOnBehindAPageOfDeletedRows(t *testing.T) {
	base := memstore.New()
	for i := range 250 {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: noon.Add(time.Duration(i) * time.Second)}))
	}
	n := 0
	for th, err := range lifecycle.Threads(t.Context(), base, store.AnyOwner()) {
		testenv.Must(t, err)
		testenv.Must(t, base.DeleteThread(t.Context(), th.ID))
		n++
	}
	if n != 250 {
		t.Errorf("found %d threads", n)
	}
}

func TestAWalkMissesNoItemIfItsCursorMoves(t *testing.T) {
	base := memstore.New()
	testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
	item := func(i int, at time.Time) chat.Item {
		return testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), at, chat.EndOfTurn{}))
	}
	for i := range 250 {
		testenv.Must(t, base.AddThreadItem(t.Context(), "thr_1", item(i, noon.Add(time.Duration(i)*time.Second))))
	}
	s := faulty.New(base)
	s.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Skip: 1, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		testenv.Must(t, base.SaveItem(t.Context(), "thr_1", item(99, noon.Add(time.Hour))))
		return next(ctx)
	}})
	seen := map[string]bool{}
	for it, err := range lifecycle.Items(t.Context(), s, "thr_1") {
		testenv.Must(t, err)
		seen[it.ID] = true
	}
	if len(seen) != 250 {
		t.Errorf("%d of 250 items", len(seen))
	}
}
