package cache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// many saves n threads in base. It returns the id of the ith thread, and a function that reads all as who.
func many(t *testing.T, s, base store.Store, n int) (id func(i int) string, read func(who store.Principal)) {
	id = func(i int) string { return fmt.Sprint("thr_many", i) }
	for i := range n {
		must(t, base.SaveThread(t.Context(), thread(id(i), "", chat.Owner{})))
	}
	return id, func(who store.Principal) {
		for i := range n {
			get[chat.Thread](t)(s.LoadThread(store.WithPrincipal(t.Context(), who), id(i)))
		}
	}
}

// A thread that two principals hold may be in two calls of a poll. Each call has answers of its own.
func TestNoThreadIsConfirmedByAnothersVersion(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		const n = 1200
		id, read := many(t, s, base, n)
		both := func() { read(ada); read(bob) }
		both()
		for i := 0; i < n; i += 2 {
			must(t, base.SaveThread(t.Context(), thread(id(i), "new", chat.Owner{})))
		}
		at(every)
		p.costs(n, both, "half of %d threads have changed, for two principals", n)
		if n := base.calls.Load(); n < 2 {
			t.Errorf("the threads were asked for in %d calls, want at least 2", n)
		}
	})
}

func TestAFailedCallDoesNotEndItsPoll(t *testing.T) {
	log, lines := logged()
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		const n = 2500
		_, read := many(t, s, base, n)
		read(ada)
		var first string
		base.set(func(_ context.Context, ids []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			if first == "" {
				first = ids[0]
			}
			if slices.Contains(ids, first) {
				return "", nil, errors.New("this part of the base is down")
			}
			return ask()
		})
		at(every)
		at(every)
		p.costs(1000, func() { read(ada) }, "the first of three calls fails")
		at(10 * every)
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "this part of the base is down") {
			t.Errorf("got %q, want one line: no poll was without a failure", got)
		}
	}, log)
}

// A base that hangs in one call would hang in each, and nothing would be polled for many leases.
func TestAPollEndsWithTheLeaseThatItCouldExtend(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		_, read := many(t, s, base, 2500)
		read(ada)
		base.set(hang)
		at(every)
		at(2*every - time.Nanosecond)
		if n := base.calls.Load(); n != 1 {
			t.Fatalf("%d calls in the poll, want 1 that hangs", n)
		}
		at(time.Second) // a tenth of the interval after the end of the poll
		if calls, n := base.calls.Load(), stat(s, "chatstore_cache_poll_seconds", ""); calls != 1 || n != 20 {
			t.Errorf("%d calls, the poll took %v s, want 1 call and 20 s", calls, n)
		}
	})
}

func TestPollsBeginEveryIntervalHoweverLongTheyTake(t *testing.T) {
	for takes, want := range map[time.Duration]time.Duration{
		0:                every,
		4 * time.Second:  every,
		every * 9 / 10:   every,
		11 * time.Second: 12 * time.Second, // a tenth of the interval is left to the base
	} {
		polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
			fill(t, base, 3)
			var begins []time.Time
			base.set(func(ctx context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
				begins = append(begins, time.Now())
				select {
				case <-time.After(takes):
				case <-ctx.Done(): // Close
				}
				return ask()
			})
			for range 40 {
				load(t.Context(), t, s)
				at(every / 10)
			}
			must(t, store.Close(s))
			synctest.Wait()
			if len(begins) < 2 || begins[1].Sub(begins[0]) != want {
				t.Errorf("polls of %v began at %v", takes, begins)
			}
		})
	}
}

func TestTheDurationOfTheLastPollIsReported(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			time.Sleep(3 * time.Second)
			return ask()
		})
		at(13 * time.Second)
		if n := stat(s, "chatstore_cache_poll_seconds", ""); n != 3 {
			t.Errorf("the poll took %v s, want 3", n)
		}
	})
}

// No poll can confirm them. Without an end they would take up room for as long as the TTL.
func TestAnEntryThatNoPollCanConfirmExpiresWithItsLease(t *testing.T) {
	for _, c := range []struct {
		ttl, expires time.Duration
	}{{0, 2 * every}, {time.Hour, 2 * every}, {15 * time.Second, 15 * time.Second}} {
		polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
			fill(t, base, 3)
			must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "a")))
			p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				return next(callctx.WithoutVersionRecorder(ctx))
			})
			read := func() {
				get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
				load(t.Context(), t, s)
			}
			read()
			at(c.expires - 1)
			p.costs(0, read, "before the end")
			before := stat(s, "chatstore_cache_evictions_total", "expired")
			at(1)
			p.costs(2, read, "at the end")
			if n := stat(s, "chatstore_cache_evictions_total", "expired") - before; n != 2 {
				t.Errorf("TTL %v: %v entries expired after %v, want 2", c.ttl, n, c.expires)
			}
		}, cache.WithTTL(c.ttl))
	}
}

// The base already has the version of a write that has not returned. The write patches the entry.
func TestAPollSparesAThreadThatIsBeingWritten(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		p.during(store.OpSaveThread, func() { must(t, s.SaveThread(t.Context(), second)) }, func() { at(every) })
		p.costs(0, func() { answers(t, s, "second", "after the write") }, "after a poll during the write")
		base.set(hang)
		at(every - time.Nanosecond)
		p.costs(0, func() { warm(t, s) }, "in the last moment of the lease from the load")
		at(time.Nanosecond)
		p.costs(2, func() { warm(t, s) }, "at the end: the poll has confirmed nothing")
	})
}

// While the poll was under way, an entry without a version came for one that the poll asked for. The version 0 of a thread that
// does not exist is not the entry's.
func TestAPollSaysNothingAboutAThreadOfUnknownVersion(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		load(t.Context(), t, s)
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			epoch, versions, err := ask()
			p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				return next(callctx.WithoutVersionRecorder(ctx))
			})
			load(store.WithFresh(t.Context()), t, s)
			return epoch, versions, err
		})
		at(every)
		p.costs(0, func() { load(t.Context(), t, s) }, "after the poll")
	})
}

// once is a context whose Err calls f once. A read calls it between its lookup and the shared load.
type once struct {
	context.Context
	f func()
}

func (c *once) Err() error {
	if f := c.f; f != nil {
		c.f = nil
		f()
	}
	return c.Context.Err()
}

// Many readers miss at once, and some come to the shared load when it has ended.
func TestAReadThatComesLateToASharedLoadUsesItsEntry(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		p.costs(1, func() {
			load(&once{t.Context(), func() { load(t.Context(), t, s) }}, t, s)
		}, "a read that misses before another has filled the cache")
	})
}

// Others may join the read until the period ends, and the entry's lease ends before.
func TestAReadThatComesLateDoesNotUseAnEntryThatIsTooOldForThoseWhoJoin(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		at(9 * time.Second) // a period begins at 10 s
		returns := make(chan struct{})
		p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			<-returns
			return err
		})
		var early sync.WaitGroup
		early.Go(func() { load(t.Context(), t, s) })
		at(2 * time.Second)
		p.costs(1, func() {
			load(&once{t.Context(), func() { close(returns); early.Wait() }}, t, s)
		}, "a read that finds an entry of the period before")
	})
}

// The share is drawn once for each firing of the timer, and once for the first.
func TestNoTimerOfPollsIsSetAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var draws atomic.Int64
		base := &polled{Store: memstore.New()}
		s, _, _ := openOver(t, base, cache.WithRevalidation(every), cache.WithTTL(0), cache.Jitter(func() float64 { draws.Add(1); return 0 }))
		fill(t, base, 3)
		load(t.Context(), t, s)
		base.set(hang)
		at(every)
		if base.calls.Load() != 1 {
			t.Fatal("no poll is under way")
		}
		must(t, store.Close(s))
		synctest.Wait()
		before := draws.Load()
		at(10 * every)
		if n := draws.Load() - before; n != 0 || before > 2 {
			t.Errorf("the timer was set %d times until Close, and %d times after it", before, n)
		}
	})
}

// A firing would report the duration of a poll that found nothing.
func TestTheTimerOfPollsDoesNotFireAfterClose(t *testing.T) {
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
			time.Sleep(3 * time.Second)
			return ask()
		})
		at(14 * time.Second)
		must(t, store.Close(s))
		at(10 * every)
		if n := stat(s, "chatstore_cache_poll_seconds", ""); n != 3 {
			t.Errorf("the last poll took %v s, want 3: there was none after Close", n)
		}
	})
}

func TestCloseDuringAPollIsNotLogged(t *testing.T) {
	log, lines := logged()
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		base.set(hang)
		at(every)
		must(t, store.Close(s))
		at(every)
		if got := lines(); len(got) != 0 {
			t.Errorf("got %q, want no line", got)
		}
	}, log)
}

// At 10 s the poll fails, and at 20 s there is nothing to ask for.
func TestAPollWithoutThreadsIsNoRecovery(t *testing.T) {
	log, lines := logged()
	polling(t, func(t *testing.T, s store.Store, p *probe, base *polled) {
		fill(t, base, 3)
		warm(t, s)
		base.set(func(context.Context, []string, func() (string, []uint64, error)) (string, []uint64, error) {
			return "", nil, errors.New("away")
		})
		at(every)
		at(3 * every)
		if got := lines(); len(got) != 1 {
			t.Errorf("got %q, want one line: that a poll failed", got)
		}
	}, log, cache.WithTTL(15*time.Second))
}

// A random part of the first interval is left out, however large it is. Of the others, a tenth at most.
func TestTheFirstPollComesAtAnyTimeOfTheInterval(t *testing.T) {
	for _, part := range []float64{0, 0.25, 0.875} {
		synctest.Test(t, func(t *testing.T) {
			base := &polled{Store: memstore.New()}
			var begins []time.Duration
			begin := time.Now()
			base.set(func(_ context.Context, _ []string, ask func() (string, []uint64, error)) (string, []uint64, error) {
				begins = append(begins, time.Since(begin))
				return ask()
			})
			s, _, _ := openOver(t, base, cache.WithRevalidation(every), cache.WithTTL(0), cache.Jitter(func() float64 { return part }))
			fill(t, base, 3)
			load(t.Context(), t, s)
			first := time.Duration((1 - part) * float64(every))
			at(first)
			load(t.Context(), t, s) // the first poll has dropped it
			at(every)
			second := first + time.Duration((1-part/10)*float64(every))
			if len(begins) != 2 || (begins[0]-first).Abs() > time.Microsecond || (begins[1]-second).Abs() > time.Microsecond {
				t.Errorf("with %v: polls began at %v, want %v and %v", part, begins, first, second)
			}
		})
	}
}
