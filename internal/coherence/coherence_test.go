package coherence

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/flight"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

func TestKeysOfDifferentReadsDiffer(t *testing.T) {
	partition := func(subject string) layer.Partition {
		return layer.HintsFor(store.WithPrincipal(context.Background(),
			store.Principal{Owner: chat.Owner{Subject: subject}}), store.OpLoadThread).Partition()
	}
	keys := map[key[[2]string]]int{}
	n := 0
	for _, p := range []layer.Partition{{}, partition("a"), partition("1:a")} {
		for _, w := range []generation.Counter{0, 1 << 24, 2 << 24} {
			for _, args := range [][2]string{{}, {"a"}, {"", "a"}, {"a", "b"}, {"ab"}, {"b", "a"}} {
				keys[keyOf(p, Read[[2]string]{Counter: w, Args: args})]++
				n++
			}
		}
	}
	if len(keys) != n {
		t.Errorf("%d different reads have %d keys", n, len(keys))
	}
	// Reads during a write queue together, whatever their counter.
	if keyOf(layer.Partition{}, Read[string]{Counter: 1}) != keyOf(layer.Partition{}, Read[string]{Counter: 1<<24 + 1}) {
		t.Error("two reads during writes would not queue together")
	}
	if keyOf(layer.Partition{}, Read[string]{Counter: 1}) == keyOf(layer.Partition{}, Read[string]{}) {
		t.Error("a read during a write would join a read from before the write")
	}
}

type bounded struct {
	store.Store
	longest time.Duration
}

func (b bounded) LongestWrite() time.Duration { return b.longest }

type plain struct{ store.Store }

func TestQuarantineIsTheLargerOfWhatTheBaseNeedsAndTheUserAsks(t *testing.T) {
	for _, c := range []struct {
		base  store.Store
		asked time.Duration
		want  time.Duration
	}{
		{plain{}, -1, defaultQuarantine},
		{plain{}, 0, 0},
		{plain{}, time.Second, time.Second},
		{bounded{longest: 0}, -1, 0},
		{bounded{longest: time.Hour}, -1, time.Hour},
		{bounded{longest: time.Hour}, time.Second, time.Hour},
		{bounded{longest: time.Second}, time.Hour, time.Hour},
	} {
		if got := Quarantine(c.base, c.asked); got != c.want {
			t.Errorf("%T %v, asked %v: got %v, want %v", c.base, c.base, c.asked, got, c.want)
		}
	}
}

func TestWriteEndsItsCounterHoweverItEnds(t *testing.T) {
	unknown := errors.New("lost")
	for _, e := range []struct {
		name string
		call func(context.Context) error
		idle bool
	}{
		{"ok", func(context.Context) error { return nil }, true},
		{"conflict", func(context.Context) error { return store.ErrConflict }, true},
		{"not applied", func(context.Context) error { return errors.Join(unknown, store.ErrNotApplied) }, true},
		{"unknown", func(context.Context) error { return unknown }, false},
		{"ok, after an attempt that is unsettled", func(ctx context.Context) error { layer.ReportUnsettled(ctx); return nil }, false},
	} {
		c := &Core{Counters: generation.New(1), Quarantine: time.Hour}
		outer := false // the recorder of a layer above, which may be another cache
		ctx := spy.WithUnsettledRecorder(t.Context(), func(<-chan struct{}) { outer = true })
		w := c.NewWrite(ctx, 0)
		_ = w.Make(func(ctx context.Context, _ generation.Counter) error { return e.call(ctx) })
		definite, _ := w.Outcome()
		if got := c.Counters.Load(0).Idle(); got != e.idle || definite != e.idle {
			t.Errorf("%s: afterwards idle is %v, definite is %v", e.name, got, definite)
		}
		if want := e.name == "ok, after an attempt that is unsettled"; outer != want {
			t.Errorf("%s: reported to the layer above: %v", e.name, outer)
		}
		c.Counters.Close()
	}
	c := &Core{Counters: generation.New(1), Quarantine: time.Hour}
	defer c.Counters.Close()
	func() {
		defer func() { _ = recover() }()
		_ = c.NewWrite(t.Context(), 0).Make(func(context.Context, generation.Counter) error { panic("in the base") })
	}()
	if c.Counters.Load(0).Idle() {
		t.Error("a write that panicked is not in progress, but may still take effect")
	}
}

// A base that watches its write holds the thread back longer than any quarantine.
func TestAPendingWriteIsInProgressUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Core{Counters: generation.New(1), Quarantine: time.Second}
		defer c.Counters.Close()
		heard := false // by a layer above
		ctx := spy.WithUnsettledRecorder(t.Context(), func(ended <-chan struct{}) { heard = ended != nil })
		ended := make(chan struct{})
		w := c.NewWrite(ctx, 0)
		_ = w.Make(func(ctx context.Context, _ generation.Counter) error {
			driver.ReportPending(ctx, ended)
			return store.ErrUnavailable
		})
		if definite, pending := w.Outcome(); definite || len(pending) != 1 {
			t.Errorf("definite %v, with %d pending channels", definite, len(pending))
		}
		time.Sleep(time.Hour)
		if c.Counters.Load(0).Idle() || !heard {
			t.Errorf("idle %v, reported to the layer above %v", c.Counters.Load(0).Idle(), heard)
		}
		close(ended)
		synctest.Wait()
		if !c.Counters.Load(0).Idle() {
			t.Error("the write has ended, but is in progress")
		}
	})
}

// A save of a thread changes the row and all listings.
func TestAWriteOfTwoRowsIsInProgressAtBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Core{Counters: generation.New(2), Quarantine: time.Second}
		defer c.Counters.Close()
		check := func(when string, idle bool) {
			t.Helper()
			synctest.Wait()
			for s := range generation.Slot(2) {
				if c.Counters.Load(s).Idle() != idle {
					t.Errorf("%s: counter %d is idle: %v", when, s, !idle)
				}
			}
		}
		ended := make(chan struct{})
		for _, err := range []error{nil, store.ErrUnavailable} {
			_ = c.NewWrite(t.Context(), 0, 1).Make(func(context.Context, generation.Counter) error {
				check("during the write", false)
				return err
			})
			check("afterwards", err == nil)
		}
		time.Sleep(time.Minute)
		check("after the quarantine", true)
		_ = c.NewWrite(t.Context(), 0, 1).Make(func(ctx context.Context, _ generation.Counter) error {
			driver.ReportPending(ctx, ended)
			return store.ErrUnavailable
		})
		time.Sleep(time.Minute)
		check("after the quarantine of a pending write", false)
		close(ended)
		check("after its end", true)
	})
}

// It has the write, its context, its recorders and its reports.
func TestAWriteIsOneAllocation(t *testing.T) {
	c := &Core{Counters: generation.New(1)}
	ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Subject: "ada"}})
	var w *Write
	n := testing.AllocsPerRun(100, func() {
		w = c.NewWrite(ctx, 0)
		w.Stamp(bus.Stamp{Origin: "here", Write: 1})
		_ = w.Make(func(ctx context.Context, _ generation.Counter) error {
			driver.ReportVersion(w.Listen(ctx), "thr_1", 1, 2)
			return nil
		})
	})
	if n != 1 || bus.StampFrom(&w.ctx).Write != 1 || len(w.Reports()) != 1 {
		t.Errorf("%v allocations, stamp %v, reports %v", n, bus.StampFrom(&w.ctx), w.Reports())
	}
}

// The caller of a shared load has a recorder, notes and a deadline of its own.
func TestASharedLoadHasNothingOfItsCallerButThePrincipal(t *testing.T) {
	for _, share := range []bool{false, true} {
		c := &Core{Counters: generation.New(1)}
		if share {
			c.Share()
		}
		ctx := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Subject: "ada"}})
		ctx = callctx.WithVersionRecorder(store.WithFresh(ctx), func(string, uint64, uint64) { t.Error("the caller's recorder heard the load") })
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		var g Group[string, int]
		a, err := Share(ctx, c, &g, layer.HintsFor(ctx, store.OpLoadThread), Read[string]{Op: store.OpLoadThread, Args: "thr_1"},
			func(ctx context.Context, a *Answer[int]) error {
				driver.ReportVersion(ctx, "thr_1", 3, 3)
				_, deadline := ctx.Deadline()
				p, named := store.PrincipalFrom(ctx)
				if deadline || layer.HintsFor(ctx, store.OpLoadThread).Fresh() || named == share || named && p.Owner.Subject != "ada" {
					t.Errorf("sharing %v: deadline %v, principal %v %v", share, deadline, p, named)
				}
				a.Value = 7
				return nil
			})
		cancel()
		if r, ok := Only(a.Reports(), "thr_1"); err != nil || a.Value != 7 || !ok || r.After != 3 {
			t.Errorf("got %v, %v, %v", a.Value, a.Reports(), err)
		}
	}
}

func TestErrorsOfSharingAreErrorsOfAStore(t *testing.T) {
	for _, c := range []struct {
		err  error
		want store.Code
	}{
		{flight.ErrGoexit, store.CodeInternal},
		{context.DeadlineExceeded, store.CodeTimeout},
		{&store.Error{Code: store.CodeNotFound}, store.CodeNotFound},
		{store.ErrUnavailable, store.CodeUnavailable},
	} {
		if got := store.CodeOf(classify(context.Background(), store.OpLoadThread, store.RowThread, "thr_1", c.err)); got != c.want {
			t.Errorf("%v became %v", c.err, got)
		}
	}
}

func TestEqualReportsOfAReadCountAsOne(t *testing.T) {
	read, write := Report{"thr_1", 3, 3}, Report{"thr_1", 3, 4}
	for _, c := range []struct {
		reports []Report
		want    Report
	}{
		{nil, Report{}},
		{[]Report{read}, read},
		{[]Report{read, read, read}, read},
		{[]Report{write}, write},
		{[]Report{write, write}, Report{}},
		{[]Report{read, write}, Report{}},
		{[]Report{read, {"thr_1", 4, 4}}, Report{}},
		{[]Report{read, {"thr_2", 3, 3}}, Report{}},
		{[]Report{{"thr_2", 3, 3}, {"thr_2", 3, 3}}, Report{}},
	} {
		if got, ok := Only(c.reports, "thr_1"); got != c.want || ok != (c.want != Report{}) {
			t.Errorf("%v: got %v, %t, want %v", c.reports, got, ok, c.want)
		}
	}
}
