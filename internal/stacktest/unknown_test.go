package stacktest_test

// These tests check what several layers together promise about writes with an unknown outcome, and about hidden information.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

func titled(id, title string) chat.Thread {
	return chat.Thread{ID: id, Title: title, CreatedAt: noon}
}

func endOfTurn(id string) chat.Item { return testenv.OrPanic(chat.NewItem(id, noon, chat.EndOfTurn{})) }

// title returns the title of thr_1, or the code of the error.
func title(ctx context.Context, s store.Store) string {
	th, err := s.LoadThread(ctx, "thr_1")
	if err != nil {
		return store.CodeOf(err).String()
	}
	return th.Title
}

// mapCtx is a context of a type that is not comparable.
type mapCtx struct {
	context.Context
	_ map[string]string
}

func TestAContextOfAnyTypeWillDo(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, authz.New(authz.OwnerOnly()))
	ctx := mapCtx{store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Subject: "a"}}), nil}
	must(t, s.SaveThread(ctx, titled("thr_1", "x")))
	if got := title(ctx, s); got != "x" {
		t.Errorf("the title is %q, want x", got)
	}
}

func TestAWriteThatIsGivenUpWhileItRunsIsHeldBack(t *testing.T) {
	for _, c := range []struct {
		name        string
		bound, runs time.Duration
		ignores     bool // the base ignores its context
	}{
		{"over a base with the bound 0", 0, 3 * time.Second, false},
		{"by a base that notices its context late", time.Second, 3 * time.Minute, false},
		{"by a base that exceeds its bound", time.Second, 3 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := memstore.New()
				f := faulty.New(base, faulty.WithLongestWrite(c.bound))
				f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1,
					Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
						time.Sleep(c.runs)
						if c.ignores {
							ctx = context.WithoutCancel(ctx)
						}
						return next(ctx)
					}})
				impatient := layer.Intercept("impatient", layer.InterceptorFunc(
					func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
						done := make(chan error, 1)
						go func() { done <- next(ctx) }()
						select {
						case err := <-done:
							return err
						case <-time.After(500 * time.Millisecond):
							return context.DeadlineExceeded
						}
					}))
				wire := bus.Local()
				s := store.Wrap(f, cache.New(cache.WithTTL(0), cache.WithBus(wire)), impatient)
				other := store.Wrap(f, cache.New(cache.WithTTL(0), cache.WithBus(wire)))
				defer store.Close(s, other)
				must(t, base.SaveThread(t.Context(), titled("thr_1", "old")))
				if err := s.SaveThread(t.Context(), titled("thr_1", "new")); store.IsDefinite(err) {
					t.Errorf("the save ended with %v, want an unknown outcome", err)
				}
				time.Sleep(c.runs - time.Second)
				title(t.Context(), s)
				title(t.Context(), other)
				time.Sleep(2 * time.Second) // now the write has taken effect, or never will
				for name, s := range map[string]store.Store{"the writing cache": s, "the other cache": other} {
					if got, want := title(t.Context(), s), title(t.Context(), base); got != want {
						t.Errorf("%s returns %q, the base has %q", name, got, want)
					}
				}
			})
		})
	}
}

func TestASuccessThatIsDeniedIsNotDefinite(t *testing.T) {
	base := memstore.New()
	wire := bus.Local()
	post := layer.Intercept("hedge", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		err := next(ctx)
		if !c.Op.IsWrite() {
			return err
		}
		return cmp.Or(next(ctx), err) // makes the same write again, which then conflicts
	}))
	a := store.Wrap(base, cache.New(cache.WithBus(wire)), post)
	b := store.Wrap(base, cache.New(cache.WithBus(wire)))
	defer store.Close(a, b)
	must(t, base.SaveThread(t.Context(), titled("thr_1", "x")))
	n := func(s store.Store) int {
		p, err := s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{})
		must(t, err)
		return len(p.Data)
	}
	must(t, base.AddThreadItem(t.Context(), "thr_1", endOfTurn("msg_0")))
	n(b)
	if err := a.AddThreadItem(t.Context(), "thr_1", endOfTurn("msg_1")); store.IsDefinite(err) {
		t.Errorf("the add was made, but ended with the definite error %v", err)
	}
	if n(b) != n(base) {
		t.Errorf("the other cache lists %d items, the base has %d", n(b), n(base))
	}
}

func TestWritesThroughAClosedCacheAreAnnounced(t *testing.T) {
	base := memstore.New()
	wire := bus.Local()
	a := store.Wrap(base, cache.New(cache.WithBus(wire)))
	b := store.Wrap(base, cache.New(cache.WithBus(wire)))
	defer store.Close(b)
	must(t, a.SaveThread(t.Context(), titled("thr_1", "old")))
	title(t.Context(), b)
	must(t, store.Close(a))
	must(t, a.SaveThread(t.Context(), titled("thr_1", "new")))
	if got := title(t.Context(), b); got != "new" {
		t.Errorf("the other cache returns %q after a write through a closed cache, want new", got)
	}
}

func TestAFreshReadThatContradictsAnEntryDropsIt(t *testing.T) {
	ctx, fresh := t.Context(), store.WithFresh(t.Context())
	// inCache returns a base, which has a thread with one item, and a cache around it.
	inCache := func(t *testing.T, below ...store.Middleware) (*memstore.Store, store.Store) {
		base := memstore.New()
		s := store.Wrap(base, append([]store.Middleware{cache.New()}, below...)...)
		t.Cleanup(func() { must(t, store.Close(s)) })
		must(t, base.SaveThread(ctx, titled("thr_1", "old")))
		must(t, base.AddThreadItem(ctx, "thr_1", endOfTurn("msg_1")))
		return base, s
	}
	t.Run("window kept though thread is gone", func(t *testing.T) {
		base, s := inCache(t, spy.Unversioned)
		s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
		must(t, base.DeleteThread(ctx, "thr_1"))
		_, err := s.LoadThread(fresh, "thr_1")
		p, _ := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
		if len(p.Data) > 0 {
			t.Errorf("after a fresh LoadThread with the error %v, the cache lists %d items of the deleted thread", err, len(p.Data))
		}
	})
	t.Run("item kept though the fresh page is empty", func(t *testing.T) {
		base, s := inCache(t, spy.Unversioned)
		s.LoadItem(ctx, "thr_1", "msg_1")
		must(t, base.DeleteThread(ctx, "thr_1"))
		p, _ := s.LoadThreadItems(fresh, "thr_1", store.PageQuery{})
		_, err := s.LoadItem(ctx, "thr_1", "msg_1")
		if err == nil {
			t.Errorf("after a fresh page of %d items, the cache still has the item", len(p.Data))
		}
	})
	t.Run("fresh+nostore", func(t *testing.T) {
		base, s := inCache(t)
		title(ctx, s)
		must(t, base.SaveThread(ctx, titled("thr_1", "new")))
		r1 := title(store.WithNoStore(fresh), s)
		r2 := title(ctx, s)
		if r1 != r2 {
			t.Errorf("a fresh, no-store read returns %q, the next read %q", r1, r2)
		}
	})
}

// multiBus delivers the changes that the base announces, with their stamps. Of the changes that caches publish, it delivers only
// those with an unknown outcome.
type multiBus struct {
	mu sync.Mutex
	fs []func(bus.Change)
}

func (b *multiBus) Publish(_ context.Context, c bus.Change) error {
	if c.Write == 0 {
		b.tell(c)
	}
	return nil
}

func (b *multiBus) tell(c bus.Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.fs {
		f(c)
	}
}

func (b *multiBus) Subscribe(_ context.Context, f func(bus.Change), c func(bool)) func() {
	b.mu.Lock()
	b.fs = append(b.fs, f)
	b.mu.Unlock()
	c(true)
	return func() {}
}

// announcing returns base with a layer that announces its writes, as a database trigger does.
func (b *multiBus) announcing(base store.Store) store.Store {
	return store.Wrap(base, layer.Intercept("trigger", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if err == nil && c.Op.IsWrite() {
				s := bus.StampFrom(ctx)
				b.tell(bus.Change{ThreadID: c.ThreadID, AttachmentID: c.AttachmentID, Origin: s.Origin, Write: s.Write})
			}
			return err
		})))
}

func TestTheStampOfAWriteIsNoOtherWrites(t *testing.T) {
	ctx := t.Context()
	wire := &multiBus{}
	tb := wire.announcing(memstore.New())
	side := layer.Intercept("side", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		if c.Op == store.OpSaveThread && c.ThreadID == "thr_2" {
			must(t, tb.SaveThread(ctx, titled("thr_1", "new")))
		}
		return next(ctx)
	}))
	s := store.Wrap(tb, cache.New(cache.WithBus(wire)), side)
	defer store.Close(s)
	must(t, s.SaveThread(ctx, titled("thr_1", "old")))
	title(ctx, s)
	must(t, s.SaveThread(ctx, titled("thr_2", "x")))
	if got := title(ctx, s); got != "new" {
		t.Errorf("the cache returns %q, want new: the bus delivered that write", got)
	}
}

func TestARecorderHearsNothingAfterItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := faulty.New(memstore.New())
		f.Inject(faulty.Fault{Op: store.OpSaveThread,
			Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				time.Sleep(time.Second)
				err := next(context.WithoutCancel(ctx))
				layer.ReportUnsettled(ctx)
				return err
			}})
		impatient := layer.Intercept("impatient", layer.InterceptorFunc(
			func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				go func() { _ = next(ctx) }()
				time.Sleep(time.Millisecond)
				return store.ErrUnavailable
			}))
		s := store.Wrap(f, impatient)
		returned := false
		hear := func() {
			if returned {
				t.Error("a recorder was called after the call had returned")
			}
		}
		ctx := callctx.WithVersionRecorder(t.Context(), func(string, uint64, uint64) { hear() })
		_ = s.SaveThread(spy.WithUnsettledRecorder(ctx, func(<-chan struct{}) { hear() }), titled("thr_1", "x"))
		returned = true
		time.Sleep(2 * time.Second)
	})
}

func TestVersionsDoNotTellAStrangerWhatWasDeleted(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, authz.New(authz.OwnerOnly()))
	a := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Subject: "a"}})
	var got []string
	b := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Subject: "b"}})
	b = callctx.WithVersionRecorder(b, func(id string, x, y uint64) { got = append(got, fmt.Sprint(id, " ", x, "->", y)) })
	must(t, s.SaveThread(a, titled("thr_1", "x")))
	for range 5 {
		must(t, s.SaveThread(a, titled("thr_1", "x")))
	}
	live := fmt.Sprint(s.SaveThread(b, titled("thr_1", "y")), got)
	must(t, s.DeleteThread(a, "thr_1"))
	if gone := fmt.Sprint(s.SaveThread(b, titled("thr_1", "y")), got); gone != live {
		t.Errorf("a stranger's save ends with %s for an existing thread, and with %s for a deleted one", live, gone)
	}
}

// TestNoReadIsOlderThanTheBaseWhateverBecomesOfWrites makes random calls through two caches, one after the other. Some writes are
// late or lost, within the bound. Every read must equal the base at that time.
func TestNoReadIsOlderThanTheBaseWhateverBecomesOfWrites(t *testing.T) {
	for _, mode := range []string{"local", "trigger"} {
		for seed := range uint64(tries(8, 2)) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				r := rand.New(rand.NewPCG(seed, 1))
				mem := memstore.New()
				const bound = 10 * time.Second
				var base store.Store = mem
				var wire bus.Bus = bus.Local()
				if mode == "trigger" {
					mb := &multiBus{}
					wire, base = mb, mb.announcing(mem)
				}
				var wg sync.WaitGroup
				f := faulty.New(base, faulty.WithLongestWrite(bound))
				rr := rand.New(rand.NewPCG(seed, 2))
				var rmu sync.Mutex
				f.Inject(faulty.Fault{When: func(c layer.Call) bool { return c.Op.IsWrite() }, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
					rmu.Lock()
					k := rr.IntN(8)
					d := time.Duration(rr.Int64N(int64(bound)))
					rmu.Unlock()
					switch k {
					case 0:
						return faulty.FailAfter(nil)(ctx, c, next)
					case 1:
						ctx := context.WithoutCancel(ctx)
						wg.Go(func() { time.Sleep(d); _ = next(ctx) })
						return store.ErrUnavailable
					case 2:
						return store.ErrNotApplied
					case 3:
						return store.ErrUnavailable
					}
					return next(ctx)
				}})
				retry := layer.Intercept("retry", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
					var err error
					for range 3 {
						if err = next(ctx); err == nil || !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrNotApplied) {
							return err
						}
					}
					return err
				}))
				opts := []cache.Option{cache.WithBus(wire), cache.WithWindow(5), cache.WithTTL(0)}
				a := store.Wrap(f, cache.New(opts...), retry)
				b := store.Wrap(f, cache.New(opts...), singleflight.New())
				stacks := []store.Store{a, b}
				var log []string
				for i := range 400 {
					s := stacks[r.IntN(2)]
					id := fmt.Sprintf("thr_%d", r.IntN(2))
					it := testenv.OrPanic(chat.NewItem(fmt.Sprintf("msg_%d", r.IntN(9)), noon.Add(time.Duration(r.IntN(6))*time.Minute),
						chat.SDKHiddenContext{Content: fmt.Sprint(i)}))
					var what string
					switch r.IntN(14) {
					case 0, 1:
						what = fmt.Sprint("save ", id, s.SaveThread(ctx, titled(id, fmt.Sprint(i))))
					case 2:
						if r.IntN(3) == 0 {
							what = fmt.Sprint("del ", id, s.DeleteThread(ctx, id))
						}
					case 3, 4:
						what = fmt.Sprint("add ", id, it.ID, it.CreatedAt.Minute(), s.AddThreadItem(ctx, id, it))
					case 5:
						what = fmt.Sprint("saveitem ", id, it.ID, it.CreatedAt.Minute(), s.SaveItem(ctx, id, it))
					case 6:
						what = fmt.Sprint("delitem ", id, it.ID, s.DeleteThreadItem(ctx, id, it.ID))
					case 7:
						d := time.Duration(r.Int64N(int64(5 * time.Second)))
						time.Sleep(d)
						synctest.Wait()
						what = fmt.Sprint("sleep ", d)
					case 8:
						if r.IntN(4) == 0 {
							time.Sleep(3 * bound)
							what = "long sleep"
						}
					}
					if what != "" {
						log = append(log, what)
					}
					synctest.Wait()
					for j, s := range stacks {
						same := func(equal bool, got, want any, e1, e2 error) {
							t.Helper()
							if !equal || store.CodeOf(e1) != store.CodeOf(e2) {
								t.Fatalf("%s, seed %d, step %d, stack %d: got %v, %v; the base has %v, %v; the last calls:\n%v", mode, seed, i, j, got, e1, want, e2, log[max(0, len(log)-12):])
							}
						}
						x, e1 := s.LoadThread(ctx, id)
						y, e2 := mem.LoadThread(ctx, id)
						same(x.Equal(y), x.Title, y.Title, e1, e2)
						q := store.PageQuery{Limit: 1 + r.IntN(7), Order: store.Order(r.IntN(2))}
						p, e1 := s.LoadThreadItems(ctx, id, q)
						o, e2 := mem.LoadThreadItems(ctx, id, q)
						same(p.HasMore == o.HasMore && p.After == o.After && slices.EqualFunc(p.Data, o.Data, chat.Item.Equal), p, o, e1, e2)
						l1, e1 := s.LoadItem(ctx, id, it.ID)
						l2, e2 := mem.LoadItem(ctx, id, it.ID)
						same(l1.Equal(l2), l1, l2, e1, e2)
					}
				}
				wg.Wait()
				must(t, store.Close(a, b))
			})
		}
	}
}
