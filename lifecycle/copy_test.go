package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// rowsOf returns the thread and its items as text.
func rowsOf(t *testing.T, s store.Store, id string) string {
	t.Helper()
	th, err := s.LoadThread(t.Context(), id)
	text := fmt.Sprint(store.CodeOf(err), th.JSON(), th.Owner)
	for it, err := range Items(t.Context(), s, id) {
		testenv.Must(t, err)
		text += "\n" + it.JSON().String()
	}
	return text
}

// A random writer changes the source while its thread is copied, and writes to the target fail with unknown outcomes, or are late.
// When the writer has stopped, one more copy makes both equal.
func TestACopiedThreadIsTheSources(t *testing.T) {
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			from, base := memstore.New(), memstore.New()
			write := func() {
				ctx := context.Background()
				switch n := r.IntN(12); {
				case n == 0:
					testenv.Must(t, from.DeleteThread(ctx, "thr_1"))
				case n < 3:
					testenv.Must(t, from.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: at, Title: fmt.Sprint(r.IntN(3))}))
				case n < 5:
					testenv.Must(t, from.DeleteThreadItem(ctx, "thr_1", fmt.Sprint("msg_", r.IntN(6))))
				default:
					it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", r.IntN(6)), at.Add(time.Duration(r.IntN(2))*time.Second), chat.EndOfTurn{}))
					if err := from.SaveItem(ctx, "thr_1", it); err != nil && !errors.Is(err, store.ErrNotFound) {
						t.Error(err)
					}
				}
			}
			for range 10 {
				write()
			}
			to := faulty.New(base)
			to.Inject(faulty.Fault{When: func(c layer.Call) bool { return c.Op.IsWrite() && r.IntN(10) == 0 },
				Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
					if r.IntN(2) == 0 {
						return errors.Join(next(ctx), store.ErrUnavailable)
					}
					return store.ErrUnavailable
				}})
			source := store.Wrap(from, layer.Intercept("writer", layer.InterceptorFunc(
				func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
					for r.IntN(4) == 0 {
						write()
					}
					return next(ctx)
				})))
			_, _, _ = newCopier(source, to).thread(t.Context(), "thr_1", nil)
			quiet := newCopier(from, to)
			for {
				if _, _, err := quiet.thread(t.Context(), "thr_1", nil); err == nil {
					break
				} else if !errors.Is(err, store.ErrConflict) {
					t.Fatal(err)
				}
			}
			if got, want := rowsOf(t, base, "thr_1"), rowsOf(t, from, "thr_1"); got != want {
				t.Fatalf("seed %d: the target has\n%s\nthe source has\n%s", seed, got, want)
			}
		})
	}
}

// A page of items that is read after a write does not belong to the page before it.
func TestACopiedThreadIsOfOneVersion(t *testing.T) {
	for when := range 8 {
		from, to := memstore.New(), memstore.New()
		at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
		testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: at}))
		for i := range 3 * pageSize {
			testenv.Must(t, from.AddThreadItem(t.Context(), "thr_1", testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), at, chat.EndOfTurn{}))))
		}
		states := []string{rowsOf(t, from, "thr_1")}
		source := faulty.New(from)
		source.Inject(faulty.Fault{Skip: when, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			for _, id := range []string{"msg_0", fmt.Sprint("msg_", 3*pageSize-1)} { // in the first page, then in the last
				testenv.Must(t, from.DeleteThreadItem(ctx, "thr_1", id))
				states = append(states, rowsOf(t, from, "thr_1"))
			}
			return next(ctx)
		}})
		if _, _, err := newCopier(source, to).thread(t.Context(), "thr_1", nil); err != nil {
			t.Fatal(err)
		}
		if got := rowsOf(t, to, "thr_1"); !slices.Contains(states, got) {
			t.Errorf("writes before call %d: the target has a mixture, of %d lines", when, strings.Count(got, "\n"))
		}
	}
}
