package lifecycle_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// aged saves ada's threads thr_0 to thr_9. thr_i is i days old, and so are its items.
func aged(t *testing.T, s store.Store) {
	t.Helper()
	for i := range 10 {
		at := time.Now().Add(time.Duration(-i) * 24 * time.Hour)
		id := fmt.Sprint("thr_", i)
		testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: at, Owner: ada}))
		testenv.Must(t, s.AddThreadItem(t.Context(), id, testenv.OrPanic(chat.NewItem("msg_1", at, chat.EndOfTurn{}))))
	}
}

// left returns the numbers of the threads that are there.
func left(t *testing.T, s store.Store) (all []int) {
	t.Helper()
	for th, err := range lifecycle.Threads(t.Context(), s, store.AnyOwner()) {
		testenv.Must(t, err)
		n := 0
		_, err := fmt.Sscanf(th.ID, "thr_%d", &n)
		testenv.Must(t, err)
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

func TestPruneDeletesOldThreadsOnly(t *testing.T) {
	const day = 24 * time.Hour
	inactive := lifecycle.WithInactive(4*day + time.Hour)
	keep := lifecycle.WithHold(func(_ context.Context, th chat.Thread) (bool, error) { return th.ID == "thr_7", nil })
	for name, c := range map[string]struct {
		opts []lifecycle.Option
		want lifecycle.Pruned
		left []int
	}{
		"by age":           {[]lifecycle.Option{inactive}, lifecycle.Pruned{Deleted: 5}, []int{0, 1, 2, 3, 4}},
		"by number":        {[]lifecycle.Option{lifecycle.WithNewest(3)}, lifecycle.Pruned{Deleted: 7}, []int{0, 1, 2}},
		"but what is held": {[]lifecycle.Option{inactive, keep}, lifecycle.Pruned{Deleted: 4, Held: 1}, []int{0, 1, 2, 3, 4, 7}},
		"dry":              {[]lifecycle.Option{inactive, lifecycle.WithDryRun()}, lifecycle.Pruned{Deleted: 5}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		"none":             {[]lifecycle.Option{lifecycle.WithNewest(10)}, lifecycle.Pruned{}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
	} {
		s := store.Wrap(memstore.New(), cache.New())
		aged(t, s)
		testenv.Value(s.LoadThread(t.Context(), "thr_9"))(t)
		done, err := lifecycle.Prune(t.Context(), s, store.OwnedBy(ada), c.opts...)
		if got := left(t, s); err != nil || done != c.want || !slices.Equal(got, c.left) {
			t.Errorf("%s: %+v, %v, left %v; want %+v, left %v", name, done, err, got, c.want, c.left)
		}
		if _, err := s.LoadThread(t.Context(), "thr_9"); errors.Is(err, store.ErrNotFound) == slices.Contains(c.left, 9) {
			t.Errorf("%s: through the cache: %v", name, err)
		}
		testenv.Must(t, store.Close(s))
	}
	s := memstore.New()
	aged(t, s)
	if done, err := lifecycle.Prune(t.Context(), s, store.OwnedBy(bob), inactive); err != nil || done != (lifecycle.Pruned{}) {
		t.Errorf("another owner's: %+v, %v", done, err)
	}
}

// A thread that is written to between its finding and its deletion stays. Its version belongs to the finding: one read later would
// let the deletion pass.
func TestPruneKeepsWhatIsWrittenToMeanwhile(t *testing.T) {
	for name, opt := range map[string]lifecycle.Option{"by age": lifecycle.WithInactive(time.Hour), "by number": lifecycle.WithNewest(1)} {
		base := memstore.New()
		aged(t, base)
		s := faulty.New(base)
		s.Inject(faulty.Fault{Op: store.OpDeleteThread, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.ThreadID == "thr_5" {
				now := testenv.OrPanic(chat.NewItem("msg_2", time.Now(), chat.EndOfTurn{}))
				testenv.Must(t, base.AddThreadItem(context.WithoutCancel(t.Context()), "thr_5", now))
			}
			return next(ctx)
		}})
		done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), opt)
		if got := left(t, base); err != nil || done != (lifecycle.Pruned{Deleted: 8, Changed: 1}) || !slices.Equal(got, []int{0, 5}) {
			t.Errorf("%s: %+v, %v, left %v", name, done, err, got)
		}
	}
}

func TestPartsShareTheWork(t *testing.T) {
	s := memstore.New()
	aged(t, s)
	sum := 0
	for i := range 3 {
		done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), lifecycle.WithNewest(0), lifecycle.WithPart(i, 3))
		testenv.Must(t, err)
		if done.Deleted == 10 {
			t.Error("one part has all")
		}
		sum += done.Deleted
	}
	if sum != 10 {
		t.Errorf("%d threads in three parts", sum)
	}
}

func TestPruneRefusesAStoreThatCannot(t *testing.T) {
	base := memstore.New()
	aged(t, base)
	for name, c := range map[string]struct {
		s   store.Store
		opt lifecycle.Option
	}{
		"no Inactive": {struct{ store.Store }{base}, lifecycle.WithInactive(time.Hour)},
		"no versions": {spy.Unversioned(base), lifecycle.WithNewest(1)},
	} {
		if _, err := lifecycle.Prune(t.Context(), c.s, store.AnyOwner(), c.opt); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(left(t, base)) != 10 {
		t.Error("something was deleted")
	}
}

func TestPruneRefusesOptionsThatMakeNoSense(t *testing.T) {
	s := memstore.New()
	aged(t, s)
	all := lifecycle.WithNewest(0)
	for name, opts := range map[string][]lifecycle.Option{
		"no rule":            {},
		"two rules":          {lifecycle.WithInactive(time.Hour), all},
		"no age":             {lifecycle.WithInactive(0)},
		"an age of tomorrow": {lifecycle.WithInactive(-time.Hour)},
		"fewer than none":    {lifecycle.WithNewest(-1)},
		"part -1 of 2":       {all, lifecycle.WithPart(-1, 2)},
		"part 2 of 2":        {all, lifecycle.WithPart(2, 2)},
		"part 0 of 0":        {all, lifecycle.WithPart(0, 0)},
	} {
		if done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), opts...); !errors.Is(err, store.ErrInvalid) || done != (lifecycle.Pruned{}) {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
	}
}

func TestADryRunCountsWhatARunDeletes(t *testing.T) {
	keep := lifecycle.WithHold(func(_ context.Context, th chat.Thread) (bool, error) {
		return th.ID == "thr_7" || th.ID == "thr_3", nil
	})
	for name, rule := range map[string]lifecycle.Option{"by age": lifecycle.WithInactive(100 * time.Hour), "by number": lifecycle.WithNewest(5)} {
		s := memstore.New()
		aged(t, s)
		opts := []lifecycle.Option{rule, keep}
		dry := testenv.Value(lifecycle.Prune(t.Context(), s, store.AnyOwner(), append(opts, lifecycle.WithDryRun())...))(t)
		wet := testenv.Value(lifecycle.Prune(t.Context(), s, store.AnyOwner(), opts...))(t)
		if dry != wet || dry != (lifecycle.Pruned{Deleted: 4, Held: 1}) || len(left(t, s)) != 6 {
			t.Errorf("%s: a dry run %+v, the run %+v", name, dry, wet)
		}
	}
}

// A thread on the edge of a page gets a newer CreatedAt, so the listing begins again. A thread that was added meanwhile is the newest.
func TestTheNewestStayIfAThreadMoves(t *testing.T) {
	base := memstore.New()
	for i := range 250 {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: noon.Add(time.Duration(-i) * time.Second), Owner: ada}))
	}
	s := faulty.New(base)
	s.Inject(faulty.Fault{Op: store.OpLoadThreads, Skip: 1, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_99", CreatedAt: noon.Add(time.Hour), Owner: ada}))
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_250", CreatedAt: noon.Add(time.Minute), Owner: ada}))
		return next(ctx)
	}})
	done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), lifecycle.WithNewest(100))
	testenv.Must(t, err)
	got := left(t, base)
	if done.Deleted != 150 || len(got) != 101 || got[99] != 99 || got[100] != 250 {
		t.Errorf("%+v, left %v", done, got)
	}
}

// A thread that was counted gets an older CreatedAt, and is listed again. It must not count twice, or go.
func TestTheNewestStayIfAThreadMovesBack(t *testing.T) {
	base := memstore.New()
	for i := range 3 {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: noon.Add(time.Duration(-i) * time.Hour), Owner: ada}))
	}
	for i := range 150 { // thr_2 is on a second page
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", 1000+i), CreatedAt: noon.Add(-time.Hour - time.Second), Owner: bob}))
	}
	s := faulty.New(base)
	s.Inject(faulty.Fault{Op: store.OpLoadThreads, Skip: 1, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_0", CreatedAt: noon.Add(-90 * time.Minute), Owner: ada}))
		return next(ctx)
	}})
	done, err := lifecycle.Prune(t.Context(), s, store.InTenant("acme"), lifecycle.WithNewest(2))
	if got := left(t, base); err != nil || done.Deleted != 149 || !slices.Equal(got[:2], []int{0, 1}) || got[2] == 2 {
		t.Errorf("%+v, %v, left %v", done, err, got)
	}
}

// A hold that another process has written counts, though this process's cache does not know of it.
func TestAHoldIsReadPastCaches(t *testing.T) {
	for name, rule := range map[string]lifecycle.Option{"by age": lifecycle.WithInactive(time.Hour), "by number": lifecycle.WithNewest(0)} {
		base := memstore.New()
		s := store.Wrap(base, cache.New())
		th := chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}
		testenv.Must(t, base.SaveThread(t.Context(), th))
		testenv.Value(s.LoadThread(t.Context(), "thr_1"))(t)
		th.Title = "held"
		testenv.Must(t, base.SaveThread(t.Context(), th))
		done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), rule,
			lifecycle.WithHold(func(_ context.Context, th chat.Thread) (bool, error) { return th.Title == "held", nil }))
		if err != nil || done != (lifecycle.Pruned{Held: 1}) {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
		testenv.Must(t, store.Close(s))
	}
}

// Between its listing and its deletion, a thread is deleted by another, or gets a newer CreatedAt.
func TestPruneLooksAtAThreadAgain(t *testing.T) {
	hold := lifecycle.WithHold(func(context.Context, chat.Thread) (bool, error) { return false, nil })
	gone := func(s store.Store) error { return s.DeleteThread(context.Background(), "thr_1") }
	newer := func(s store.Store) error {
		return s.SaveThread(context.Background(), chat.Thread{ID: "thr_1", CreatedAt: noon.Add(time.Hour), Owner: ada})
	}
	for name, c := range map[string]struct {
		rule lifecycle.Option
		skip int
		do   func(store.Store) error
		want lifecycle.Pruned
	}{
		"deleted, by age":                     {lifecycle.WithInactive(time.Hour), 0, gone, lifecycle.Pruned{}},
		"deleted, by number":                  {lifecycle.WithNewest(0), 0, gone, lifecycle.Pruned{}},
		"deleted, by number, before the hold": {lifecycle.WithNewest(0), 1, gone, lifecycle.Pruned{}},
		"newer":                               {lifecycle.WithNewest(0), 0, newer, lifecycle.Pruned{Changed: 1}},
	} {
		base := memstore.New()
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
		s := faulty.New(base)
		s.Inject(faulty.Fault{Op: store.OpLoadThread, Skip: c.skip, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			return errors.Join(c.do(base), next(ctx))
		}})
		done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), c.rule, hold)
		if err != nil || done != c.want || len(left(t, base)) != c.want.Changed {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
	}
}

// While Prune runs, others add threads. The newest threads of each owner stay, whenever they came.
func TestTheNewestStayBesideAWriter(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 0))
		base, n, most := memstore.New(), 0, r.IntN(8)
		saved := map[chat.Owner][]chat.Thread{}
		add := func() {
			th := chat.Thread{ID: fmt.Sprintf("thr_%d", n), CreatedAt: noon.Add(time.Duration(r.IntN(1000)) * time.Second), Owner: []chat.Owner{ada, bob, {}}[r.IntN(3)]}
			testenv.Must(t, base.SaveThread(context.Background(), th))
			saved[th.Owner] = append(saved[th.Owner], th)
			n++
		}
		for range 300 {
			add()
		}
		s := store.Wrap(base, layer.Intercept("writer", layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			if r.IntN(20) == 0 {
				add()
			}
			return next(ctx)
		})))
		testenv.Value(lifecycle.Prune(t.Context(), s, store.AnyOwner(), lifecycle.WithNewest(most)))(t)
		there := left(t, base)
		for o, all := range saved {
			slices.SortFunc(all, func(a, b chat.Thread) int {
				return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), strings.Compare(b.ID, a.ID))
			})
			for _, th := range all[:min(most, len(all))] {
				i := testenv.OrPanic(strconv.Atoi(strings.TrimPrefix(th.ID, "thr_")))
				if !slices.Contains(there, i) {
					t.Fatalf("seed %d: %s is one of the newest %d of %v, and gone", seed, th.ID, most, o)
				}
			}
		}
	}
}

// Another runner deletes a thread first: it is counted once.
func TestTwoRunnersCountAThreadOnce(t *testing.T) {
	for name, opt := range map[string]lifecycle.Option{"by age": lifecycle.WithInactive(time.Hour), "by number": lifecycle.WithNewest(1)} {
		base := memstore.New()
		aged(t, base)
		s := faulty.New(base)
		s.Inject(faulty.Fault{Op: store.OpDeleteThread, Skip: 3, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			other, err := lifecycle.Prune(t.Context(), base, store.AnyOwner(), opt)
			if err != nil || other.Deleted != 6 {
				t.Errorf("%s: the other: %+v, %v", name, other, err)
			}
			return next(ctx)
		}})
		done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), opt)
		if err != nil || done != (lifecycle.Pruned{Deleted: 3}) || len(left(t, base)) != 1 {
			t.Errorf("%s: %+v, %v, left %v", name, done, err, left(t, base))
		}
	}
}

func TestPrunePausesAfterEachHundredThreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		for i := range 250 {
			testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: time.Now(), Owner: ada}))
		}
		begun := time.Now()
		var told []int64
		done, err := lifecycle.Prune(t.Context(), s, store.AnyOwner(), lifecycle.WithNewest(10), lifecycle.WithPause(time.Minute),
			lifecycle.WithProgress(func(n lifecycle.Counts) { told = append(told, n.Threads) }))
		if err != nil || done.Deleted != 240 || time.Since(begun) != 2*time.Minute {
			t.Errorf("%+v, %v after %v", done, err, time.Since(begun))
		}
		if len(told) != 250 || told[0] != 1 || told[249] != 250 {
			t.Errorf("%d reports of progress", len(told))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for i := range 250 {
			testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: time.Now(), Owner: ada}))
		}
		if _, err := lifecycle.Prune(ctx, s, store.AnyOwner(), lifecycle.WithNewest(10), lifecycle.WithPause(time.Minute)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("cancelled in a pause: %v", err)
		}
	})
}
