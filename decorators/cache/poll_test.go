package cache_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/singleflight"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/linear"
)

// The polls of these tests come every 10 s, so a lease has 20 s.
const every = 10 * time.Second

// poll is what a call of ThreadVersions does. ask asks the store.
type poll func(ctx context.Context, ids []string, ask func() (string, []uint64, error)) (string, []uint64, error)

// polled is a memstore that counts calls of ThreadVersions. If do is set, it makes each call.
type polled struct {
	*memstore.Store
	do    atomic.Value // of a poll
	calls atomic.Int64
}

func (b *polled) set(do poll) { b.do.Store(do) }

func (b *polled) ThreadVersions(ctx context.Context, ids []string) (string, []uint64, error) {
	b.calls.Add(1)
	ask := func() (string, []uint64, error) { return b.Store.ThreadVersions(ctx, ids) }
	if do, _ := b.do.Load().(poll); do != nil {
		return do(ctx, ids, ask)
	}
	return ask()
}

// hang never answers before ctx ends.
func hang(ctx context.Context, _ []string, _ func() (string, []uint64, error)) (string, []uint64, error) {
	<-ctx.Done()
	return "", nil, ctx.Err()
}

// polling runs f in a bubble with a cache that polls at 10 s, 20 s and so on. The cache has already had the epoch of its base, at
// 10 s before f begins, and is empty.
func polling(t *testing.T, f func(t *testing.T, s store.Store, p *probe, base *polled), opts ...cache.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		base := &polled{Store: memstore.New()}
		s, p, _ := openOver(t, base, append([]cache.Option{cache.WithRevalidation(every), cache.WithTTL(time.Hour), cache.NoJitter()}, opts...)...)
		must(t, base.SaveThread(t.Context(), thread("thr_0", "", chat.Owner{})))
		get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_0"))
		at(every) // the first answer has a new epoch
		if base.calls.Load() != 1 {
			t.Fatalf("%d polls, want 1", base.calls.Load())
		}
		base.calls.Store(0)
		f(t, s, p, base)
	})
}

// at sleeps for d, and until everything that is due then has happened.
func at(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAPollFindsTheWritesOfOthers(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		must(t, base.SaveThread(t.Context(), second))
		p.costs(0, func() { answers(t, s, "first", "before the poll") }, "before the poll")
		at(every)
		p.costs(2, func() { answers(t, s, "second", "after the poll"); warm(t, s) }, "after the poll")
		if n := stat(s, "chatstore_cache_evictions_total", "polled"); n != 1 {
			t.Errorf("%v entries were evicted by a poll, want 1", n)
		}
		must(t, base.DeleteThread(t.Context(), "thr_1"))
		at(every)
		if _, err := s.LoadThread(t.Context(), "thr_1"); store.CodeOf(err) != store.CodeNotFound {
			t.Errorf("a deleted thread: got error %v after a poll, want not_found", err)
		}
	})
}

func TestAThreadThatNobodyChangesStaysWarm(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		for range 20 {
			at(every)
			p.costs(0, func() { warm(t, s) }, "a thread that polls confirm")
		}
	})
}

func TestPollsDoNotExtendTheTTL(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		at(59 * time.Second)
		p.costs(0, func() { warm(t, s) }, "before the end of the TTL")
		at(time.Second)
		p.costs(2, func() { warm(t, s) }, "at the end of the TTL")
	}, cache.WithTTL(time.Minute))
}

// A base that hangs, or fails in any way, ends the leases. A later poll makes the same entries answer again.
func TestWithoutAnAnswerToItsPollsNothingIsServedBeyondTheLease(t *testing.T) {
	for name, fault := range map[string]poll{
		"hangs": hang,
		"fails": func(context.Context, []string, func() (string, []uint64, error)) (string, []uint64, error) {
			return "", nil, errors.New("away")
		},
		"answers too little": func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			return epoch, versions[1:], err
		},
		"answers too much": func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			return epoch, append(versions, 1), err
		},
		"panics": func(context.Context, []string, func() (string, []uint64, error)) (string, []uint64, error) {
			panic("boom")
		},
		"exits its goroutine": func(context.Context, []string, func() (string, []uint64, error)) (string, []uint64, error) {
			runtime.Goexit()
			return "", nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, lines := logged()
			polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
				fill(t, base, 3)
				warm(t, s)
				base.set(fault)
				at(2*every - time.Nanosecond)
				p.costs(0, func() { warm(t, s) }, "in the last moment of the lease")
				time.Sleep(time.Nanosecond)
				p.costs(2, func() { load(t.Context(), t, s); page(t.Context(), t, s, newest(20)) }, "at the end of the lease")
				p.costs(0, func() { warm(t, s) }, "after a load")
				at(2 * every)
				base.set(nil)
				at(3 * every) // one poll may hang until the end of its lease
				p.costs(0, func() { warm(t, s) }, "after a poll that was answered")
				if n := statOf(s, "chatstore_cache_polls_total", "failed"); n < 2 {
					t.Errorf("%v failed polls were counted, want at least 2", n)
				}
				log := strings.Join(lines(), "")
				boom, all := strings.Count(log, `the base panicked in a poll" panic=boom`), strings.Count(log, "the base panicked in a poll")
				if (boom >= 2) != (name == "panics") || all != boom {
					t.Errorf("%d panics were logged, %d of them of the base", all, boom)
				}
				bad, good := strings.Count(log, "cache: a poll failed"), strings.Count(log, "cache: the base answers polls again")
				if bad != 1 || good != 1 {
					t.Errorf("the failure was logged %d times, and the recovery %d times, want 1 and 1", bad, good)
				}
			}, log)
		})
	}
}

// statOf returns the statistic of s with that name and first label.
func statOf(s store.Store, name, label string) (n float64) {
	r, _ := store.As[layer.StatsReporter](s)
	for _, st := range r.AppendStats(nil) {
		if st.Name == name && st.Labels[0].Value == label {
			n += st.Value
		}
	}
	return n
}

// The answer of a slow poll may be as old as its begin.
func TestALeaseCountsFromBeforeThePollIsSent(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		base.set(func(ctx context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			must(t, base.SaveThread(t.Context(), second))
			time.Sleep(9 * time.Second)
			base.set(hang)
			return epoch, versions, err
		})
		at(3*every - time.Nanosecond) // the poll was sent at 10 s, and answered at 19 s
		p.costs(0, func() { answers(t, s, "first", "within the lease") }, "within the lease of the poll")
		at(time.Nanosecond)
		answers(t, s, "second", "a lease after the poll was sent")
	})
}

// Each entry has a lease of its own: a poll says nothing about entries that it has not asked for.
func TestAPollConfirmsOnlyWhatItAskedFor(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		must(t, base.SaveThread(t.Context(), thread("thr_2", "", chat.Owner{})))
		get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_2"))
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			time.Sleep(2 * time.Second) // until 12 s
			base.set(hang)
			return epoch, versions, err
		})
		p.during(store.OpLoadThread, func() { load(t.Context(), t, s) }, func() { // begins at 0 s, and returns at 11 s
			must(t, base.SaveThread(t.Context(), second))
			at(11 * time.Second)
		})
		at(9*time.Second - time.Nanosecond)
		p.costs(0, func() { answers(t, s, "first", "within the lease") }, "within the lease of its load")
		at(time.Nanosecond)
		answers(t, s, "second", "a lease after the begin of the load")
	})
}

func TestAttachmentsHaveALeaseFromTheirLoad(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "a")))
		load := func() string { return get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1")).ID }
		load()
		must(t, base.DeleteAttachment(t.Context(), "atc_1"))
		at(2*every - time.Nanosecond)
		p.costs(0, func() { load() }, "in the last moment of the lease")
		at(time.Nanosecond)
		if _, err := s.LoadAttachment(t.Context(), "atc_1"); store.CodeOf(err) != store.CodeNotFound {
			t.Errorf("got error %v at the end of the lease, want not_found", err)
		}
	})
}

// The base may know versions that a layer above it does not report.
func TestAThreadOfUnknownVersionHasALeaseFromItsLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := openOver(t, unversioned(), cache.WithRevalidation(every)) // beneath a layer, the base knows versions
		fill(t, base, 3)
		warm(t, s)
		must(t, base.SaveThread(t.Context(), second))
		at(2*every - time.Nanosecond)
		p.costs(0, func() { warm(t, s) }, "in the last moment of the lease")
		time.Sleep(time.Nanosecond)
		answers(t, s, "second", "at the end of the lease")
		if n := statOf(s, "chatstore_cache_polled_threads_total", ""); n != 0 {
			t.Errorf("%v threads without a version were asked for", n)
		}
	})
}

// The base may have been restored since the load. Then the write meets the version of another state.
func TestAPatchDoesNotExtendTheLease(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		base.set(hang)
		at(15 * time.Second)
		must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_x", 9)))
		at(5*time.Second - time.Nanosecond)
		p.costs(0, func() { warm(t, s) }, "in the last moment of the lease")
		at(time.Nanosecond)
		p.costs(2, func() { warm(t, s) }, "at the end of the lease from the load")
	})
}

// The answer is from before a write that began during the poll.
func TestAPollSparesAThreadThatWasPatchedDuringIt(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			time.Sleep(time.Second)
			must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_x", 9)))
			base.set(nil)
			return epoch, versions, err
		})
		at(15 * time.Second)
		p.costs(0, func() { warm(t, s) }, "after the poll")
		at(15 * time.Second)
		p.costs(0, func() { warm(t, s) }, "after the next poll, which has confirmed the patched entry")
	})
}

// The base is restored while the poll is under way. The version of the state before then equals that of the patch after, which has
// parts of an older state.
func TestAPollDoesNotConfirmAThreadThatWasPatchedDuringIt(t *testing.T) {
	for _, begins := range []time.Duration{9 * time.Second, 11 * time.Second} { // the poll begins at 10 s
		polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
			fill(t, base, 3)
			warm(t, s)
			ends, written := make(chan struct{}), make(chan struct{})
			base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
				epoch, versions, err := ask()
				versions[0]++
				time.Sleep(2 * time.Second)
				close(ends)
				<-written
				base.set(hang)
				return epoch, versions, err
			})
			at(begins)
			p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				<-ends
				return next(ctx)
			})
			go func() {
				must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_x", 9)))
				close(written)
			}()
			at(2*every - time.Nanosecond - begins)
			p.set(nil)
			p.costs(0, func() { warm(t, s) }, "in the last moment of the lease from the load")
			at(time.Nanosecond)
			p.costs(2, func() { warm(t, s) }, "at the end of the lease from the load")
		})
	}
}

// An entry's lease is that of its oldest part. A lapsed part is not merged.
func TestPartsShareTheFirstLease(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		base.set(hang)
		load(t.Context(), t, s)
		at(15 * time.Second)
		page(t.Context(), t, s, newest(20))
		at(5 * time.Second)
		p.costs(1, func() { page(t.Context(), t, s, newest(20)) }, "the page, at the end of the thread's lease")
		p.costs(1, func() { load(t.Context(), t, s) }, "the thread, after the page was loaded")
		p.costs(0, func() { warm(t, s) }, "both")
	})
}

// A thread is loaded during the poll. The answer is from before its version, and must not drop it.
func TestAPollSparesAThreadThatWasLoadedDuringIt(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		load(t.Context(), t, s)
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			time.Sleep(time.Second)
			must(t, base.SaveThread(t.Context(), second))
			load(store.WithFresh(t.Context()), t, s) // at 11 s
			base.set(hang)
			return epoch, versions, err
		})
		at(31*time.Second - time.Nanosecond)
		p.costs(0, func() { answers(t, s, "second", "after the poll") }, "within the lease of the load")
		time.Sleep(time.Nanosecond)
		p.costs(1, func() { load(t.Context(), t, s) }, "at the end of the lease of the load")
	})
}

// A load of the first version begins before all others, and returns when the second version has been loaded, asked for and
// evicted. The answer to the poll says nothing about the first version.
func TestAPollDoesNotConfirmAThreadThatCameForAnEvictedOne(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		evicted := make(chan struct{})
		p.set(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.Op == store.OpLoadThread && c.ThreadID == "thr_1" {
				<-evicted
			}
			return err
		})
		var old sync.WaitGroup
		old.Go(func() { load(t.Context(), t, s) })
		at(time.Second)
		must(t, base.SaveThread(t.Context(), second))
		page(t.Context(), t, s, newest(2)) // at 1 s, of the second version
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			p.set(nil)
			must(t, base.SaveThread(t.Context(), thread("thr_2", "", chat.Owner{})))
			get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_2")) // takes the place of thr_1
			close(evicted)
			old.Wait()
			base.set(hang)
			return epoch, versions, err
		})
		at(19 * time.Second)
		answers(t, s, "second", "a lease after the begin of the load of the first version")
	}, cache.WithMaxEntries(1))
}

// Versions may go back although the epoch stays: the node that answers lags. An answer that was asked for after the load drops the
// entry.
func TestALowerVersionDropsAThreadThatWasLoadedBeforeThePoll(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		load(t.Context(), t, s)
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			versions[0]--
			return epoch, versions, err
		})
		at(every)
		p.costs(1, func() { load(t.Context(), t, s) }, "after an answer that is lower")
	})
}

// After a restore, an equal version is another state. A load under way may be of the state before.
func TestANewEpochDropsEverything(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		must(t, base.SaveThread(t.Context(), thread("thr_2", "", chat.Owner{})))
		must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "a")))
		late := func() { get[chat.Thread](t)(s.LoadThread(t.Context(), "thr_2")) }
		all := func() {
			warm(t, s)
			get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
		}
		all()
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			_, versions, err := ask()
			return "restored", versions, err
		})
		p.during(store.OpLoadThread, late, func() { at(every) })
		p.costs(3, all, "after a new epoch")
		p.costs(1, late, "a load that began in the old epoch was kept")
		at(every)
		p.costs(0, func() { all(); late() }, "after a poll in the new epoch")
	})
}

// Until the first answer, the cache does not know of which epoch its entries are.
func TestTheFirstEpochIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t, cache.WithRevalidation(every), cache.NoJitter())
		fill(t, base, 3)
		warm(t, s)
		at(every)
		p.costs(2, func() { warm(t, s) }, "after the first poll")
		at(every)
		p.costs(0, func() { warm(t, s) }, "after the second poll")
	})
}

// A read at 21 s must not get what a load read at 0 s.
func TestNobodyJoinsALoadThatBeganMoreThanALeaseAgo(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		at(every) // a period of the shared loads begins
		returns := make(chan struct{})
		p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			<-returns
			return err
		})
		var reads sync.WaitGroup
		read := func(want string) {
			reads.Go(func() { answers(t, s, want, "through a shared load") })
			synctest.Wait()
		}
		read("first")
		must(t, base.SaveThread(t.Context(), second))
		at(19 * time.Second)
		p.costs(0, func() { read("first") }, "a read that joins a load of 19 s ago")
		at(2 * time.Second)
		p.costs(1, func() { read("second") }, "a read that comes 21 s after the begin of a load")
		close(returns)
		reads.Wait()
	}, cache.WithLoadTimeout(0))
}

func TestAPollIsMadeByNobodyAndNeverTwiceAtOnce(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		ctx := store.IfVersion(store.WithPrincipal(t.Context(), ada), "thr_1", 1)
		ctx, _ = store.WithVersions(ctx)
		load(ctx, t, s)
		release := make(chan struct{})
		base.set(func(ctx context.Context, ids []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			if d := *callctx.Of(ctx); fmt.Sprint(d) != fmt.Sprint(callctx.Data{}) {
				t.Errorf("the poll has %v of a caller", d)
			}
			<-release // whatever the context says
			return ask()
		})
		at(10 * every)
		if n := base.calls.Load(); n != 1 {
			t.Errorf("%d polls at once, want 1", n)
		}
		p.costs(1, func() { load(ctx, t, s) }, "a read while the base does not answer a poll")
		close(release)
		at(every)
		if n := base.calls.Load(); n != 2 {
			t.Errorf("%d polls, want 2", n)
		}
	})
}

func TestAnIdleCacheDoesNotQuery(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		at(100 * every)
		if n := base.calls.Load(); n != 0 {
			t.Errorf("an empty cache polled %d times", n)
		}
		must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "a")))
		get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
		at(every)
		if n := base.calls.Load(); n != 0 {
			t.Errorf("a cache with an attachment polled %d times", n)
		}
		fill(t, base, 3)
		warm(t, s)
		at(100 * every)
		if n := base.calls.Load(); n < 5 || n > 6 {
			t.Errorf("a thread with a TTL of a minute was polled %d times, want 5 or 6", n)
		}
	}, cache.WithTTL(time.Minute))
}

func TestAPollAsksForAThousandThreadsAtATime(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		const n = 2500
		asked := map[string]int{}
		var sizes []int
		base.set(func(_ context.Context, ids []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			sizes = append(sizes, len(ids))
			for _, id := range ids {
				asked[id]++
			}
			return ask()
		})
		must(t, base.SaveThread(t.Context(), first))
		for i := range n {
			must(t, base.SaveThread(t.Context(), thread(fmt.Sprint("thr_many", i), "", chat.Owner{})))
			get[chat.Thread](t)(s.LoadThread(t.Context(), fmt.Sprint("thr_many", i)))
		}
		at(every)
		if !slices.Equal(sizes, []int{1000, 1000, 500}) || len(asked) != n || slices.Max(slices.Collect(maps.Values(asked))) != 1 {
			t.Errorf("%d threads: calls of %v threads asked for %d of them", n, sizes, len(asked))
		}
		answered, rows := statOf(s, "chatstore_cache_polls_total", "answered"), statOf(s, "chatstore_cache_polled_threads_total", "")
		if answered != 4 || rows != n+1 { // with those of the first poll
			t.Errorf("%v calls for %v threads were counted, want 4 and %d", answered, rows, n+1)
		}
	})
}

// An id is asked for once in a call, and its answer is for all of its entries.
func TestTheEntriesOfAllPrincipalsArePolled(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		read := func(want string) {
			for _, who := range []store.Principal{ada, bob} {
				if th := load(store.WithPrincipal(t.Context(), who), t, s); th.Title != want {
					t.Errorf("%s reads %q, want %q", who.Owner.Subject, th.Title, want)
				}
			}
		}
		read("first")
		base.set(func(_ context.Context, ids []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			if !slices.Equal(ids, []string{"thr_1"}) {
				t.Errorf("the poll asks for %v", ids)
			}
			return ask()
		})
		at(every)
		at(every + every/2)
		p.costs(0, func() { read("first") }, "entries that polls have confirmed")
		must(t, base.SaveThread(t.Context(), second))
		at(every)
		read("second")
	})
}

func TestCloseEndsThePolls(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		var ended atomic.Bool
		base.set(func(ctx context.Context, ids []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			defer ended.Store(true)
			return hang(ctx, ids, ask)
		})
		at(every)
		if base.calls.Load() != 1 || ended.Load() {
			t.Fatal("no poll is under way")
		}
		must(t, store.Close(s))
		synctest.Wait()
		if !ended.Load() {
			t.Error("a poll goes on after Close")
		}
		p.costs(4, func() { warm(t, s); warm(t, s) }, "reads after Close")
		at(10 * every)
		if n := base.calls.Load(); n != 1 {
			t.Errorf("%d polls after Close", n-1)
		}
	})
}

// A fleet that starts at once must not poll at once.
func TestCachesDoNotPollInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const caches, polls = 20, 20
		var times [caches][]time.Time
		var all []store.Store
		for i := range caches {
			base := &polled{Store: memstore.New()}
			base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
				times[i] = append(times[i], time.Now())
				return ask()
			})
			s, _, _ := openOver(t, base, cache.WithRevalidation(every), cache.WithTTL(0), cache.WithMaxEntries(16))
			fill(t, base, 1)
			load(t.Context(), t, s)
			all = append(all, s)
		}
		at(every)
		for _, s := range all {
			load(t.Context(), t, s) // the first poll has dropped it
		}
		at(polls * every)
		begins, pauses := map[time.Time]bool{}, map[time.Duration]bool{}
		for _, of := range times {
			begins[of[0]] = true
			for i := 2; i < len(of); i++ { // there may have been nothing to ask for at the second poll
				pause := of[i].Sub(of[i-1])
				if pauses[pause] = true; pause < every*9/10 || pause > every {
					t.Errorf("a poll came %v after the one before, want 9 to 10 s", pause)
				}
			}
		}
		if len(begins) < caches/2 || len(pauses) < caches*polls/2 {
			t.Errorf("%d caches began to poll at %d times, and made %d different pauses", caches, len(begins), len(pauses))
		}
	})
}

// Beside polls, a bus makes changes known sooner. Without it, the polls are enough.
func TestWithABusEntriesAnswerWithinTheirOwnLeases(t *testing.T) {
	wire := &leasedBus{}
	wire.lease(time.Time{}) // it has no lease
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		p.costs(0, func() { warm(t, s) }, "before the first connection")
		wire.connected(true)
		p.costs(2, func() { warm(t, s) }, "after the connection, which drops everything")
		must(t, base.SaveThread(t.Context(), second))
		wire.f(bus.Change{ThreadID: "thr_1"})
		answers(t, s, "second", "after a change")
		page(t.Context(), t, s, newest(20))
		wire.connected(false)
		p.costs(0, func() { warm(t, s) }, "without a connection")
		must(t, base.SaveThread(t.Context(), first))
		at(every)
		answers(t, s, "first", "after a poll without a connection")
		base.set(hang)
		at(2 * every)
		p.costs(1, func() { load(t.Context(), t, s) }, "at the end of the lease")
		must(t, store.Close(s))
		wire.connected(false)
		p.costs(2, func() { load(t.Context(), t, s); load(t.Context(), t, s) }, "after Close")
	}, cache.WithBus(wire))
}

func TestARevalidatedHitAllocatesNothing(t *testing.T) {
	s, _, base := open(t, cache.WithRevalidation(time.Hour))
	fill(t, base, 3)
	ctx := t.Context()
	load(ctx, t, s)
	if n := testing.AllocsPerRun(100, func() { s.LoadThread(ctx, "thr_1") }); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
}

func TestMisuseOfRevalidationIsRefused(t *testing.T) {
	for _, every := range []time.Duration{0, -1, math.MaxInt64/4 + 1} {
		testenv.Panics(t, "cache.WithRevalidation: the interval must be positive, and at most 73 years", func() { cache.WithRevalidation(every) })
	}
	cache.WithRevalidation(math.MaxInt64 / 4)
	for name, beneath := range map[string]store.Middleware{"cache": cache.New(), "singleflight": singleflight.New()} {
		through := layer.Intercept("between", layer.InterceptorFunc(
			func(ctx context.Context, _ layer.Call, next func(context.Context) error) error { return next(ctx) }))
		testenv.Panics(t, "cache.New: WithRevalidation needs loads that read the base: leave out the "+name+" beneath", func() {
			store.Wrap(memstore.New(), cache.New(cache.WithRevalidation(1)), through, beneath)
		})
	}
	testenv.Panics(t, "cache.New: WithSoleWriter and WithRevalidation contradict each other", func() {
		cache.New(cache.WithRevalidation(1), cache.WithSoleWriter())
	})
	testenv.Panics(t, "cache.New: WithRevalidation needs a base that tells the versions of threads", func() {
		store.Wrap(struct{ store.Store }{memstore.New()}, cache.New(cache.WithRevalidation(1)))
	})
}

// Two caches without a bus.
func TestTwoCachesThatPollAreALeaseStaleAtMost(t *testing.T) {
	t.Parallel()
	const every = 1500 * time.Microsecond
	stack := cache.New(cache.WithWindow(3), cache.WithMaxEntries(16), cache.WithRevalidation(every), cache.NoJitter(), quiet)
	linear.Run(t, stack, append([]linear.Option{linear.WithBeside(stack), linear.WithStaleBy(2 * every)},
		tried(60, linear.Coverage{Hits: 1000, Late: 10})...)...)
}
