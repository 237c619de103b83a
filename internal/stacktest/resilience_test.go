package stacktest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/resilience"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
	"github.com/chatstore/chatstore/storetest/linear"
)

func TestResilienceInTheRecommendedStackKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := inRecommended(t, resilience.New(resilience.WithBulkhead(100))(memstore.New()), cache.New())
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}

// TestWhateverGoesWrongWithResilience plays the fault matrix with a base in the layer. Each fault stays, so every caller gets the
// same answer as without the layer, after at most two pauses. See TestWhateverGoesWrong.
func TestWhateverGoesWrongWithResilience(t *testing.T) {
	var retries atomic.Int64
	for _, stack := range []string{"cache", "singleflight"} {
		for n, op := range operations {
			name := stack + "/" + op.op.String()
			if op.look != 0 {
				name += " after " + op.look.String()
			}
			t.Run(name, func(t *testing.T) {
				for i, c := range cases(stack, op) {
					if (i+n)%tries(1, 5) != 0 {
						continue
					}
					synctest.Test(t, func(t *testing.T) { retries.Add(int64(playResilient(t, c))) })
					if t.Failed() {
						t.Fatal("the failed case: ", c)
					}
				}
			})
		}
	}
	if n := retries.Load(); n < int64(tries(500, 100)) {
		t.Errorf("%d retries: too few to prove anything", n)
	}
}

// playResilient plays a case of the matrix and returns the number of retries.
func playResilient(t *testing.T, c cell) (retries int) {
	const pauses = 150 * time.Millisecond // the upper bound of two
	r := newRig(t, c.stack)
	must(t, store.Close(r.s))
	middle := cache.New(cache.WithLoadTimeout(loadTimeout))
	if c.stack == "singleflight" {
		middle = singleflight.New(singleflight.WithLoadTimeout(loadTimeout))
	}
	r.s = store.Wrap(r.faulty, authz.New(authz.OwnerOnly(), authz.ShareBelow()), middle, resilience.New())
	defer func() { must(t, store.Close(r.s)) }()
	ctx := store.WithPrincipal(t.Context(), ada)
	if c.warm {
		rows(ctx, r.s)
	}
	w := c.promised()
	e, others := c.strike(ctx, t, r)
	tries := time.Duration(1)
	if c.op.op == store.OpSaveThread || c.op.op == store.OpSaveAttachment {
		tries = 3 // authz repeats some saves: see promised
	}
	if e.how != w.how || !slices.Contains(w.codes, e.code) || e.took < w.took || e.took > w.took+tries*pauses {
		t.Errorf("the call %v (%v), want: %s %v after %v", e, e.err, w.how, w.codes, w.took)
	}
	if c.op.op.IsWrite() && e.how == "returned" && store.IsDefinite(e.err) != w.definite {
		t.Errorf("the error %v is definite: %v, want %v", e.err, store.IsDefinite(e.err), w.definite)
	}
	for ow, i := c.others(w), 0; i < len(others); i++ {
		if o := others[i]; o.how != ow.how || !slices.Contains(ow.codes, o.code) {
			t.Errorf("another caller's call %v (%v), want: %s %v", o, o.err, ow.how, ow.codes)
		}
	}
	retries = counted(r.s, "chatstore_resilience_retries_total", "")
	if counted(r.s, "chatstore_resilience_breaker_open", "") != 0 {
		t.Error("the breaker is open")
	}
	r.faulty.Reset()
	truth := func(when string) {
		t.Helper()
		if want, got := rows(ctx, r.base), rows(ctx, r.s); got != want {
			t.Errorf("%s, the stack has other rows than the base (-base +stack):\n%s", when, cmp.Diff(want, got))
		}
	}
	truth("at once")
	must(t, r.late.Apply())
	truth("in the quarantine")
	if held := counted(r.s, "chatstore_cache_quarantined", ""); c.stack == "cache" && (held == 1) != (c.op.op.IsWrite() && !w.definite) {
		t.Errorf("%d counters are in quarantine after a write with a definite outcome: %v", held, w.definite)
	}
	time.Sleep(quarantine + time.Second)
	truth("after the quarantine")
	truth("after the quarantine, from the cache")
	return retries
}

// flaky is a base that loses some answers of reads and refuses some writes. It reports a lost connection as unavailable. It fails at
// most as often as the retry budget allows, so every call through the layer succeeds if the base does.
func flaky(base store.Store) store.Store {
	var calls, failures atomic.Int64
	return store.Wrap(base, layer.Intercept("flaky", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			fails := calls.Add(1)%4 == 0 && failures.Add(1) <= 10
			if fails && c.Op.IsWrite() {
				return errors.Join(store.ErrUnavailable, store.ErrNotApplied)
			}
			err := next(ctx)
			if fails && err == nil || store.CodeOf(err) == store.CodeInternal {
				return errors.Join(store.ErrUnavailable, err)
			}
			return err
		})))
}

// A read that is retried beneath a cache may begin before a write and end after it.
func TestRetriesAreLinearizable(t *testing.T) {
	t.Parallel()
	resilient := func(base store.Store) store.Store {
		// The breaker would refuse calls of histories in which many writes in a row fail.
		return resilience.New(resilience.WithRetries(9, 300*time.Microsecond), resilience.WithBreaker(0, 0))(flaky(base))
	}
	for _, tt := range []struct {
		name  string
		stack func(store.Store) store.Store
		floor linear.Coverage
		opts  []linear.Option
	}{
		{"alone", resilient, linear.Coverage{}, nil},
		{"beneath the cache", func(base store.Store) store.Store { return small()(resilient(base)) },
			linear.Coverage{Hits: 3000, PatchedHits: 100, Joined: 500, Evictions: 200}, nil},
		{"beneath the cache without versions", func(base store.Store) store.Store { return small()(resilient(base)) },
			linear.Coverage{Hits: 3000, Joined: 500, Evictions: 200}, []linear.Option{linear.WithoutVersions()}},
		{"beneath singleflight", func(base store.Store) store.Store { return singleflight.New()(resilient(base)) },
			linear.Coverage{Joined: 500}, nil},
		{"in the recommended stack", func(base store.Store) store.Store { return inRecommended(t, resilient(base), small()) },
			linear.Coverage{Hits: 3000, PatchedHits: 100, Joined: 500, Evictions: 200}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var stacks []store.Store
			tt.floor.Late, tt.floor.Cancelled = 30, 300
			linear.Run(t, func(base store.Store) store.Store {
				s := tt.stack(base)
				stacks = append(stacks, s)
				return s
			}, append(tt.opts, histories(10), seen(10, tt.floor))...)
			retries := 0
			for _, s := range stacks {
				retries += counted(s, "chatstore_resilience_retries_total", "")
			}
			if retries < 5*len(stacks) {
				t.Errorf("%d retries in %d histories: too few to prove anything", retries, len(stacks))
			}
		})
	}
}

// Cached rows are served, and a refused write has a definite outcome, which begins no quarantine.
func TestAnOpenBreakerBeneathTheCacheKeepsHits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := faulty.New(memstore.New())
		s := inRecommended(t, resilience.New()(base), cache.New())
		defer func() { must(t, store.Close(s)) }()
		seed(t, s, 30)
		ctx := caller(t.Context())
		load(t, ctx, s)
		page(t, ctx, s)
		base.Inject(faulty.Fault{Do: faulty.Fail(store.ErrUnavailable)})
		for counted(s, "chatstore_resilience_breaker_open", "") == 0 {
			_, _ = s.LoadThread(ctx, "thr_other")
		}
		calls := base.Total()
		load(t, ctx, s)
		page(t, ctx, s)
		err := s.AddThreadItem(ctx, threadID, endOfTurn("msg_a"))
		if store.CodeOf(err) != store.CodeUnavailable || !store.IsDefinite(err) {
			t.Errorf("a write: got %v", err)
		}
		if n := counted(s, "chatstore_cache_quarantined", ""); n != 0 || base.Total() != calls {
			t.Errorf("%d in quarantine, %d calls of the base", n, base.Total()-calls)
		}
		base.Reset()
		time.Sleep(resilience.DefaultBreakerOpen)
		must(t, s.AddThreadItem(ctx, threadID, endOfTurn("msg_a")))
	})
}

// Three attempts around three attempts would be nine, also where a shared load has a context of its own.
func TestRetriesAroundAndBeneathSharedLoadsDoNotMultiply(t *testing.T) {
	for name, middle := range map[string]store.Middleware{"cache": cache.New(), "singleflight": singleflight.New()} {
		synctest.Test(t, func(t *testing.T) {
			base := faulty.New(memstore.New())
			base.Inject(faulty.Fault{Do: faulty.Fail(store.ErrUnavailable)})
			s := store.Wrap(base, resilience.New(), authz.New(authz.OwnerOnly(), authz.ShareBelow()), middle, resilience.New())
			defer func() { must(t, store.Close(s)) }()
			ctx := caller(t.Context())
			for what, call := range map[string]func() error{
				"a load":                        func() error { return errOf(s.LoadThread(ctx, threadID)) },
				"the load of authz for a write": func() error { return s.SaveThread(ctx, chat.Thread{ID: threadID, CreatedAt: noon}) },
			} {
				before := base.Total()
				if err := call(); store.CodeOf(err) != store.CodeUnavailable || base.Total()-before != 3 {
					t.Errorf("%s, %s: %d attempts, want 3; %v", name, what, base.Total()-before, err)
				}
			}
		})
	}
}

func TestASharedLoadIsRetriedOnceForAllItsCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := faulty.New(memstore.New())
		s := store.Wrap(base, cache.New(), resilience.New())
		defer func() { must(t, store.Close(s)) }()
		must(t, s.SaveThread(t.Context(), titled("thr_1", "x")))
		base.Reset()
		base.Inject(faulty.Fault{Times: 1, Do: faulty.Fail(store.ErrUnavailable)})
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				if got := title(t.Context(), s); got != "x" {
					t.Errorf("got %s", got)
				}
			})
		}
		callers.Wait()
		if n := base.Total(); n != 2 {
			t.Errorf("%d calls of the base, want 2", n)
		}
	})
}
