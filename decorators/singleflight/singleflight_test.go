package singleflight_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// gate sits beneath the layer: it counts the calls that arrive and holds those that hold names until let go.
type gate struct {
	calls atomic.Int64
	hold  func(layer.Call) bool
	after func(ctx context.Context) // runs in the held call, once let go
	open  chan struct{}
}

func newGate(ops ...store.Op) *gate {
	return &gate{open: make(chan struct{}), hold: func(c layer.Call) bool {
		for _, op := range ops {
			if c.Op == op {
				return true
			}
		}
		return false
	}}
}

func (g *gate) Intercept(ctx context.Context, c layer.Call, next func(context.Context) error) error {
	g.calls.Add(1)
	err := next(ctx) // the answer is from before the gate opens
	if g.hold(c) {
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

// stack is a thread with an item and an attachment in a memstore, behind the gate, behind the layer.
func stack(t *testing.T, g *gate, opts ...singleflight.Option) (s, base store.Store) {
	t.Helper()
	base = memstore.New()
	ctx := t.Context()
	must(t, base.SaveThread(ctx, chat.Thread{ID: "thr_1", Title: "first", CreatedAt: noon}))
	it, err := chat.NewItem("msg_1", noon, chat.EndOfTurn{})
	must(t, err)
	must(t, base.AddThreadItem(ctx, "thr_1", it))
	a, err := chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "notes.txt", MIMEType: "text/plain"})
	must(t, err)
	must(t, base.SaveAttachment(ctx, a))
	s = store.Wrap(base, singleflight.New(opts...), layer.Intercept("gate", g))
	t.Cleanup(func() { must(t, store.Close(s)) })
	return s, base
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// followers returns how many callers have joined another's call so far.
func followers(s store.Store) (n float64) {
	reporter, _ := store.As[layer.StatsReporter](s)
	for _, stat := range reporter.AppendStats(nil) {
		if stat.Labels[1].Value == "follower" {
			n += stat.Value
		}
	}
	return n
}

// reads are the calls that are shared.
var reads = map[store.Op]func(context.Context, store.Store) error{
	store.OpLoadThread: func(ctx context.Context, s store.Store) error { _, err := s.LoadThread(ctx, "thr_1"); return err },
	store.OpLoadThreads: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()})
		return err
	},
	store.OpLoadThreadItems: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
		return err
	},
	store.OpLoadItem: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadItem(ctx, "thr_1", "msg_1")
		return err
	},
	store.OpLoadAttachment: func(ctx context.Context, s store.Store) error {
		_, err := s.LoadAttachment(ctx, "atc_1")
		return err
	},
}

func TestEqualReadsAreOneCall(t *testing.T) {
	for op, call := range reads {
		t.Run(op.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(op)
				s, _ := stack(t, g)
				var wg sync.WaitGroup
				for range 1000 {
					wg.Go(func() { must(t, call(t.Context(), s)) })
				}
				synctest.Wait()
				close(g.open)
				wg.Wait()
				if n := g.calls.Load(); n != 1 {
					t.Errorf("1000 equal reads were %d calls", n)
				}
			})
		})
	}
}

func TestOtherArgumentsAreOtherCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThreadItems, store.OpLoadThreads, store.OpLoadItem)
		s, _ := stack(t, g)
		var wg sync.WaitGroup
		n := int64(0)
		apart := func(f func()) { n++; wg.Go(f) }
		ctx := t.Context()
		for _, q := range []store.PageQuery{{}, {Limit: 1}, {Order: store.OldestFirst}, {After: "msg_1"}, {After: "1:m"}} {
			apart(func() { _, _ = s.LoadThreadItems(ctx, "thr_1", q) })
			apart(func() { _, _ = s.LoadThreadItems(ctx, "thr_2", q) })
		}
		for _, f := range []store.OwnerFilter{{}, store.AnyOwner(), store.InTenant("t"), store.InTenant("u"),
			store.OwnedBy(chat.Owner{Tenant: "t", Subject: "s"}), store.OwnedBy(chat.Owner{Subject: "ts"})} {
			apart(func() { _, _ = s.LoadThreads(ctx, store.ThreadQuery{Owner: f}) })
		}
		// Joined without lengths, these would be one key.
		apart(func() { _, _ = s.LoadItem(ctx, "a:b", "c") })
		apart(func() { _, _ = s.LoadItem(ctx, "a", "b:c") })
		apart(func() { _, _ = s.LoadItem(ctx, "a", "b1:c") })
		synctest.Wait()
		if got := g.calls.Load(); got != n {
			t.Errorf("%d different reads were %d calls", n, got)
		}
		close(g.open)
		wg.Wait()
	})
}

func TestDefaultsAreEqualToWhatTheyStandFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThreadItems)
		s, _ := stack(t, g)
		var wg sync.WaitGroup
		for _, q := range []store.PageQuery{{}, {Limit: store.DefaultLimit}} {
			wg.Go(func() { _, _ = s.LoadThreadItems(t.Context(), "thr_1", q) })
		}
		synctest.Wait()
		close(g.open)
		wg.Wait()
		if n := g.calls.Load(); n != 1 {
			t.Errorf("limit 0 and limit %d were %d calls", store.DefaultLimit, n)
		}
	})
}

func TestEveryCallerHasASliceOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThreadItems)
		s, _ := stack(t, g)
		pages := make([]store.Page[chat.Item], 2)
		var wg sync.WaitGroup
		for i := range pages {
			wg.Go(func() { pages[i], _ = s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{}) })
		}
		synctest.Wait()
		close(g.open)
		wg.Wait()
		clear(pages[0].Data)
		if pages[1].Data[0].ID != "msg_1" {
			t.Error("two callers share a slice")
		}
	})
}

func TestPrincipalsAreKeptApartUnlessTold(t *testing.T) {
	for _, shared := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(store.OpLoadThread)
			g.after = func(ctx context.Context) {
				if who, ok := store.PrincipalFrom(ctx); ok == shared {
					t.Errorf("shared %v: the call was made as %v %v", shared, who, ok)
				}
			}
			s, _ := stack(t, g)
			if shared {
				layer.Share(s)
			}
			var wg sync.WaitGroup
			for _, who := range []store.Principal{
				{Owner: chat.Owner{Subject: "ada"}}, {Owner: chat.Owner{Subject: "bob"}},
				{Owner: chat.Owner{Subject: "ada"}, Roles: []string{"admin"}},
			} {
				wg.Go(func() { _, _ = s.LoadThread(store.WithPrincipal(t.Context(), who), "thr_1") })
			}
			synctest.Wait()
			close(g.open)
			wg.Wait()
			if n, want := g.calls.Load(), map[bool]int64{false: 3, true: 1}[shared]; n != want {
				t.Errorf("shared %v: three principals were %d calls, want %d", shared, n, want)
			}
		})
	}
}

// Read your writes: what began before the write has returned is not for who comes after.
func TestAReadAfterAWriteJoinsNoCallFromBefore(t *testing.T) {
	second := chat.Thread{ID: "thr_1", Title: "second", CreatedAt: noon}
	for name, write := range map[string]func(context.Context, store.Store) error{
		"save": func(ctx context.Context, s store.Store) error { return s.SaveThread(ctx, second) },
		"delete and save again": func(ctx context.Context, s store.Store) error {
			return errors.Join(s.DeleteThread(ctx, "thr_1"), s.SaveThread(ctx, second))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(store.OpLoadThread, store.OpLoadThreads)
				s, _ := stack(t, g)
				var wg sync.WaitGroup
				wg.Go(func() { must(t, reads[store.OpLoadThread](t.Context(), s)) })
				wg.Go(func() { must(t, reads[store.OpLoadThreads](t.Context(), s)) })
				synctest.Wait() // both have their answers from before the write
				must(t, write(t.Context(), s))
				wg.Go(func() {
					if th, _ := s.LoadThread(t.Context(), "thr_1"); th.Title != "second" {
						t.Errorf("load_thread: %q", th.Title)
					}
				})
				wg.Go(func() {
					p, _ := s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
					if len(p.Data) != 1 || p.Data[0].Title != "second" {
						t.Errorf("load_threads: %v", p.Data)
					}
				})
				synctest.Wait()
				close(g.open)
				wg.Wait()
			})
		})
	}
}

// Every write moves the word of every read that it may change.
func TestEveryWriteMovesTheWordsOfWhatItChanges(t *testing.T) {
	newItem := func(id string) chat.Item {
		it, err := chat.NewItem(id, noon, chat.EndOfTurn{})
		must(t, err)
		return it
	}
	file, err := chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: "other.txt", MIMEType: "text/plain"})
	must(t, err)
	thread := []store.Op{store.OpLoadThread, store.OpLoadThreads, store.OpLoadThreadItems, store.OpLoadItem}
	items := []store.Op{store.OpLoadThreadItems, store.OpLoadItem}
	for name, c := range map[string]struct {
		write func(context.Context, store.Store) error
		moves []store.Op
	}{
		"save_thread": {func(ctx context.Context, s store.Store) error {
			return s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: noon})
		}, thread},
		"delete_thread":      {func(ctx context.Context, s store.Store) error { return s.DeleteThread(ctx, "thr_1") }, thread},
		"add_thread_item":    {func(ctx context.Context, s store.Store) error { return s.AddThreadItem(ctx, "thr_1", newItem("msg_2")) }, items},
		"save_item":          {func(ctx context.Context, s store.Store) error { return s.SaveItem(ctx, "thr_1", newItem("msg_1")) }, items},
		"delete_thread_item": {func(ctx context.Context, s store.Store) error { return s.DeleteThreadItem(ctx, "thr_1", "msg_1") }, items},
		"save_attachment":    {func(ctx context.Context, s store.Store) error { return s.SaveAttachment(ctx, file) }, []store.Op{store.OpLoadAttachment}},
		"delete_attachment":  {func(ctx context.Context, s store.Store) error { return s.DeleteAttachment(ctx, "atc_1") }, []store.Op{store.OpLoadAttachment}},
	} {
		for _, op := range c.moves {
			t.Run(name+"/"+op.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := newGate(op)
					s, _ := stack(t, g)
					var wg sync.WaitGroup
					read := func() { wg.Go(func() { _ = reads[op](t.Context(), s) }) }
					read()
					synctest.Wait() // it has its answer from before the write
					must(t, c.write(t.Context(), s))
					before := g.calls.Load()
					read()
					synctest.Wait()
					if n := g.calls.Load() - before; n != 1 {
						t.Errorf("a read after the write made %d calls: it joined one from before", n)
					}
					close(g.open)
					wg.Wait()
				})
			})
		}
	}
}

func TestAWriteThatWasGivenUpBeforeItBeganIsNotPassedOn(t *testing.T) {
	g := newGate()
	s, _ := stack(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: noon}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := s.SaveThread(ctx, chat.Thread{ID: "thr_1"}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("got %v: arguments come before the context", err)
	}
	if n := g.calls.Load(); n != 0 {
		t.Errorf("the base got %d calls", n)
	}
}

func TestDuringAWriteReadersJoinOnlyWhatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpSaveThread)
		s, base := stack(t, g)
		var wg sync.WaitGroup
		wg.Go(func() {
			must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", Title: "second", CreatedAt: noon}))
		})
		synctest.Wait() // written, not returned
		slow := make(chan struct{})
		held := g.hold
		g.hold = func(c layer.Call) bool {
			if c.Op == store.OpLoadThread && g.calls.Load() == 2 { // the first reader: it has its answer
				<-slow
			}
			return held(c)
		}
		wg.Go(func() { _, _ = s.LoadThread(t.Context(), "thr_1") })
		synctest.Wait()
		must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", Title: "third", CreatedAt: noon}))
		for range 100 {
			wg.Go(func() {
				if th, err := s.LoadThread(t.Context(), "thr_1"); err != nil || th.Title != "third" {
					t.Errorf("joined a call that had begun: %q, %v", th.Title, err)
				}
			})
		}
		synctest.Wait()
		close(slow)
		close(g.open)
		wg.Wait()
		if n := g.calls.Load(); n != 3 {
			t.Errorf("%d calls; want the write, the first reader and one for the rest", n)
		}
	})
}

func TestAnUnknownWriteIsQuarantined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThread)
		base := memstore.New()
		must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", Title: "first", CreatedAt: noon}))
		second := chat.Thread{ID: "thr_1", Title: "second", CreatedAt: noon}
		lost := layer.Intercept("lost", layer.InterceptorFunc(
			func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
				if c.Op == store.OpSaveThread {
					return store.ErrUnavailable // it will be applied later
				}
				return next(ctx)
			}))
		s := store.Wrap(base, singleflight.New(singleflight.WithQuarantine(time.Minute)), layer.Intercept("gate", g), lost)
		defer store.Close(s)
		if err := s.SaveThread(t.Context(), second); !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() { must(t, reads[store.OpLoadThread](t.Context(), s)) })
		synctest.Wait()
		must(t, base.SaveThread(t.Context(), second)) // now
		wg.Go(func() {
			if th, _ := s.LoadThread(t.Context(), "thr_1"); th.Title != "second" {
				t.Errorf("joined a call from before the write took effect: %q", th.Title)
			}
		})
		synctest.Wait()
		close(g.open)
		wg.Wait()
	})
}

func TestCancellation(t *testing.T) {
	for _, who := range []string{"leader", "follower", "all"} {
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(store.OpLoadThread)
				s, _ := stack(t, g)
				ctx, cancel := context.WithCancel(t.Context())
				errs := make([]error, 3)
				var wg sync.WaitGroup
				for i := range errs {
					c := t.Context()
					if who == "all" || who == "leader" && i == 0 || who == "follower" && i == 1 {
						c = ctx
					}
					wg.Go(func() { _, errs[i] = s.LoadThread(c, "thr_1") })
					synctest.Wait()
				}
				cancel()
				synctest.Wait()
				if who == "all" {
					wg.Wait() // nobody is left, and the gate is shut: the call itself was cancelled
				}
				close(g.open)
				wg.Wait()
				for i, err := range errs {
					gone := who == "all" || who == "leader" && i == 0 || who == "follower" && i == 1
					if gone != errors.Is(err, context.Canceled) || !gone && err != nil {
						t.Errorf("caller %d got %v", i, err)
					}
					if gone && store.CodeOf(err) != store.CodeCanceled {
						t.Errorf("caller %d got code %v", i, store.CodeOf(err))
					}
				}
				if n := g.calls.Load(); n != 1 {
					t.Errorf("%d calls", n)
				}
			})
		})
	}
}

func TestPanicReachesEveryCallerAndGoexitFailsThem(t *testing.T) {
	boom := errors.New("boom")
	for _, how := range []string{"panic", "goexit"} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(store.OpLoadThread)
			g.after = func(context.Context) {
				if how == "panic" {
					panic(boom)
				}
				runtime.Goexit()
			}
			s, _ := stack(t, g)
			var panics, fails atomic.Int32
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					defer func() {
						if err, ok := recover().(error); ok && errors.Is(err, boom) {
							panics.Add(1)
						}
					}()
					if _, err := s.LoadThread(t.Context(), "thr_1"); store.CodeOf(err) == store.CodeInternal {
						fails.Add(1)
					}
				})
			}
			synctest.Wait()
			close(g.open)
			wg.Wait()
			if how == "panic" && panics.Load() != 10 || how == "goexit" && fails.Load() != 10 {
				t.Errorf("%s: %d panics and %d failures of 10", how, panics.Load(), fails.Load())
			}
		})
	}
}

func TestOwnTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThread)
		s, _ := stack(t, g, singleflight.WithLoadTimeout(time.Second))
		begin := time.Now()
		_, err := s.LoadThread(t.Context(), "thr_1")
		if store.CodeOf(err) != store.CodeTimeout || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
		close(g.open)
		_, err = s.LoadThread(t.Context(), "thr_1")
		must(t, err)
	})
}

func TestAFreshReadJoinsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThread)
		s, _ := stack(t, g)
		var wg sync.WaitGroup
		for _, ctx := range []context.Context{t.Context(), store.WithFresh(t.Context()), store.WithFresh(t.Context())} {
			wg.Go(func() { must(t, reads[store.OpLoadThread](ctx, s)) })
		}
		synctest.Wait()
		close(g.open)
		wg.Wait()
		if n := g.calls.Load(); n != 3 {
			t.Errorf("%d calls of 3", n)
		}
	})
}

func TestVersionsAreReportedToEveryCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThread)
		s, _ := stack(t, g)
		var told atomic.Int32
		var wg sync.WaitGroup
		for range 5 {
			ctx := callctx.WithVersionRecorder(t.Context(), func(id string, before, after uint64) {
				if id == "thr_1" && before == after && after > 0 {
					told.Add(1)
				}
			})
			wg.Go(func() { must(t, reads[store.OpLoadThread](ctx, s)) })
		}
		synctest.Wait()
		close(g.open)
		wg.Wait()
		if told.Load() != 5 {
			t.Errorf("%d of 5 callers were told the version", told.Load())
		}
	})
}

func TestNotesSayWhoLed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThread)
		s, _ := stack(t, g)
		var got [2]string
		var wg sync.WaitGroup
		for i := range got {
			ctx, n := layer.WithNotes(t.Context(), store.OpLoadThread, i)
			wg.Go(func() {
				must(t, reads[store.OpLoadThread](ctx, s))
				_, role, leader := n.Close()
				got[i] = fmt.Sprint(role, leader)
			})
			synctest.Wait()
		}
		close(g.open)
		wg.Wait()
		if got != [2]string{"leader0", "follower0"} {
			t.Errorf("noted %v", got)
		}
	})
}

func TestAClosedLayerLetsCallsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(store.OpLoadThread)
		s, _ := stack(t, g)
		must(t, store.Close(s))
		must(t, store.Close(s))
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { must(t, reads[store.OpLoadThread](t.Context(), s)) })
		}
		synctest.Wait()
		close(g.open)
		wg.Wait()
		if n := g.calls.Load(); n != 3 {
			t.Errorf("%d calls of 3", n)
		}
	})
}

func TestMisuseIsRefusedAtConstruction(t *testing.T) {
	for want, f := range map[string]func(){
		"singleflight.WithLoadTimeout: the time is negative": func() { singleflight.WithLoadTimeout(-1) },
		"singleflight.WithQuarantine: the time is negative":  func() { singleflight.WithQuarantine(-1) },
	} {
		t.Run(want, func(t *testing.T) {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.HasPrefix(r, want) {
					t.Errorf("panicked with %q", r)
				}
			}()
			f()
		})
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := store.Wrap(memstore.New(), singleflight.New())
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}
