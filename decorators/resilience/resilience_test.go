package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/decorators/resilience"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errNotApplied = fmt.Errorf("%w: %w", store.ErrUnavailable, store.ErrNotApplied)
	noBreaker     = resilience.WithBreaker(0, 0)
	noRetries     = resilience.WithRetries(0, 0)
)

// base is a base whose calls end as do says. It counts them.
type base struct {
	*spy.Base
	mu    sync.Mutex
	calls int
}

// over returns the layer over a base in whose nth call, counted from 1, do decides.
func over(do func(ctx context.Context, n int) error, opts ...resilience.Option) (store.Store, *base) {
	b := &base{}
	b.Base = &spy.Base{Forget: true, Do: func(ctx context.Context, _ store.Op) error {
		b.mu.Lock()
		b.calls++
		n := b.calls
		b.mu.Unlock()
		return do(ctx, n)
	}}
	return store.Wrap(b, resilience.New(opts...)), b
}

// fails returns errs in turn, and then nil.
func fails(errs ...error) func(context.Context, int) error {
	return func(_ context.Context, n int) error {
		if n <= len(errs) {
			return errs[n-1]
		}
		return nil
	}
}

// always returns err in each call.
func always(err error) func(context.Context, int) error {
	return func(context.Context, int) error { return err }
}

// hangs waits until the context ends.
func hangs(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

func read(ctx context.Context, s store.Store) error  { return spy.CallOp(ctx, s, store.OpLoadThread) }
func write(ctx context.Context, s store.Store) error { return spy.CallOp(ctx, s, store.OpSaveThread) }

// stat returns a number that the layers of s report.
func stat(s store.Store, name string) (sum int) {
	for r := range store.All[layer.StatsReporter](s) {
		for _, st := range r.AppendStats(nil) {
			if full := st.Name + st.Labels[0].Value; full == "chatstore_resilience_"+name {
				sum += int(st.Value)
			}
		}
	}
	return sum
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestWhatIsRetried(t *testing.T) {
	for _, tt := range []struct {
		name          string
		err           error
		reads, writes int // calls of the base
	}{
		{"ok", nil, 1, 1},
		{"unavailable", store.ErrUnavailable, 3, 1},
		{"unavailable and not applied", errNotApplied, 3, 3},
		{"not applied", store.ErrNotApplied, 3, 3},
		{"limited", store.ErrLimited, 1, 1},
		{"limited and not applied", &store.Error{Code: store.CodeLimited, Cause: store.ErrNotApplied}, 1, 1},
		{"internal", errors.New("driver"), 1, 1},
		{"internal and not applied", &store.Error{Code: store.CodeInternal, Cause: store.ErrNotApplied}, 1, 1},
		{"conflict", store.ErrConflict, 1, 1},
		{"not found", store.ErrNotFound, 1, 1},
		{"invalid", store.ErrInvalid, 1, 1},
		{"denied", store.ErrDenied, 1, 1},
		{"unauthenticated", store.ErrUnauthenticated, 1, 1},
		{"the base's own time limit", context.DeadlineExceeded, 1, 1},
		{"the base's own cancellation", context.Canceled, 1, 1},
	} {
		for _, op := range store.Ops() {
			bubble(t, func(t *testing.T) {
				s, b := over(always(tt.err))
				err := spy.CallOp(t.Context(), s, op)
				want := tt.reads
				if op.IsWrite() {
					want = tt.writes
				}
				if b.calls != want || err != tt.err {
					t.Errorf("%s, %s: %d calls, want %d; got %v", op, tt.name, b.calls, want, err)
				}
				if n := stat(s, "retries_total"); n != want-1 {
					t.Errorf("%s, %s: %d retries are counted, want %d", op, tt.name, n, want-1)
				}
			})
		}
	}
}

func TestARetryThatSucceedsIsTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, _ := over(fails(store.ErrUnavailable, store.ErrUnavailable))
		if th, err := s.LoadThread(t.Context(), "thr_1"); err != nil || th.Title != "answer" {
			t.Errorf("got %v, %v", th, err)
		}
		s, _ = over(fails(errNotApplied))
		unsettled := false
		ctx := spy.WithUnsettledRecorder(t.Context(), func(<-chan struct{}) { unsettled = true })
		if err := write(ctx, s); err != nil || unsettled {
			t.Errorf("got %v, unsettled %v", err, unsettled)
		}
	})
}

// A write that was not applied and is then lost has an unknown outcome.
func TestTheLastAttemptDecidesTheOutcomeOfAWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(fails(errNotApplied, store.ErrUnavailable))
		if err := write(t.Context(), s); err == nil || store.IsDefinite(err) || b.calls != 2 {
			t.Errorf("got %v after %d calls, want an unknown outcome after 2", err, b.calls)
		}
	})
}

func TestPausesAreRandomAndDouble(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var most [7]time.Duration
		for range 200 {
			var at []time.Time
			s, _ := over(func(context.Context, int) error {
				at = append(at, time.Now())
				return store.ErrUnavailable
			}, noBreaker, resilience.WithRetries(len(most), 50*time.Millisecond))
			_ = read(t.Context(), s)
			for i := range most {
				most[i] = max(most[i], at[i+1].Sub(at[i]))
			}
		}
		for i, got := range most {
			bound := min(50*time.Millisecond<<i, time.Second)
			if got > bound || got < bound*3/4 {
				t.Errorf("pause %d: at most %v in 200 calls, want nearly %v", i, got, bound)
			}
		}
	})
}

func TestACallerWhoLeavesInAPauseGetsTheBasesErrorAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for range 20 { // without a pause, its timer and the context are ready at once
			ctx, cancel := context.WithCancel(t.Context())
			s, b := over(func(context.Context, int) error { cancel(); return errNotApplied }, resilience.WithRetries(9, 0))
			if err := write(ctx, s); err != errNotApplied || b.calls != 1 {
				t.Errorf("got %v after %d calls", err, b.calls)
			}
		}
		for _, leave := range []time.Duration{0, time.Nanosecond} {
			ctx, cancel := context.WithCancel(t.Context())
			s, b := over(func(context.Context, int) error {
				if leave == 0 {
					cancel() // before the pause
				} else {
					time.AfterFunc(leave, cancel)
				}
				return errNotApplied
			}, resilience.WithRetries(9, time.Second))
			begin := time.Now()
			if err := write(ctx, s); err != errNotApplied || b.calls != 1 || time.Since(begin) != leave {
				t.Errorf("got %v after %d calls and %v", err, b.calls, time.Since(begin))
			}
			cancel()
		}
	})
}

// failsafe-go reported such a write as cancelled.
func TestAWriteThatSucceedsAfterItsCallerLeftIsASuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, _ := over(func(context.Context, int) error {
			cancel()
			time.Sleep(time.Second)
			return nil
		})
		begin := time.Now()
		if err := write(ctx, s); err != nil || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(begin))
		}
	})
}

func TestTheTimeLimitEndsEachAttempt(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(context.Context, int) error
		took time.Duration // of an attempt
		code store.Code
	}{
		{"a base that hangs", hangs, time.Second, store.CodeTimeout},
		{"a base that returns the cause", func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return fmt.Errorf("driver: %w", context.Cause(ctx))
		}, time.Second, store.CodeTimeout},
		{"a base that calls it a cancellation", func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return context.Canceled
		}, time.Second, store.CodeTimeout},
		{"a base that notices its context late", func(ctx context.Context, _ int) error {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return ctx.Err()
		}, time.Second + time.Minute, store.CodeTimeout},
		{"a base that ignores its context", func(context.Context, int) error {
			time.Sleep(time.Minute)
			return nil
		}, time.Minute, store.CodeOK},
		{"a base that calls it unavailable", func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return store.ErrUnavailable
		}, time.Second, store.CodeTimeout},
		{"a base that says so in its own way", func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
		}, time.Second, store.CodeTimeout},
	} {
		for _, call := range []func(context.Context, store.Store) error{read, write} {
			bubble(t, func(t *testing.T) {
				s, b := over(tt.do, resilience.WithTimeLimit(time.Second), resilience.WithRetries(2, 0))
				writes := call(t.Context(), store.Wrap(&spy.Base{Do: func(_ context.Context, op store.Op) error {
					if op.IsWrite() {
						return store.ErrConflict
					}
					return nil
				}})) != nil
				begin := time.Now()
				err := call(t.Context(), s)
				attempts := 1
				if !writes && tt.code == store.CodeTimeout {
					attempts = 3
				}
				if store.CodeOf(err) != tt.code || b.calls != attempts || time.Since(begin).Truncate(time.Millisecond) != time.Duration(attempts)*tt.took {
					t.Errorf("%s, write %v: got %v after %d calls and %v", tt.name, writes, err, b.calls, time.Since(begin))
				}
				if writes && store.IsDefinite(err) != (err == nil) {
					t.Errorf("%s: %v: definite is %v", tt.name, err, store.IsDefinite(err))
				}
				timeouts := attempts
				if tt.code != store.CodeTimeout {
					timeouts = 0
				}
				if n := stat(s, "timeouts_total"); n != timeouts {
					t.Errorf("%s: %d timeouts are counted, want %d", tt.name, n, timeouts)
				}
			})
		}
	}
}

// A base that ends a write in time, before it has an effect, says so. The caller must not lose that.
func TestAWriteEndedByTheTimeLimitKeepsItsDefiniteOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, end := range []error{context.DeadlineExceeded, context.Canceled} {
			s, b := over(func(ctx context.Context, _ int) error {
				<-ctx.Done()
				return errors.Join(end, store.ErrNotApplied)
			})
			if err := write(t.Context(), s); store.CodeOf(err) != store.CodeTimeout || !store.IsDefinite(err) || b.calls != 1 {
				t.Errorf("%v: got %v after %d calls", end, err, b.calls)
			}
		}
	})
}

func TestTheCallersDeadlineIsNotTheTimeLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(hangs, resilience.WithBreaker(1, time.Hour))
		for _, leave := range []func(context.Context) (context.Context, context.CancelFunc){
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Second)
			},
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Second, cancel)
				return ctx, cancel
			},
		} {
			ctx, cancel := leave(t.Context())
			err := read(ctx, s)
			if want := store.CodeOf(ctx.Err()); store.CodeOf(err) != want {
				t.Errorf("got %v, want %v", err, want)
			}
			cancel()
		}
		if b.calls != 2 || stat(s, "timeouts_total") != 0 || stat(s, "breaker_open") != 0 {
			t.Errorf("%d calls, %d timeouts, open %d", b.calls, stat(s, "timeouts_total"), stat(s, "breaker_open"))
		}
	})
}

// Three attempts around three attempts would be nine.
func TestNestedLayersDoNotMultiplyAttempts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, tt := range []struct{ outer, inner, want int }{{2, 2, 3}, {4, 1, 5}, {0, 2, 3}, {2, 0, 3}} {
			inner, b := over(always(store.ErrUnavailable), noBreaker, resilience.WithRetries(tt.inner, time.Second))
			s := store.Wrap(inner, resilience.New(noBreaker, resilience.WithRetries(tt.outer, time.Second)))
			if err := read(t.Context(), s); err != store.ErrUnavailable || b.calls != tt.want {
				t.Errorf("%d around %d retries: %d attempts, want %d; %v", tt.outer, tt.inner, b.calls, tt.want, err)
			}
		}
	})
}

// The outer layer alone retries, so it must know the time limit of the inner one.
func TestAnInnerTimeLimitIsRetriedByTheOuterLayer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		inner, b := over(func(ctx context.Context, n int) error {
			if n == 1 {
				return hangs(ctx, n)
			}
			return nil
		}, resilience.WithTimeLimit(time.Second))
		s := store.Wrap(inner, resilience.New())
		if err := read(t.Context(), s); err != nil || b.calls != 2 || stat(s, "timeouts_total") != 1 {
			t.Errorf("%v after %d calls, %d timeouts", err, b.calls, stat(s, "timeouts_total"))
		}
	})
}

func TestAPauseIsAtMostASecond(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(always(store.ErrUnavailable), noBreaker, resilience.WithRetries(2, math.MaxInt64))
		begin := time.Now()
		if _ = read(t.Context(), s); b.calls != 3 || time.Since(begin) > 2*time.Second {
			t.Errorf("%d calls in %v", b.calls, time.Since(begin))
		}
	})
}

// A caller who leaves in the pause has not retried.
func TestAPauseThatTheCallerLeavesCostsNoBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(always(store.ErrUnavailable), noBreaker, resilience.WithRetries(1, time.Second))
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Nanosecond, cancel)
			_ = read(ctx, s)
		}
		before := b.calls
		for range 10 {
			_ = read(t.Context(), s)
		}
		if n := b.calls - before; n != 20 {
			t.Errorf("%d attempts for 10 calls, want 20", n)
		}
	})
}

func TestRetriesAddATenthToTheCallsOfAFailingBase(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const calls, first = 1000, 10 // the budget begins with 10 retries
		s, b := over(always(store.ErrUnavailable), noBreaker)
		for range calls {
			_ = read(t.Context(), s)
		}
		if b.calls < calls+calls/10 || b.calls > calls+calls/10+first {
			t.Errorf("%d attempts for %d calls", b.calls, calls)
		}
		if n := stat(s, "refused_totalbudget"); n < calls-first-calls/10 {
			t.Errorf("the budget refused %d retries", n)
		}
		b.Do = func(context.Context, store.Op) error { return nil } // a quiet time does not save more than 10
		for range calls {
			_ = read(t.Context(), s)
		}
		before := stat(s, "retries_total")
		b.Do = func(context.Context, store.Op) error { return store.ErrUnavailable }
		for range 10 {
			_ = read(t.Context(), s)
		}
		if n := stat(s, "retries_total") - before; n < first || n > first+1 {
			t.Errorf("%d retries in 10 calls after a quiet time", n)
		}
	})
}

// Calls that the breaker refuses must not fill the budget.
func TestARefusedCallAddsNothingToTheBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(always(store.ErrUnavailable), resilience.WithBreaker(1000, time.Hour), resilience.WithRetries(1, 0))
		for b.calls < 1000 { // the budget is spent when the breaker opens
			_ = read(t.Context(), s)
		}
		for range 1000 {
			_ = read(t.Context(), s)
		}
		if b.calls != 1000 {
			t.Fatalf("%d calls: an open breaker let calls through", b.calls)
		}
		time.Sleep(time.Hour)
		b.Do = func(context.Context, store.Op) error { return nil }
		_ = read(t.Context(), s) // the probe closes it
		before := stat(s, "retries_total")
		b.Do = func(context.Context, store.Op) error { return store.ErrUnavailable }
		for range 20 {
			_ = read(t.Context(), s)
		}
		if n := stat(s, "retries_total") - before; n > 3 {
			t.Errorf("%d retries in 20 calls", n)
		}
	})
}

func TestWhatTheBreakerCounts(t *testing.T) {
	outcome := func(err error) func(context.Context, int) error { return always(err) }
	for _, tt := range []struct {
		name   string
		do     func(context.Context, int) error
		opens  bool // 20 such ends open a closed breaker
		closes bool // one such probe closes an open breaker
		frees  bool // the permit of such a probe is given back
	}{
		{"ok", outcome(nil), false, true, false},
		{"not found", outcome(store.ErrNotFound), false, true, false},
		{"conflict", outcome(store.ErrConflict), false, true, false},
		{"unavailable", outcome(store.ErrUnavailable), true, false, false},
		{"not applied", outcome(store.ErrNotApplied), true, false, false},
		{"the layer's time limit", hangs, true, false, false},
		{"internal", outcome(errors.New("one bad row")), false, false, true},
		{"limited", outcome(store.ErrLimited), false, false, true}, // perhaps by a layer beneath, which did not ask the base
		{"invalid", outcome(store.ErrInvalid), false, false, true}, // a base checks arguments before it asks its backend
		{"denied", outcome(store.ErrDenied), false, false, true},
		{"unauthenticated", outcome(store.ErrUnauthenticated), false, false, true},
		{"the base's own time limit", outcome(context.DeadlineExceeded), false, false, true},
		{"cancelled", outcome(context.Canceled), false, false, true},
		{"panic", func(context.Context, int) error { panic("boom") }, false, false, true},
		{"Goexit", func(context.Context, int) error { runtime.Goexit(); return nil }, false, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const open = 5 * time.Second
				opts := []resilience.Option{noRetries, resilience.WithBreaker(10, open), resilience.WithTimeLimit(time.Millisecond)}
				s, b := over(tt.do, opts...)
				for range 20 {
					_, _ = spy.Try(t.Context(), s, store.OpLoadThread)
				}
				if got := stat(s, "breaker_open") == 1; got != tt.opens || (b.calls == 10) != tt.opens {
					t.Errorf("open is %v after %d calls", got, b.calls)
				}

				healthy := false
				s, b = over(func(ctx context.Context, n int) error {
					switch {
					case n <= 10:
						return store.ErrUnavailable
					case healthy:
						return nil
					}
					return tt.do(ctx, n)
				}, opts...)
				for range 10 {
					_ = read(t.Context(), s)
				}
				time.Sleep(open)
				_, _ = spy.Try(t.Context(), s, store.OpLoadThread) // the probe
				if b.calls != 11 {
					t.Fatalf("%d calls, want 11", b.calls)
				}
				if got := stat(s, "breaker_open") == 0; got != tt.closes {
					t.Errorf("closed is %v after the probe", got)
				}
				healthy = true
				_ = read(t.Context(), s)
				if got := b.calls == 12; got != (tt.closes || tt.frees) {
					t.Errorf("the call after the probe was made: %v", got)
				}
				if got := stat(s, "breaker_open") == 0; got != (tt.closes || tt.frees) {
					t.Errorf("closed is %v after the next probe", got)
				}
			})
		})
	}
}

// failsafe-go's breaker was closed by three cancelled probes.
func TestThreeCancelledProbesNeitherCloseNorWedgeTheBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		down := true
		s, b := over(func(ctx context.Context, n int) error {
			if n <= 10 {
				return store.ErrUnavailable
			}
			if down {
				return hangs(ctx, n)
			}
			return nil
		}, noRetries)
		for range 10 {
			_ = read(t.Context(), s)
		}
		time.Sleep(resilience.DefaultBreakerOpen)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			done := make(chan error)
			go func() { done <- read(ctx, s) }()
			synctest.Wait()
			if err := read(t.Context(), s); store.CodeOf(err) != store.CodeUnavailable { // beside the probe
				t.Errorf("a second probe began: %v", err)
			}
			if err := <-done; store.CodeOf(err) != store.CodeTimeout {
				t.Errorf("the probe: %v", err)
			}
			cancel()
			if stat(s, "breaker_open") != 1 {
				t.Fatal("a cancelled probe closed the breaker")
			}
		}
		down = false
		if err := read(t.Context(), s); err != nil || b.calls != 14 || stat(s, "breaker_open") != 0 {
			t.Errorf("the next probe: %v after %d calls", err, b.calls)
		}
	})
}

func TestAnOpenBreakerRefusesWithADefiniteOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(always(store.ErrUnavailable), resilience.WithBreaker(1, time.Hour))
		_ = write(t.Context(), s)
		for _, op := range store.Ops() {
			unsettled := false
			ctx := spy.WithUnsettledRecorder(t.Context(), func(<-chan struct{}) { unsettled = true })
			begin := time.Now()
			err := spy.CallOp(ctx, s, op)
			e, _ := errors.AsType[*store.Error](err)
			if e == nil || e.Op != op || e.Code != store.CodeUnavailable || errors.Is(err, store.ErrNotApplied) != op.IsWrite() {
				t.Errorf("%s: got %#v", op, err)
			}
			if op.IsWrite() && !store.IsDefinite(err) || unsettled || time.Since(begin) != 0 {
				t.Errorf("%s: %v: unsettled %v, after %v", op, err, unsettled, time.Since(begin))
			}
		}
		if n := stat(s, "refused_totalbreaker"); b.calls != 1 || n != len(store.Ops()) {
			t.Errorf("%d calls, %d refused", b.calls, n)
		}
	})
}

func TestACallAfterItsContextsEndGetsTheContextsError(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(always(store.ErrUnavailable), noRetries, resilience.WithBreaker(1, time.Hour))
		_ = read(t.Context(), s)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, op := range store.Ops() {
			if err := spy.CallOp(ctx, s, op); store.CodeOf(err) != store.CodeCanceled || op.IsWrite() && !store.IsDefinite(err) {
				t.Errorf("%s: got %v", op, err)
			}
		}
		if b.calls != 1 || stat(s, "refused_totalbreaker") != 0 {
			t.Errorf("%d calls, %d refused", b.calls, stat(s, "refused_totalbreaker"))
		}
	})
}

// A retry that an open breaker would refuse is neither made nor waited for. The caller gets the base's error.
func TestRetriesDoNotHammerAnOpenBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, b := over(always(store.ErrUnavailable), resilience.WithBreaker(1, time.Hour), resilience.WithRetries(5, time.Second))
		begin := time.Now()
		if err := read(t.Context(), s); err != store.ErrUnavailable || b.calls != 1 || time.Since(begin) != 0 {
			t.Errorf("got %v after %d calls and %v", err, b.calls, time.Since(begin))
		}
		// Another call opens it during the pause.
		s, b = over(always(errNotApplied), resilience.WithBreaker(2, time.Hour), resilience.WithRetries(5, time.Second))
		done := make(chan error)
		go func() { done <- write(t.Context(), s) }()
		synctest.Wait()
		_ = write(t.Context(), s)
		if err := <-done; err != errNotApplied || b.calls != 2 {
			t.Errorf("got %v after %d calls", err, b.calls)
		}
	})
}

func TestTheBulkheadRefusesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		open := make(chan struct{})
		s, b := over(func(context.Context, int) error { <-open; return nil }, resilience.WithBulkhead(2))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { testenv.Must(t, read(t.Context(), s)) })
		}
		synctest.Wait()
		begin := time.Now()
		err := write(t.Context(), s)
		if store.CodeOf(err) != store.CodeUnavailable || !errors.Is(err, store.ErrNotApplied) || time.Since(begin) != 0 || b.calls != 2 {
			t.Errorf("got %v after %v and %d calls", err, time.Since(begin), b.calls)
		}
		if n := stat(s, "refused_totalbulkhead"); n != 1 || stat(s, "retries_total") != 0 {
			t.Errorf("%d refused", n)
		}
		close(open)
		wg.Wait()
		testenv.Must(t, write(t.Context(), s))
	})
}

// A caller who waits for a retry leaves his place to others.
func TestAPauseTakesNoPlaceInTheBulkhead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, _ := over(fails(store.ErrUnavailable), resilience.WithBulkhead(1), resilience.WithRetries(1, time.Second))
		done := make(chan error)
		go func() { done <- read(t.Context(), s) }()
		synctest.Wait()
		testenv.Must(t, read(t.Context(), s))
		testenv.Must(t, <-done)
	})
}

func TestPanicAndGoexitGiveThePlaceBack(t *testing.T) {
	for name, do := range map[string]func(context.Context, int) error{
		"panic":  func(context.Context, int) error { panic("boom") },
		"Goexit": func(context.Context, int) error { runtime.Goexit(); return nil },
	} {
		s, b := over(do, resilience.WithBulkhead(1))
		for range 3 {
			if v, _ := spy.Try(t.Context(), s, store.OpSaveThread); name == "panic" && v != "boom" {
				t.Errorf("panicked with %v", v)
			}
		}
		if b.calls != 3 {
			t.Errorf("%s: %d calls, want 3", name, b.calls)
		}
	}
}

func TestEveryOutcomePassesThrough(t *testing.T) {
	for _, op := range store.Ops() {
		for _, o := range spy.Outcomes() {
			t.Run(op.String()+"/"+o.Name, func(t *testing.T) {
				bubble(t, func(t *testing.T) { o.Through(t, resilience.New(resilience.WithBulkhead(1)), op) })
			})
		}
	}
}

func TestEachStoreHasItsOwnBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		mw := resilience.New(resilience.WithBreaker(1, time.Hour))
		bad := store.Wrap(&spy.Base{Do: func(context.Context, store.Op) error { return store.ErrUnavailable }}, mw)
		good := store.Wrap(&spy.Base{}, mw)
		_ = read(t.Context(), bad)
		if stat(bad, "breaker_open") != 1 || read(t.Context(), good) != nil {
			t.Error("the breaker of one store opened that of another")
		}
	})
}

func TestTheStatisticsAreReportedFromTheStart(t *testing.T) {
	s := store.Wrap(memstore.New(), resilience.New())
	if got := store.Layers(s); !slices.Equal(got, []string{"resilience", "memstore"}) {
		t.Errorf("the layers are %v", got)
	}
	var names []string
	for r := range store.All[layer.StatsReporter](s) {
		for _, st := range r.AppendStats(nil) {
			if st.Value != 0 || st.Help == "" {
				t.Errorf("%+v", st)
			}
			names = append(names, st.Name+st.Labels[0].Value)
		}
	}
	const p = "chatstore_resilience_"
	want := []string{p + "retries_total", p + "timeouts_total", p + "refused_totalbreaker", p + "refused_totalbulkhead",
		p + "refused_totalbudget", p + "breaker_open"}
	if !slices.Equal(names, want) {
		t.Errorf("got %v", names)
	}
}

func TestMisuseIsRefusedAtConstruction(t *testing.T) {
	for want, f := range map[string]func(){
		"resilience.WithTimeLimit: the time is negative":                     func() { resilience.WithTimeLimit(-1) },
		"resilience.WithRetries: the number or the":                          func() { resilience.WithRetries(-1, 0) },
		"resilience.WithRetries: the number or the pause is negative: use 0": func() { resilience.WithRetries(1, -1) },
		"resilience.WithBreaker: the number of failures is negative":         func() { resilience.WithBreaker(-1, 1) },
		"resilience.WithBreaker: the time is not positive":                   func() { resilience.WithBreaker(1, 0) },
		"resilience.WithBulkhead: the number is negative":                    func() { resilience.WithBulkhead(-1) },
	} {
		testenv.Panics(t, want, f)
	}
}

// Without a part, the others still work.
func TestEachPartCanBeSwitchedOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for name, tt := range map[string]struct {
			opt   resilience.Option
			calls int
			code  store.Code
		}{
			"no time limit": {resilience.WithTimeLimit(0), 1, store.CodeOK},
			"no retries":    {noRetries, 1, store.CodeTimeout},
			"all":           {noBreaker, 3, store.CodeTimeout},
		} {
			s, b := over(func(ctx context.Context, _ int) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Hour):
					return nil
				}
			}, tt.opt)
			if err := read(t.Context(), s); store.CodeOf(err) != tt.code || b.calls != tt.calls {
				t.Errorf("%s: got %v after %d calls", name, err, b.calls)
			}
		}
		s, b := over(always(store.ErrUnavailable), noBreaker, noRetries)
		for range 100 {
			_ = read(t.Context(), s)
		}
		if b.calls != 100 {
			t.Errorf("without a breaker: %d calls, want 100", b.calls)
		}
	})
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return store.Wrap(memstore.New(), resilience.New(resilience.WithBulkhead(100)))
	}, storetest.WithVersionsRequired())
}

// The contract also holds where attempts fail before they take effect.
func TestConformanceOverABaseThatFails(t *testing.T) {
	retried := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		f := faulty.New(memstore.New())
		var calls atomic.Int64
		f.Inject(faulty.Fault{Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			if ctx.Err() != nil || calls.Add(1)%12 != 0 {
				return next(ctx)
			}
			return errNotApplied
		}})
		s := store.Wrap(f, resilience.New(resilience.WithRetries(5, time.Microsecond)))
		t.Cleanup(func() { retried += stat(s, "retries_total") })
		return s
	}, storetest.WithVersionsRequired())
	if retried < 100 {
		t.Errorf("%d retries: too few to prove anything", retried)
	}
}
