package limit_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/limit"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var must = testenv.Must

// as returns the context of a caller.
func as(tenant, subject string, roles ...string) context.Context {
	return store.WithPrincipal(context.Background(), store.Principal{Owner: chat.Owner{Tenant: tenant, Subject: subject}, Roles: roles})
}

// read and write make a call, which the base answers with nil.
func read(ctx context.Context, s store.Store) error { return spy.CallOp(ctx, s, store.OpLoadThread) }

func write(ctx context.Context, s store.Store) error { return spy.CallOp(ctx, s, store.OpSaveThread) }

// over returns the layer over a base that answers every call, or does what do says.
func over(do func(context.Context, store.Op) error, opts ...limit.Option) store.Store {
	return limit.New(opts...)(&spy.Base{Forget: true, Do: do})
}

// allowed returns how many of n calls are not refused.
func allowed(n int, call func() error) (ok int) {
	for range n {
		if err := call(); err == nil {
			ok++
		} else if !errors.Is(err, store.ErrLimited) {
			panic(err)
		}
	}
	return ok
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := store.Wrap(memstore.New(), limit.New(limit.WithReads(1e6, 1e6), limit.WithWrites(1e6, 1e6), limit.WithInFlight(1000)))
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}

func TestAnOwnerHasItsBurstAndThenItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := over(nil, limit.WithReads(10, 5)), as("acme", "ada")
		if n := allowed(20, func() error { return read(ctx, s) }); n != 5 {
			t.Errorf("%d calls at once, want 5", n)
		}
		for range 100 {
			e, _ := errors.AsType[*store.Error](read(ctx, s))
			if e == nil || e.RetryAfter != 100*time.Millisecond {
				t.Fatalf("got error %#v, want one with 100 ms to wait", e)
			}
			time.Sleep(e.RetryAfter - time.Nanosecond)
			if err := read(ctx, s); err == nil {
				t.Fatal("a call before its time was not refused")
			}
			time.Sleep(time.Nanosecond)
			must(t, read(ctx, s))
		}
		time.Sleep(time.Hour)
		if n := allowed(20, func() error { return read(ctx, s) }); n != 5 {
			t.Errorf("%d calls at once after an hour, want 5", n)
		}
	})
}

// A rate whose interval is no whole number of nanoseconds is rounded down.
func TestARateIsNeverExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ctx := over(nil, limit.WithReads(3e8, 1)), as("acme", "ada") // every 3.33 ns
		n, begin := 0, time.Now()
		for time.Since(begin) < 10*time.Microsecond {
			n += allowed(1, func() error { return read(ctx, s) })
			time.Sleep(time.Nanosecond)
		}
		if n > 3001 {
			t.Errorf("%d calls in 10 µs, want 3,000 at most", n)
		}
	})
}

func TestARefusedCallIsLimitedAndNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, op := range store.Ops() {
			calls := 0
			s := over(func(context.Context, store.Op) error { calls++; return nil }, limit.WithReads(1, 1), limit.WithWrites(1, 1))
			ctx := as("acme", "ada")
			must(t, spy.CallOp(ctx, s, op))
			err := spy.CallOp(ctx, s, op)
			e, _ := errors.AsType[*store.Error](err)
			if !errors.Is(err, store.ErrLimited) || e.Op != op || e.RetryAfter != time.Second {
				t.Errorf("%v: got error %#v, want one of the op, with a second to wait", op, err)
			}
			if op.IsWrite() != errors.Is(err, store.ErrNotApplied) {
				t.Errorf("%v: the error %v wraps ErrNotApplied: %t", op, err, !op.IsWrite())
			}
			if calls != 1 {
				t.Errorf("%v: the base got %d calls, want 1", op, calls)
			}
		}
	})
}

func TestReadsAndWritesHaveLimitsOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			opts          []limit.Option
			reads, writes int
		}{
			{[]limit.Option{limit.WithReads(1, 3), limit.WithWrites(1, 4)}, 3, 4},
			{[]limit.Option{limit.WithReads(1, 3)}, 3, 10},
			{[]limit.Option{limit.WithWrites(1, 4)}, 10, 4},
			{[]limit.Option{limit.WithInFlight(1)}, 10, 10},
		} {
			s, ctx := over(nil, c.opts...), as("acme", "ada")
			r := allowed(10, func() error { return read(ctx, s) })
			w := allowed(10, func() error { return write(ctx, s) })
			if r != c.reads || w != c.writes {
				t.Errorf("%d reads and %d writes, want %d and %d", r, w, c.reads, c.writes)
			}
		}
	})
}

func TestOwnersAreApartAndRolesAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := over(nil, limit.WithReads(1, 3))
		for _, who := range []struct {
			ctx  context.Context
			want int
		}{
			{as("acme", "ada"), 3}, {as("acme", "bob"), 3}, {as("other", "ada"), 3}, {as("ac", "meada"), 3}, {as("", "acmeada"), 3},
			{as("acme", "ada", "admin"), 0},
			{context.Background(), 3}, {as("acme", ""), 0}, {as("acme", "a\x00"), 0}, // can own no row, so they share one limit
		} {
			if n := allowed(10, func() error { return read(who.ctx, s) }); n != who.want {
				p, _ := store.PrincipalFrom(who.ctx)
				t.Errorf("%d calls of %q, want %d", n, p, who.want)
			}
		}
	})
}

func TestMakingIdsIsNotLimited(t *testing.T) {
	base := &spy.Base{}
	s := limit.New(limit.WithReads(1, 1), limit.WithWrites(1, 1), limit.WithInFlight(1))(base)
	for range 10 {
		s.GenerateThreadID(t.Context())
		s.GenerateItemID(t.Context(), chat.KindMessage, chat.Thread{})
	}
	must(t, read(t.Context(), s))
	must(t, write(t.Context(), s))
	if n := len(base.Calls()); n != 22 {
		t.Errorf("the base got %d calls, want 22", n)
	}
}

// An attacker who can call as many other owners cannot make the layer forget a bucket, as it could with a cache of buckets. Nor
// does that keep others from their calls.
func TestAFloodOfOwnersDoesNotWashABucketOut(t *testing.T) {
	oneGoroutine(t)
	synctest.Test(t, func(t *testing.T) {
		s := over(nil, limit.WithReads(10, 20))
		attacker, made, refused, calls := as("evil", "mallory"), 0, 0, 0
		call := func(ctx context.Context) {
			if calls++; read(ctx, s) != nil {
				refused++
			}
		}
		for tick := range 600 { // of 10 ms
			for i := range 1000 {
				call(as("evil", fmt.Sprint(tick, "-", i)))
			}
			call(as("acme", fmt.Sprint(tick%20))) // five calls a second each
			made += allowed(3, func() error { return read(attacker, s) })
			time.Sleep(10 * time.Millisecond)
		}
		if made < 75 || made > 80 {
			t.Errorf("the attacker made %d calls in 6 s, want 79", made)
		}
		if refused > 10 {
			t.Errorf("%d of %d calls of others were refused", refused, calls)
		}
	})
}

// TestOthersAreRefusedAsRarelyAsDocumented checks the numbers of the package comment: with n owners at their limit, a share of
// (1 - e^(-n/32768))^4. The bounds are six standard deviations away. Owners below their limit must not add up to it.
func TestOthersAreRefusedAsRarelyAsDocumented(t *testing.T) {
	oneGoroutine(t)
	synctest.Test(t, func(t *testing.T) {
		const burst, others = 50, 100_000
		for _, c := range []struct{ owners, calls, least, most int }{
			{1000, burst, 0, 5}, {5000, burst, 4, 80}, {10000, burst, 340, 620}, {20000, burst / 2, 0, 5},
		} {
			s := over(nil, limit.WithReads(1, burst))
			for i := range c.owners {
				ctx := as("busy", fmt.Sprint(i))
				allowed(c.calls, func() error { return read(ctx, s) })
			}
			refused := others - allowed(others, counting(func(i int) error { return read(as("acme", fmt.Sprint(i)), s) }))
			if refused < c.least || refused > c.most {
				t.Errorf("after %d calls of %d owners each, %d of %d others were refused, want %d to %d",
					c.calls, c.owners, refused, others, c.least, c.most)
			}
			t.Logf("after %d calls of %d owners each, %d of %d others were refused", c.calls, c.owners, refused, others)
		}
	})
}

// counting returns a function that calls f with 0, 1, 2 and so on.
func counting(f func(int) error) func() error {
	i := -1
	return func() error { i++; return f(i) }
}

// Two calls at one instant must not take the same place.
func TestConcurrentCallsOfAnOwnerTakeItsBurstExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst = 200_000
		s, ctx := over(nil, limit.WithReads(1, burst)), as("acme", "ada")
		var ok atomic.Int64
		together(func() { ok.Add(int64(allowed(burst/4, func() error { return read(ctx, s) }))) })
		if n := ok.Load(); n != burst {
			t.Errorf("%d calls at one instant, want %d", n, burst)
		}
	})
}

func TestConcurrentCallsInFlightAreCountedExactly(t *testing.T) {
	var now atomic.Int64
	s, ctx := over(func(context.Context, store.Op) error {
		defer now.Add(-1)
		if now.Add(1) > 3 {
			t.Error("more than three calls in flight")
		}
		runtime.Gosched()
		return nil
	}, limit.WithInFlight(3)), as("acme", "ada")
	together(func() { allowed(2000, func() error { return write(ctx, s) }) })
	if n := allowed(10, func() error { return read(ctx, s) }); n != 10 {
		t.Errorf("when all calls had ended, %d of 10 were made", n)
	}
}

// together runs f in eight goroutines.
func together(f func()) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(f)
	}
	wg.Wait()
}

// oneGoroutine skips a long test in which the race detector can find nothing.
func oneGoroutine(t *testing.T) {
	if testenv.Race {
		t.Skip("one goroutine makes the calls: runs without -race")
	}
}

// held is a base that holds its calls until it is told how to end one.
type held chan func() error

func (h held) do(ctx context.Context, _ store.Op) error {
	select {
	case end := <-h:
		return end()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestCallsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := make(held)
		s := over(base.do, limit.WithInFlight(3))
		ctx, leave := context.WithCancel(as("acme", "ada"))
		var callers sync.WaitGroup
		begin := func(op store.Op) {
			callers.Go(func() { _, _ = spy.Try(ctx, s, op) })
			synctest.Wait()
		}
		begin(store.OpLoadThread)
		begin(store.OpSaveThread)
		begin(store.OpLoadThread)
		for name, end := range map[string]func() error{
			"an answer": func() error { return nil },
			"an error":  func() error { return store.ErrUnavailable },
			"a panic":   func() error { panic("boom") },
			"Goexit":    func() error { runtime.Goexit(); return nil },
		} {
			for _, call := range []func(context.Context, store.Store) error{read, write} {
				err := call(ctx, s)
				if e, _ := errors.AsType[*store.Error](err); !errors.Is(err, store.ErrLimited) || e.RetryAfter != 0 {
					t.Fatalf("a fourth call ended with %#v, want ErrLimited and no time to wait", err)
				}
			}
			base <- end
			synctest.Wait()
			begin(store.OpLoadThread) // has the place of the call that has ended
			if err := read(ctx, s); !errors.Is(err, store.ErrLimited) {
				t.Fatalf("after %s, the owner has more than one place: %v", name, err)
			}
		}
		callers.Go(func() { must(t, read(as("acme", "bob"), s)) }) // others have places of their own
		synctest.Wait()
		leave()
		synctest.Wait() // but bob's call has ended
		base <- func() error { return nil }
		callers.Wait()
	})
}

// A call that one limit refuses takes nothing from the other.
func TestARefusedCallTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := make(held)
		s, ctx := over(base.do, limit.WithReads(1, 3), limit.WithInFlight(2)), as("acme", "ada")
		for range 2 {
			go func() { must(t, read(ctx, s)) }()
		}
		synctest.Wait()
		if allowed(10, func() error { return read(ctx, s) }) != 0 {
			t.Fatal("a third call was in flight")
		}
		for range 2 {
			base <- func() error { return nil }
		}
		synctest.Wait()
		go func() { must(t, read(ctx, s)) }() // the third of the burst
		synctest.Wait()
		base <- func() error { return nil }
		synctest.Wait()
		if allowed(10, func() error { return read(ctx, s) }) != 0 {
			t.Fatal("a fourth call of the burst was made")
		}
		time.Sleep(2 * time.Second)
		for range 2 {
			go func() { must(t, read(ctx, s)) }() // both places are free
		}
		synctest.Wait()
		for range 2 {
			base <- func() error { return nil }
		}
	})
}

func TestMemoryIsFixed(t *testing.T) {
	oneGoroutine(t)
	before := testenv.Heap()
	s := over(nil, limit.WithReads(10, 20), limit.WithWrites(10, 20), limit.WithInFlight(5))
	if n := testenv.Heap() - before; n > 2<<20+1<<16 {
		t.Errorf("the layer takes %d bytes, want about 2 MiB", n)
	}
	flood := func(tenant string) int {
		for i := range 100_000 {
			ctx := as(tenant, fmt.Sprint(i))
			_, _ = read(ctx, s), write(ctx, s)
		}
		return testenv.Heap()
	}
	before = flood("acme") // also fills the tables of package unique, which holds principals
	if n := flood("other") - before; n > 1<<20 {
		t.Errorf("100,000 more owners take %d bytes", n)
	}
	runtime.KeepAlive(s)
}

// quiet is a base that allocates nothing.
type quiet struct{ store.Store }

func (quiet) LoadThread(context.Context, string) (chat.Thread, error) { return chat.Thread{}, nil }

func TestAnAdmittedCallAllocatesNothing(t *testing.T) {
	for name, opts := range map[string][]limit.Option{
		"rates": {limit.WithReads(1e9, 1e6)}, "all": {limit.WithReads(1e9, 1e6), limit.WithInFlight(5)},
	} {
		s, ctx := limit.New(opts...)(quiet{}), as("acme", "ada")
		if n := testing.AllocsPerRun(1000, func() { _, _ = s.LoadThread(ctx, "thr_1") }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestToldToShareItPanics(t *testing.T) {
	const want = "limit.New: beneath a guard that shares between principals, such as authz with ShareBelow, " +
		"all callers would share one limit: put limit before the guard in store.Wrap"
	one := limit.New(limit.WithReads(1, 1))
	for name, mw := range map[string][]store.Middleware{
		"beneath the cache":  {authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), one},
		"between both":       {authz.New(authz.OwnerOnly(), authz.ShareBelow()), one, cache.New()},
		"beneath authz only": {authz.New(authz.OwnerOnly(), authz.ShareBelow()), one},
	} {
		t.Run(name, func(t *testing.T) { testenv.Panics(t, want, func() { store.Wrap(memstore.New(), mw...) }) })
	}
	for _, mw := range [][]store.Middleware{
		{one, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New()},
		{authz.New(authz.OwnerOnly()), one, cache.New()},
		{authz.New(authz.OwnerOnly()), cache.New(), one},
	} {
		must(t, store.Close(store.Wrap(memstore.New(), mw...)))
	}
}

func TestAuthzPassesTheTimeToWaitOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()), limit.New(limit.WithReads(1, 1), limit.WithWrites(0.1, 1)))
		ctx := as("acme", "ada")
		must(t, s.SaveThread(ctx, chat.Thread{ID: "thr_1", CreatedAt: time.Now()})) // reads the owner, then writes
		wait := func(err error, want time.Duration) {
			t.Helper()
			if e, _ := errors.AsType[*store.Error](err); !errors.Is(err, store.ErrLimited) || e.RetryAfter != want || !store.IsDefinite(err) {
				t.Errorf("got error %#v, want ErrLimited with %v to wait", err, want)
			}
		}
		_, err := s.LoadThread(ctx, "thr_1")
		wait(err, time.Second)
		wait(s.DeleteThread(ctx, "thr_1"), time.Second) // authz's read of the owner
		time.Sleep(time.Second)
		wait(s.DeleteThread(ctx, "thr_1"), 9*time.Second)
	})
}

func TestStatistics(t *testing.T) {
	s := over(func(context.Context, store.Op) error { return nil }, limit.WithReads(1e-3, 1), limit.WithWrites(1e-3, 2))
	for range 10 {
		_, _ = read(t.Context(), s), write(t.Context(), s)
	}
	var busy store.Store
	busy = over(func(ctx context.Context, op store.Op) error {
		if op == store.OpSaveThread { // a call within a call
			return read(ctx, busy)
		}
		return nil
	}, limit.WithInFlight(1))
	if err := write(t.Context(), busy); !errors.Is(err, store.ErrLimited) {
		t.Fatal(err)
	}
	for s, want := range map[store.Store]string{s: "reads 9, writes 8, in_flight 0, ", busy: "reads 0, writes 0, in_flight 1, "} {
		got := ""
		r, _ := store.As[layer.StatsReporter](s)
		for _, st := range r.AppendStats(nil) {
			if st.Name != "chatstore_limit_refused_total" || !st.Counter || st.Labels[0].Name != "kind" {
				t.Errorf("got %+v", st)
			}
			got += fmt.Sprint(st.Labels[0].Value, " ", st.Value, ", ")
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestEveryStackHasLimitsOfItsOwnAndOneLayer(t *testing.T) {
	mw := limit.New(limit.WithReads(1e-3, 1), limit.WithInFlight(1))
	for range 2 {
		s := mw(&spy.Base{})
		must(t, read(t.Context(), s))
		if n := store.Layers(s); !slices.Equal(n, []string{"limit", "*spy.Base"}) {
			t.Errorf("layers %q", n)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	for _, c := range []struct {
		want string
		f    func()
	}{
		{"limit.New: there is no limit", func() { limit.New() }},
		{"limit.WithReads: the rate is not positive", func() { limit.WithReads(0, 1) }},
		{"limit.WithReads: the rate is not positive", func() { limit.WithReads(math.NaN(), 1) }},
		{"limit.WithWrites: the rate is not positive", func() { limit.WithWrites(-1, 1) }},
		{"limit.WithWrites: the burst is less than 1", func() { limit.WithWrites(1, 0) }},
		{"limit.WithReads: the burst takes over a year to come back", func() { limit.WithReads(1e-9, 1) }},
		{"limit.WithReads: the burst takes over a year to come back", func() { limit.WithReads(1, math.MaxInt) }},
		{"limit.WithInFlight: the number is less than 1", func() { limit.WithInFlight(0) }},
	} {
		testenv.Panics(t, c.want, c.f)
	}
	s := over(nil, limit.WithReads(math.Inf(1), 1000)) // no limit in practice
	must(t, read(t.Context(), s))
}

func BenchmarkAdmitted(b *testing.B) {
	for name, opts := range map[string][]limit.Option{
		"rates": {limit.WithReads(1e9, 1e6)}, "in flight": {limit.WithInFlight(1000)},
		"all": {limit.WithReads(1e9, 1e6), limit.WithInFlight(1000)},
	} {
		b.Run(name, func(b *testing.B) {
			var base store.Store = quiet{}
			s, ctx := limit.New(opts...)(base), as("acme", "ada")
			spy.InTurns(b, "xBase", func() { _, _ = s.LoadThread(ctx, "thr_1") }, func() { _, _ = base.LoadThread(ctx, "thr_1") })
		})
	}
}

func BenchmarkAdmittedOfManyOwners(b *testing.B) {
	s := limit.New(limit.WithReads(1e6, 1e6))(quiet{})
	var ctxs [1 << 14]context.Context
	for i := range ctxs {
		ctxs[i] = as("acme", fmt.Sprint(i))
	}
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := int(next.Add(1)) << 12; pb.Next(); i++ {
			_, _ = s.LoadThread(ctxs[i%len(ctxs)], "thr_1")
		}
	})
}
