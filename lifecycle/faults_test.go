package lifecycle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// small saves two threads of ada, one of bob's, their attachments, and an upload without a message.
func small(t *testing.T, s store.Store) {
	t.Helper()
	for i, o := range []chat.Owner{ada, bob, ada} {
		id := fmt.Sprint("thr_", i)
		testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, Title: "Tea", CreatedAt: noon.Add(time.Duration(i) * time.Second), Owner: o}))
		send(t, s, id, "msg_1", upload(t, s, fmt.Sprint("atc_", i), "a.txt", o))
		send(t, s, id, "msg_2")
	}
	upload(t, s, "atc_unsent", "a.txt", ada)
}

// operation is a call that is repeated after a failure.
type operation struct {
	run   func(ctx context.Context, s store.Store) error
	empty bool // it begins with an empty store
	// result is what the undisturbed call leaves, and the call after a failure too.
	result func(t *testing.T, base store.Store) string
}

func pruning(rule lifecycle.Option) func(context.Context, store.Store) error {
	hold := lifecycle.WithHold(func(_ context.Context, th chat.Thread) (bool, error) { return th.ID == "thr_1", nil })
	return func(ctx context.Context, s store.Store) error {
		_, err := lifecycle.Prune(ctx, s, store.AnyOwner(), rule, hold)
		return err
	}
}

func operations(t *testing.T) map[string]operation {
	from := memstore.New()
	small(t, from)
	file := exported(t, from)
	var out bytes.Buffer
	return map[string]operation{
		"Export": {run: func(ctx context.Context, s store.Store) error {
			out.Reset()
			_, err := lifecycle.Export(ctx, &out, s, store.AnyOwner())
			if err != nil { // what was written is refused
				_, bad := lifecycle.Import(context.WithoutCancel(ctx), memstore.New(), bytes.NewReader(out.Bytes()))
				if !errors.Is(bad, store.ErrInvalid) {
					t.Errorf("the file of an export that failed: %v", bad)
				}
			}
			return err
		}, result: func(t *testing.T, base store.Store) string {
			to := memstore.New()
			testenv.Value(lifecycle.Import(t.Context(), to, bytes.NewReader(out.Bytes())))(t)
			return dump(t, base) + dump(t, to)
		}},
		"Import": {empty: true, run: func(ctx context.Context, s store.Store) error {
			_, err := lifecycle.Import(ctx, s, strings.NewReader(file))
			return err
		}, result: dump},
		"Erase": {run: func(ctx context.Context, s store.Store) error {
			_, err := lifecycle.Erase(ctx, s, ada)
			return err
		}, result: func(t *testing.T, base store.Store) string {
			err := base.SaveThread(t.Context(), chat.Thread{ID: "thr_0", CreatedAt: noon, Owner: ada})
			return fmt.Sprint(dump(t, base), errors.Is(err, store.ErrConflict))
		}},
		"Prune":        {run: pruning(lifecycle.WithInactive(time.Hour)), result: dump},
		"Prune newest": {run: pruning(lifecycle.WithNewest(1)), result: dump},
		"PruneAttachments": {run: func(ctx context.Context, s store.Store) error {
			_, err := lifecycle.PruneAttachments(ctx, s, store.AnyOwner(), time.Hour)
			return err
		}, result: dump},
		"Fork": {run: func(ctx context.Context, s store.Store) error {
			_, err := lifecycle.Fork(store.WithPrincipal(ctx, store.Principal{Owner: bob}), s, "thr_0", "")
			return err
		}, result: func(t *testing.T, base store.Store) string {
			// Forks that are not complete stay locked.
			var active int
			for th, err := range lifecycle.Threads(t.Context(), base, store.OwnedBy(bob)) {
				testenv.Must(t, err)
				n := 0
				for _, err := range lifecycle.Items(t.Context(), base, th.ID) {
					testenv.Must(t, err)
					n++
				}
				if th.Status.Type == chat.StatusActive {
					active++
					if n != 2 {
						t.Errorf("an active thread has %d items", n)
					}
				}
			}
			// A call whose answer to the last write was lost deletes its fork, so there is one, and bob's own thread.
			return fmt.Sprint(active, " active")
		}},
	}
}

// unsteady is a base of which one call of a capability fails: the one that counts n down to zero.
type unsteady struct {
	*memstore.Store
	n      *int
	before bool // it fails before the call is made, else after
}

func attempt[T any](u unsteady, call func() (T, error)) (T, error) {
	*u.n--
	var zero T
	if *u.n == 0 && u.before {
		return zero, store.ErrUnavailable
	}
	v, err := call()
	if *u.n == 0 {
		return zero, store.ErrUnavailable
	}
	return v, err
}

func (u unsteady) ListAttachments(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
	return attempt(u, func() (store.Page[chat.Attachment], error) { return u.Store.ListAttachments(ctx, q) })
}

func (u unsteady) EraseOwner(ctx context.Context, o chat.Owner) (driver.Erased, error) {
	return attempt(u, func() (driver.Erased, error) { return u.Store.EraseOwner(ctx, o) })
}

func (u unsteady) InactiveThreads(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[driver.ThreadVersion], error) {
	return attempt(u, func() (store.Page[driver.ThreadVersion], error) { return u.Store.InactiveThreads(ctx, before, q) })
}

func TestEachOperationGoesOnAfterACapabilityFailed(t *testing.T) {
	for name, op := range operations(t) {
		want, calls := "", 0
		for _, before := range []bool{true, false} {
			for k, failed := 0, true; failed; k++ { // the first round is undisturbed
				synctest.Test(t, func(t *testing.T) {
					n := k
					base := unsteady{memstore.New(), &n, before}
					if !op.empty {
						small(t, base)
					}
					err := op.run(t.Context(), base)
					if failed = k == 0 || n <= 0; k == 0 {
						testenv.Must(t, err)
						calls = -n
						want = op.result(t, base)
						return
					}
					if failed != errors.Is(err, store.ErrUnavailable) {
						t.Errorf("%s: call %d of %d: %v", name, k, calls, err)
					}
					n = -1
					testenv.Must(t, op.run(t.Context(), base))
					if got := op.result(t, base); got != want && name != "Fork" {
						t.Errorf("%s: call %d, failed before %v: left\n%s\nwant\n%s", name, k, before, got, want)
					}
				})
			}
		}
		if uses := map[string]bool{"Export": true, "Erase": true, "Prune": true, "PruneAttachments": true}; uses[name] != (calls > 0) {
			t.Errorf("%s: %d calls of capabilities", name, calls)
		}
	}
}

// Each call of the base fails in turn: it is not made, or it is made and its answer is lost, or the context ends. After that, the same
// call of lifecycle leaves what it would have left at once.
func TestEachOperationGoesOnAfterEachFailure(t *testing.T) {
	for name, op := range operations(t) {
		for kind, do := range map[string]func(cancel func()) layer.InterceptorFunc{
			"not made":    func(func()) layer.InterceptorFunc { return faulty.Fail(store.ErrUnavailable) },
			"answer lost": func(func()) layer.InterceptorFunc { return faulty.FailAfter(store.ErrUnavailable) },
			"cancelled": func(cancel func()) layer.InterceptorFunc {
				return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
					cancel()
					return next(ctx)
				}
			},
		} {
			want := ""
			for k, failed := -1, true; failed; k++ { // the first round is undisturbed
				synctest.Test(t, func(t *testing.T) {
					base := memstore.New()
					if !op.empty {
						small(t, base)
					}
					s := faulty.New(base)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if k < 0 {
						testenv.Must(t, op.run(ctx, s))
						want = op.result(t, base)
						return
					}
					s.Inject(faulty.Fault{Skip: k, Times: 1, Do: do(cancel)})
					err := op.run(ctx, s)
					failed = s.Total() > k // the call was made
					if failed && err == nil && kind != "cancelled" && !strings.HasPrefix(name, "Fork") {
						t.Errorf("%s: call %d %s, and no error", name, k, kind)
					}
					s.Reset()
					if err != nil {
						testenv.Must(t, op.run(t.Context(), s))
					}
					if got := op.result(t, base); got != want {
						t.Errorf("%s: call %d %s (%v): left\n%s\nwant\n%s", name, k, kind, err, got, want)
					}
				})
			}
		}
	}
}
