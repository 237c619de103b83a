package singleflight_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// gate sits beneath the layer. It counts the calls that arrive, and holds the calls of some ops until it opens.
type gate struct {
	calls atomic.Int64
	ops   []store.Op
	lost  store.Op                  // fails with ErrUnavailable
	hold  func(layer.Call)          // runs in every call when the base has answered
	after func(ctx context.Context) // runs in a held call when the gate has opened
	open  chan struct{}
	wg    sync.WaitGroup // of the callers
}

func (g *gate) Intercept(ctx context.Context, c layer.Call, next func(context.Context) error) error {
	g.calls.Add(1)
	if c.Op == g.lost {
		return store.ErrUnavailable
	}
	err := next(ctx) // before the gate opens
	if g.hold != nil {
		g.hold(c)
	}
	if slices.Contains(g.ops, c.Op) {
		select {
		case <-g.open:
		case <-ctx.Done():
			return ctx.Err()
		}
		if g.after != nil {
			g.after(ctx)
		}
	}
	return err
}

// begin runs f, a caller, until it is blocked.
func (g *gate) begin(f func()) {
	g.wg.Go(f)
	synctest.Wait()
}

// end opens the gate when all callers are blocked, and waits for their ends. It fails unless calls have arrived.
func (g *gate) end(t *testing.T, calls int64) {
	t.Helper()
	synctest.Wait()
	close(g.open)
	g.wg.Wait()
	if n := g.calls.Load(); n != calls {
		t.Errorf("%d calls, want %d", n, calls)
	}
}

// stack returns the layer over a gate over a memstore, which has a thread with an item, and an attachment.
func stack(t *testing.T, ops []store.Op, opts ...singleflight.Option) (s store.Store, g *gate, base store.Store) {
	t.Helper()
	base, g = memstore.New(), &gate{ops: ops, open: make(chan struct{})}
	ctx := t.Context()
	must(t, base.SaveThread(ctx, thread("first")))
	must(t, base.AddThreadItem(ctx, "thr_1", item("msg_1")))
	must(t, base.SaveAttachment(ctx, file("notes.txt")))
	s = store.Wrap(base, singleflight.New(opts...), layer.Intercept("gate", g))
	t.Cleanup(func() { must(t, store.Close(s)) })
	return s, g, base
}

// bubble runs f in a synctest bubble, on a stack whose gate holds the calls of ops.
func bubble(t *testing.T, f func(t *testing.T, s store.Store, g *gate), ops ...store.Op) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, g, _ := stack(t, ops)
		f(t, s, g)
	})
}

var must = testenv.Must

func thread(title string) chat.Thread { return chat.Thread{ID: "thr_1", Title: title, CreatedAt: noon} }
func item(id string) chat.Item        { return testenv.OrPanic(chat.NewItem(id, noon, chat.EndOfTurn{})) }

func file(name string) chat.Attachment {
	return testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"}))
}

func errOf[T any](_ T, err error) error { return err }

// reads are the calls that can be shared.
var reads = map[store.Op]func(context.Context, store.Store) error{
	store.OpLoadThread: func(ctx context.Context, s store.Store) error { return errOf(s.LoadThread(ctx, "thr_1")) },
	store.OpLoadThreads: func(ctx context.Context, s store.Store) error {
		return errOf(s.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()}))
	},
	store.OpLoadThreadItems: func(ctx context.Context, s store.Store) error {
		return errOf(s.LoadThreadItems(ctx, "thr_1", store.PageQuery{}))
	},
	store.OpLoadItem:       func(ctx context.Context, s store.Store) error { return errOf(s.LoadItem(ctx, "thr_1", "msg_1")) },
	store.OpLoadAttachment: func(ctx context.Context, s store.Store) error { return errOf(s.LoadAttachment(ctx, "atc_1")) },
}

// load returns a caller that loads the thread.
func load(ctx context.Context, t *testing.T, s store.Store) func() {
	return func() { must(t, reads[store.OpLoadThread](ctx, s)) }
}

func TestEqualReadsAreOneCall(t *testing.T) {
	for op, call := range reads {
		t.Run(op.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, s store.Store, g *gate) {
				for range 1000 {
					g.wg.Go(func() { must(t, call(t.Context(), s)) })
				}
				g.end(t, 1)
			}, op)
		})
	}
}

func TestOtherArgumentsAreOtherCalls(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		n := int64(0)
		apart := func(f func()) { n++; g.wg.Go(f) }
		ctx := t.Context()
		for _, q := range []store.PageQuery{{}, {Limit: 1}, {Order: store.OldestFirst}, {After: "msg_1"}, {After: "1:m"}} {
			apart(func() { _, _ = s.LoadThreadItems(ctx, "thr_1", q) })
			apart(func() { _, _ = s.LoadThreadItems(ctx, "thr_2", q) })
		}
		for _, f := range []store.OwnerFilter{{}, store.AnyOwner(), store.InTenant("t"), store.InTenant("u"),
			store.OwnedBy(chat.Owner{Tenant: "t", Subject: "s"}), store.OwnedBy(chat.Owner{Subject: "ts"})} {
			apart(func() { _, _ = s.LoadThreads(ctx, store.ThreadQuery{Owner: f}) })
		}
		// Keys that joined these arguments without their lengths would be equal.
		apart(func() { _, _ = s.LoadItem(ctx, "a:b", "c") })
		apart(func() { _, _ = s.LoadItem(ctx, "a", "b:c") })
		apart(func() { _, _ = s.LoadItem(ctx, "a", "b1:c") })
		g.end(t, n)
	}, store.OpLoadThreadItems, store.OpLoadThreads, store.OpLoadItem)
}

func TestDefaultsAreEqualToWhatTheyStandFor(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		for _, q := range []store.PageQuery{{}, {Limit: store.DefaultLimit}} {
			g.wg.Go(func() { _, _ = s.LoadThreadItems(t.Context(), "thr_1", q) })
		}
		g.end(t, 1)
	}, store.OpLoadThreadItems)
}

func TestEveryCallerHasASliceOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		var pages [2]store.Page[chat.Item]
		for i := range pages {
			g.wg.Go(func() { pages[i], _ = s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{}) })
		}
		g.end(t, 1)
		clear(pages[0].Data)
		if pages[1].Data[0].ID != "msg_1" {
			t.Error("two callers share a slice")
		}
	}, store.OpLoadThreadItems)
}

func TestPrincipalsAreKeptApartUnlessTold(t *testing.T) {
	for shared, calls := range map[bool]int64{false: 3, true: 1} {
		bubble(t, func(t *testing.T, s store.Store, g *gate) {
			g.after = func(ctx context.Context) {
				if who, ok := store.PrincipalFrom(ctx); ok == shared {
					t.Errorf("shared %v: the call has principal %v, %v", shared, who, ok)
				}
			}
			if shared {
				layer.Share(s)
			}
			for _, who := range []store.Principal{
				{Owner: chat.Owner{Subject: "ada"}}, {Owner: chat.Owner{Subject: "bob"}},
				{Owner: chat.Owner{Subject: "ada"}, Roles: []string{"admin"}},
			} {
				g.wg.Go(load(store.WithPrincipal(t.Context(), who), t, s))
			}
			g.end(t, calls)
		}, store.OpLoadThread)
	}
}

// Every write increments the counters of all reads that it may change. A read that begins after the write must not join a
// call that began before it.
func TestEveryWriteMovesTheCountersOfWhatItChanges(t *testing.T) {
	threads := []store.Op{store.OpLoadThread, store.OpLoadThreads, store.OpLoadThreadItems, store.OpLoadItem}
	items := []store.Op{store.OpLoadThreadItems, store.OpLoadItem}
	files := []store.Op{store.OpLoadAttachment}
	for name, c := range map[string]struct {
		write func(context.Context, store.Store) error
		moves []store.Op
	}{
		"save_thread":        {func(ctx context.Context, s store.Store) error { return s.SaveThread(ctx, thread("second")) }, threads},
		"delete_thread":      {func(ctx context.Context, s store.Store) error { return s.DeleteThread(ctx, "thr_1") }, threads},
		"add_thread_item":    {func(ctx context.Context, s store.Store) error { return s.AddThreadItem(ctx, "thr_1", item("msg_2")) }, items},
		"save_item":          {func(ctx context.Context, s store.Store) error { return s.SaveItem(ctx, "thr_1", item("msg_1")) }, items},
		"delete_thread_item": {func(ctx context.Context, s store.Store) error { return s.DeleteThreadItem(ctx, "thr_1", "msg_1") }, items},
		"save_attachment":    {func(ctx context.Context, s store.Store) error { return s.SaveAttachment(ctx, file("other.txt")) }, files},
		"delete_attachment":  {func(ctx context.Context, s store.Store) error { return s.DeleteAttachment(ctx, "atc_1") }, files},
	} {
		for _, op := range c.moves {
			t.Run(name+"/"+op.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T, s store.Store, g *gate) {
					read := func() { _ = reads[op](t.Context(), s) }
					g.begin(read) // has its answer from before the write
					must(t, c.write(t.Context(), s))
					g.wg.Go(read)
					g.end(t, 3)
				}, op)
			})
		}
	}
}

func TestAWriteThatWasGivenUpBeforeItBeganIsNotPassedOn(t *testing.T) {
	s, g, _ := stack(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SaveThread(ctx, thread("second")); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1"}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("got error %v, want ErrInvalid: arguments are checked before the context", err)
	}
	if n := g.calls.Load(); n != 0 {
		t.Errorf("the base got %d calls, want none", n)
	}
}

func TestDuringAWriteReadersJoinOnlyWhatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g, base := stack(t, []store.Op{store.OpSaveThread})
		g.begin(func() { must(t, s.SaveThread(t.Context(), thread("second"))) }) // has written and not returned
		slow := make(chan struct{})
		g.hold = func(c layer.Call) {
			if c.Op == store.OpLoadThread && g.calls.Load() == 2 { // the first reader, which has its answer
				<-slow
			}
		}
		g.begin(load(t.Context(), t, s))
		must(t, base.SaveThread(t.Context(), thread("third")))
		for range 100 {
			g.wg.Go(func() {
				if th, err := s.LoadThread(t.Context(), "thr_1"); err != nil || th.Title != "third" {
					t.Errorf("got title %q, error %v, want third: the read joined a call that had begun", th.Title, err)
				}
			})
		}
		synctest.Wait()
		close(slow)
		g.end(t, 3) // the write, the first reader and one for the rest
	})
}

func TestAnUnknownWriteIsQuarantined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g, base := stack(t, []store.Op{store.OpLoadThread}, singleflight.WithQuarantine(time.Minute))
		g.lost = store.OpSaveThread
		if err := s.SaveThread(t.Context(), thread("second")); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		g.begin(load(t.Context(), t, s))
		must(t, base.SaveThread(t.Context(), thread("second"))) // now the write takes effect
		g.wg.Go(func() {
			if th, _ := s.LoadThread(t.Context(), "thr_1"); th.Title != "second" {
				t.Errorf("got title %q, want second: the read joined a call from before the write took effect", th.Title)
			}
		})
		g.end(t, 3)
	})
}

func TestCancellation(t *testing.T) {
	for who, leave := range map[string][3]bool{
		"leader": {true, false, false}, "follower": {false, true, false}, "all": {true, true, true},
	} {
		t.Run(who, func(t *testing.T) {
			bubble(t, func(t *testing.T, s store.Store, g *gate) {
				ctx, cancel := context.WithCancel(t.Context())
				var errs [3]error
				for i, leaves := range leave {
					c := t.Context()
					if leaves {
						c = ctx
					}
					g.begin(func() { _, errs[i] = s.LoadThread(c, "thr_1") })
				}
				cancel()
				synctest.Wait()
				if who == "all" {
					g.wg.Wait() // all callers have gone and the gate is closed, so the shared call was cancelled
				}
				g.end(t, 1)
				for i, err := range errs {
					if leave[i] != errors.Is(err, context.Canceled) || !leave[i] && err != nil {
						t.Errorf("caller %d got error %v, cancelled %t", i, err, leave[i])
					}
					if leave[i] && store.CodeOf(err) != store.CodeCanceled {
						t.Errorf("caller %d got code %v, want CodeCanceled", i, store.CodeOf(err))
					}
				}
			}, store.OpLoadThread)
		})
	}
}

func TestPanicReachesEveryCallerAndGoexitFailsThem(t *testing.T) {
	boom := errors.New("boom")
	for _, how := range []string{"panic", "goexit"} {
		bubble(t, func(t *testing.T, s store.Store, g *gate) {
			g.after = func(context.Context) {
				if how == "panic" {
					panic(boom)
				}
				runtime.Goexit()
			}
			var panics, fails atomic.Int32
			for range 10 {
				g.wg.Go(func() {
					recovered, err := spy.Try(t.Context(), s, store.OpLoadThread)
					if err, ok := recovered.(error); ok && errors.Is(err, boom) {
						panics.Add(1)
					}
					if store.CodeOf(err) == store.CodeInternal {
						fails.Add(1)
					}
				})
			}
			g.end(t, 1)
			if how == "panic" && panics.Load() != 10 || how == "goexit" && fails.Load() != 10 {
				t.Errorf("%s: 10 callers, %d panics, %d failures", how, panics.Load(), fails.Load())
			}
		}, store.OpLoadThread)
	}
}

func TestOwnTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g, _ := stack(t, []store.Op{store.OpLoadThread}, singleflight.WithLoadTimeout(time.Second))
		begin := time.Now()
		_, err := s.LoadThread(t.Context(), "thr_1")
		if store.CodeOf(err) != store.CodeTimeout || time.Since(begin) != time.Second {
			t.Errorf("got error %v after %v, want CodeTimeout after 1s", err, time.Since(begin))
		}
		g.wg.Go(load(t.Context(), t, s))
		g.end(t, 2)
	})
}

func TestAFreshReadJoinsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		for _, ctx := range []context.Context{t.Context(), store.WithFresh(t.Context()), store.WithFresh(t.Context())} {
			g.wg.Go(load(ctx, t, s))
		}
		g.end(t, 3)
	}, store.OpLoadThread)
}

func TestVersionsAreReportedToEveryCaller(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		var reported atomic.Int32
		for range 5 {
			g.wg.Go(load(callctx.WithVersionRecorder(t.Context(), func(id string, before, after uint64) {
				if id == "thr_1" && before == after && after > 0 {
					reported.Add(1)
				}
			}), t, s))
		}
		g.end(t, 1)
		if reported.Load() != 5 {
			t.Errorf("%d of 5 callers got the version", reported.Load())
		}
	}, store.OpLoadThread)
}

func TestNotesSayWhoLed(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		var got [2]string
		for i := range got {
			ctx, n := layer.WithNotes(t.Context(), store.OpLoadThread, i)
			g.begin(func() {
				load(ctx, t, s)()
				_, role, leader := n.Close()
				got[i] = fmt.Sprint(role, leader)
			})
		}
		g.end(t, 1)
		if got != [2]string{"leader0", "follower0"} {
			t.Errorf("got notes %v, want leader0 and follower0", got)
		}
	}, store.OpLoadThread)
}

func TestAClosedLayerLetsCallsPass(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		must(t, store.Close(s))
		must(t, store.Close(s))
		for range 3 {
			g.wg.Go(load(t.Context(), t, s))
		}
		g.end(t, 3)
	}, store.OpLoadThread)
}

func TestMisuseIsRefusedAtConstruction(t *testing.T) {
	for want, f := range map[string]func(){
		"singleflight.WithLoadTimeout: the time is negative": func() { singleflight.WithLoadTimeout(-1) },
		"singleflight.WithQuarantine: the time is negative":  func() { singleflight.WithQuarantine(-1) },
	} {
		t.Run(want, func(t *testing.T) { testenv.Panics(t, want, f) })
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := store.Wrap(memstore.New(), singleflight.New())
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}

// TestASharedCallHasNoCondition checks that a shared call runs under nobody's condition, and that a write reaches the base under
// its own.
func TestASharedCallHasNoCondition(t *testing.T) {
	bubble(t, func(t *testing.T, s store.Store, g *gate) {
		g.after = func(ctx context.Context) {
			if callctx.Of(ctx).If.Set {
				t.Error("a shared call has a caller's condition")
			}
		}
		ctx, read := store.WithVersions(t.Context())
		for n := range uint64(3) {
			g.wg.Go(load(store.IfVersion(ctx, "thr_1", n), t, s))
		}
		g.end(t, 1)
		n, ok := read.Of("thr_1")
		if !ok {
			t.Fatal("no version was reported")
		}
		for _, test := range []struct {
			n    uint64
			want store.Code
		}{{n - 1, store.CodeConflict}, {n, store.CodeOK}, {n, store.CodeConflict}} {
			err := s.SaveItem(store.IfVersion(ctx, "thr_1", test.n), "thr_1", item("msg_1"))
			if store.CodeOf(err) != test.want {
				t.Errorf("a save under version %d of %d ended with %v, want %v", test.n, n, err, test.want)
			}
		}
		if after, _ := read.Of("thr_1"); after != n+1 {
			t.Errorf("after the save the version is %d, want %d", after, n+1)
		}
	}, store.OpLoadThread)
}

// TestACallerOfAnOvertakenCallHearsItsVersion checks that the version is that of the answer, not that of a newer write.
func TestACallerOfAnOvertakenCallHearsItsVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g, base := stack(t, []store.Op{store.OpLoadThread})
		ctx, read := store.WithVersions(t.Context())
		for range 2 {
			g.begin(load(ctx, t, s)) // the base has answered, and the call is held
		}
		must(t, base.SaveThread(t.Context(), thread("second"))) // by another process
		g.end(t, 1)
		n, ok := read.Of("thr_1")
		err := s.SaveThread(store.IfVersion(ctx, "thr_1", n), thread("third"))
		if !ok || store.CodeOf(err) != store.CodeConflict {
			t.Errorf("a save under the version of the overtaken call ended with %v, %t, want a conflict", err, ok)
		}
	})
}

// A layer above, such as a cache, hears of a write that the base watches.
func TestAPendingWriteIsReportedToTheLayerAbove(t *testing.T) {
	ended := make(chan struct{})
	defer close(ended)
	s := store.Wrap(memstore.New(), singleflight.New(), layer.Intercept("pending", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, _ func(context.Context) error) error {
			driver.ReportPending(ctx, ended)
			return store.ErrUnavailable
		})))
	heard := 0
	ctx := spy.WithUnsettledRecorder(t.Context(), func(c <-chan struct{}) {
		if c == ended {
			heard++
		}
	})
	if _ = s.SaveThread(ctx, thread("second")); heard != 1 {
		t.Errorf("the layer above heard of it %d times, want once", heard)
	}
}

// guard stands for an authz layer.
type guard struct {
	store.Store
	store.Barrier
}

func TestAroundAuthzItPanics(t *testing.T) {
	base := memstore.New()
	g := guard{base, store.NewBarrier(base)}
	aLayer := layer.Admit("all", func(context.Context, layer.Call) error { return nil })
	for name, next := range map[string]store.Store{"the guard": g, "a layer around the guard": store.Wrap(g, aLayer)} {
		t.Run(name, func(t *testing.T) {
			testenv.Panics(t, "singleflight.New: around a guard, such as authz, a read could join a call that began before access was revoked: "+
				"put the guard before singleflight", func() { store.Wrap(next, singleflight.New()) })
		})
	}
}
