package cache_test

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// onBus makes a cache over base that is connected to wire.
func onBus(t *testing.T, base store.Store, wire bus.Bus) store.Store {
	s := store.Wrap(base, cache.New(cache.WithBus(wire)))
	t.Cleanup(func() { must(t, store.Close(s)) })
	return s
}

func TestTwoCachesOnALocalBusAgree(t *testing.T) {
	base, wire := memstore.New(), bus.Local()
	a, b := onBus(t, base, wire), onBus(t, base, wire)
	fill(t, base, 3)
	must(t, a.SaveAttachment(t.Context(), attachment(t, "atc_1", "one")))
	for range 3 {
		warm(t, a)
		warm(t, b)
		get[chat.Attachment](t)(b.LoadAttachment(t.Context(), "atc_1"))
		th := load(t.Context(), t, a)
		th.Title += "!"
		must(t, a.SaveThread(t.Context(), th))
		answers(t, b, th.Title, "in the other cache")
	}
	must(t, a.DeleteAttachment(t.Context(), "atc_1"))
	if _, err := b.LoadAttachment(t.Context(), "atc_1"); store.CodeOf(err) != store.CodeNotFound {
		t.Errorf("the other cache still has a deleted attachment: %v", err)
	}
}

// A change that a cache has published itself must not invalidate the entry that its write has patched.
func TestOnesOwnMessageIsNotForeign(t *testing.T) {
	s, p, base := open(t, cache.WithBus(bus.Local()))
	fill(t, base, 3)
	warm(t, s)
	p.costs(0, func() { turn(t, s, 0) }, "a turn on a warm thread, with a bus")
}

// handBus is a Bus that a test operates by hand.
type handBus struct {
	mu        sync.Mutex
	f         func(bus.Change)
	connected func(bool)
	sent      []bus.Change
}

func (b *handBus) Publish(_ context.Context, c bus.Change) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent = append(b.sent, c)
	return nil
}

func (b *handBus) Subscribe(_ context.Context, f func(bus.Change), connected func(bool)) func() {
	b.f, b.connected = f, connected
	return func() {}
}

func TestNothingIsServedWhileTheBusIsAway(t *testing.T) {
	wire := &handBus{}
	s, p, base := open(t, cache.WithBus(wire))
	fill(t, base, 3)
	warm2 := func() { warm(t, s); warm(t, s) }
	p.costs(4, warm2, "before the first connection")
	wire.connected(true)
	p.costs(2, warm2, "connected")
	wire.connected(false)
	p.costs(4, warm2, "disconnected")
	wire.connected(true)
	p.costs(2, warm2, "connected again: the entries from before the gap must be gone")
}

// A load that was under way during a gap must not be stored after the gap. So emptying the LRU is not enough.
func TestAGapMovesTheCountersOfLoadsUnderWay(t *testing.T) {
	for _, c := range []struct {
		name string
		gap  func(*handBus)
	}{
		{"reconnect", func(b *handBus) { b.connected(false); b.connected(true) }},
		{"change of the thread", func(b *handBus) { b.f(bus.Change{ThreadID: "thr_1"}) }},
		{"change of all", func(b *handBus) { b.f(bus.Change{All: true}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := &handBus{}
			s, p, base := open(t, cache.WithBus(wire))
			fill(t, base, 3)
			wire.connected(true)
			p.during(store.OpLoadThread, func() { s.LoadThread(t.Context(), "thr_1") }, func() {
				must(t, base.SaveThread(t.Context(), second))
				c.gap(wire)
			})
			answers(t, s, "second", "after a load that began before the change")
		})
	}
}

func TestAWriteWithAnUnknownOutcomeIsAnnouncedUnstamped(t *testing.T) {
	wire := &handBus{}
	s, p, base := open(t, cache.WithBus(wire))
	fill(t, base, 1)
	must(t, s.SaveThread(t.Context(), first))
	if err := s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_0", 0)); store.CodeOf(err) != store.CodeConflict {
		t.Fatal(err)
	}
	p.set(faulty.Fail(nil))
	_ = s.SaveThread(t.Context(), first)
	if len(wire.sent) != 2 {
		t.Fatalf("published %+v, want the success and the unknown outcome, without the conflict", wire.sent)
	}
	if ok := wire.sent[0]; ok.ThreadID != "thr_1" || ok.Write == 0 || ok.Origin == "" {
		t.Errorf("success: published %+v, want thr_1 with a number and an origin", ok)
	}
	if unknown := wire.sent[1]; unknown.ThreadID != "thr_1" || unknown.Write != 0 {
		t.Errorf("unknown outcome: published %+v, want thr_1 without a number", unknown)
	}
}

// A change with this cache's name but without a number may not have incremented the counters at the right time.
func TestAnUnstampedMessageOfOnesOwnIsForeign(t *testing.T) {
	wire := &handBus{}
	s, p, base := open(t, cache.WithBus(wire))
	wire.connected(true)
	fill(t, base, 1)
	must(t, s.SaveThread(t.Context(), first))
	own := wire.sent[0]
	for _, c := range []struct {
		write uint64
		reads int64
	}{{own.Write, 0}, {0, 1}} {
		load(t.Context(), t, s)
		own.Write = c.write
		wire.f(own)
		p.costs(c.reads, func() { load(t.Context(), t, s) }, "a read after the change of write %d", c.write)
	}
}

func TestAnUnknownWriteIsHeldBackByEveryCacheOnTheBus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, wire := memstore.New(), bus.Local()
		f := faulty.New(base, faulty.WithLongestWrite(time.Minute))
		a, b := onBus(t, f, wire), onBus(t, f, wire)
		fill(t, base, 3)
		must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "first")))
		warmBoth := func() {
			for _, s := range []store.Store{a, b} {
				warm(t, s)
				get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
			}
		}
		warmBoth()
		var thread, file faulty.Late
		f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: thread.Hold(nil)})
		f.Inject(faulty.Fault{Op: store.OpSaveAttachment, Times: 1, Do: file.Hold(nil)})
		for _, err := range []error{
			a.SaveThread(t.Context(), second),
			a.SaveAttachment(t.Context(), attachment(t, "atc_1", "second")),
		} {
			if err == nil || store.IsDefinite(err) {
				t.Fatalf("got error %v, want an unknown outcome", err)
			}
		}
		time.Sleep(50 * time.Second) // on the bubble's clock
		warmBoth()
		must(t, thread.Apply())
		must(t, file.Apply())
		for name, s := range map[string]store.Store{"writer": a, "other": b} {
			answers(t, s, "second", name)
			at := get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
			if body := get[chat.AttachmentBody](t)(at.Decode()); body.Name != "second" {
				t.Errorf("%s: the attachment's name is %q, want second", name, body.Name)
			}
		}
		time.Sleep(80 * time.Second) // all quarantines are over, including that of the last announcement
		synctest.Wait()
		warmBoth()
		before := f.Reads()
		warmBoth()
		if n := f.Reads() - before; n != 0 {
			t.Errorf("after the quarantine, warm reads cost %d base reads", n)
		}
	})
}

// A base that publishes its transactions itself uses the write's stamp. It may publish a write whose outcome the cache does
// not know. The cache must not take such a change for one of its own.
func TestTheStampOfAWriteThatEndedUnknownIsForeign(t *testing.T) {
	wire := &handBus{}
	s, p, base := open(t, cache.WithBus(wire), cache.WithQuarantine(0))
	wire.connected(true)
	fill(t, base, 1)
	var stamps []bus.Stamp
	lost := true
	p.set(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		if c.Op.IsWrite() {
			stamps = append(stamps, bus.StampFrom(ctx))
			if lost {
				return store.ErrUnavailable
			}
		}
		return next(ctx)
	})
	_ = s.SaveThread(t.Context(), second)
	lost = false
	must(t, s.SaveThread(t.Context(), second))
	if len(stamps) != 2 || stamps[0] == stamps[1] || stamps[0].Origin == "" || stamps[0].Origin != wire.sent[1].Origin ||
		stamps[1].Write != wire.sent[1].Write {
		t.Fatalf("the base saw stamps %v, the cache published %+v: want two stamps, and the cache's name and numbers", stamps, wire.sent)
	}
	for i, want := range []int64{1, 0} {
		load(t.Context(), t, s)
		wire.f(bus.Change{ThreadID: "thr_1", Origin: stamps[i].Origin, Write: stamps[i].Write})
		p.costs(want, func() { load(t.Context(), t, s) }, "a read after the change of write %d", i+1)
	}
}

func TestManyUnknownWritesAreAllForeign(t *testing.T) {
	n := cache.NewNumbers()
	for w := uint64(1); w <= 5000; w++ {
		if w%2 == 0 {
			n.Add(w)
		}
	}
	for w := uint64(2); w <= 5000; w += 2 {
		if !n.Has(w) {
			t.Fatalf("write %d is not in the set", w)
		}
	}
	if n.Has(4999) || n.Has(5001) {
		t.Error("writes 4999 and 5001 are in the set, and were not added")
	}
	if n.Len() > 1100 {
		t.Errorf("the set has %d numbers, want at most 1100", n.Len())
	}
}

// leasedBus has a lease, so it can lose its connection without noticing.
type leasedBus struct {
	handBus
	until atomic.Pointer[time.Time]
}

func (b *leasedBus) LeasedUntil() time.Time { return *b.until.Load() }

func (b *leasedBus) lease(until time.Time) { b.until.Store(&until) }

func TestNothingIsServedBeyondTheLease(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"with a TTL": time.Hour, "without": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := &leasedBus{}
				wire.lease(time.Time{})
				s, p, base := open(t, cache.WithBus(wire), cache.WithTTL(ttl))
				fill(t, base, 3)
				wire.connected(true)
				warm2 := func() { warm(t, s); warm(t, s) }
				p.costs(4, warm2, "connected but without a lease")
				wire.lease(time.Now().Add(5 * time.Second))
				warm(t, s)
				time.Sleep(5*time.Second - time.Nanosecond)
				p.costs(0, warm2, "in the last moment of the lease")
				time.Sleep(time.Nanosecond)
				p.costs(4, warm2, "at the end of the lease")
				if n := stat(s, "chatstore_cache_requests_total", "bypass"); n != 8 {
					t.Errorf("%v reads bypassed the cache, want 8", n)
				}
				wire.lease(time.Now().Add(time.Second))
				if n := p.readsOf(warm2); n > 2 {
					t.Errorf("with a new lease: %d base reads, want at most 2", n)
				}
			})
		})
	}
}

// A bus that connects while the cache is being closed must not make it serve again.
func TestAClosedCacheIsNotConnected(t *testing.T) {
	wire := &handBus{}
	s := store.Wrap(memstore.New(), cache.New(cache.WithBus(wire)))
	counter := cache.Counter(s)
	release := cache.HoldShards(s) // connecting sees that the cache is open, and then waits for the shards
	var wg sync.WaitGroup
	wg.Go(func() { wire.connected(true) })
	for cache.Counter(s) == counter {
		runtime.Gosched()
	}
	wg.Go(func() { must(t, store.Close(s)) })
	for range 100_000 { // long enough to close, if connecting does not prevent it
		if cache.Closed(s) {
			break
		}
		runtime.Gosched()
	}
	release()
	wg.Wait()
	if cache.Serving(s) {
		t.Error("the closed cache still answers from its entries")
	}
	wire.connected(true)
	if cache.Serving(s) {
		t.Error("the closed cache answers from its entries after the bus connected")
	}
}

// A base may publish writes without a stamp, such as another program's. They have been committed, so no quarantine follows.
func TestAChangeWithoutAnOriginHasHappened(t *testing.T) {
	wire := &handBus{}
	s, p, base := open(t, cache.WithBus(wire), cache.WithQuarantine(time.Minute))
	wire.connected(true)
	fill(t, base, 1)
	warm(t, s)
	wire.f(bus.Change{ThreadID: "thr_1"})
	p.costs(2, func() { warm(t, s); warm(t, s) }, "two rounds of reads, of which the first sees the change")
}

// A write is announced even if its caller's context ends as soon as the write is done.
func TestAWriteIsAnnouncedThoughItsCallerHasLeft(t *testing.T) {
	wire := &refusingBus{}
	s, p, _ := open(t, cache.WithBus(wire))
	ctx, cancel := context.WithCancel(t.Context())
	p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		defer cancel()
		return next(ctx)
	})
	must(t, s.SaveThread(ctx, first))
	if len(wire.sent) != 1 {
		t.Errorf("published %v, want one change", wire.sent)
	}
}

// refusingBus does not publish in a context that has ended.
type refusingBus struct{ handBus }

func (b *refusingBus) Publish(ctx context.Context, c bus.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.handBus.Publish(ctx, c)
}

func TestTheEndOfItsContextEndsASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := bus.Local()
		ctx, cancel := context.WithCancel(t.Context())
		got := 0
		stop := wire.Subscribe(ctx, func(bus.Change) { got++ }, func(bool) {})
		defer stop()
		must(t, wire.Publish(t.Context(), bus.Change{ThreadID: "thr_1"}))
		cancel()
		synctest.Wait()
		must(t, wire.Publish(t.Context(), bus.Change{ThreadID: "thr_1"}))
		if got != 1 {
			t.Errorf("the subscriber got %d changes, want only the first", got)
		}
	})
}

// pends returns a fault of a base that watches its write: the write takes effect after the given time, on the bubble's clock.
func pends(d time.Duration) func(context.Context, layer.Call, func(context.Context) error) error {
	return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		ended := make(chan struct{})
		driver.ReportPending(ctx, ended)
		go func() {
			defer close(ended)
			time.Sleep(d)
			_ = next(context.WithoutCancel(ctx))
		}()
		return store.ErrUnavailable
	}
}

// A write that the base watches is held back by every cache until the base has reported its end, also beyond the quarantines.
func TestAPendingWriteIsHeldBackByEveryCacheOnTheBus(t *testing.T) {
	for name, answer := range map[string]error{"unknown": store.ErrUnavailable, "a definite answer of a second try": store.ErrConflict} {
		synctest.Test(t, func(t *testing.T) {
			base, wire := memstore.New(), bus.Local()
			f := faulty.New(base, faulty.WithLongestWrite(time.Second))
			a, b := onBus(t, f, wire), onBus(t, f, wire)
			fill(t, base, 1)
			f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1,
				Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
					_ = pends(125*time.Second)(ctx, c, next)
					return answer
				}})
			heard := 0 // by a layer above
			ctx := spy.WithUnsettledRecorder(t.Context(), func(ended <-chan struct{}) {
				if ended != nil {
					heard++
				}
			})
			_ = a.SaveThread(ctx, second)
			if heard != 1 {
				t.Errorf("%s: reported to the layer above %d times, want once", name, heard)
			}
			time.Sleep(124 * time.Second)
			load(t.Context(), t, a)
			load(t.Context(), t, b) // the state before the write
			time.Sleep(2 * time.Second)
			answers(t, a, "second", name+": in the writing cache")
			answers(t, b, "second", name+": in the other cache")
		})
	}
}

// The last announcement of a pending write comes when it has ended, and has no origin.
func TestAPendingWriteIsToldOfAgainUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, wire := memstore.New(), &handBus{}
		f := faulty.New(base, faulty.WithLongestWrite(time.Second))
		a := onBus(t, f, wire)
		fill(t, base, 1)
		for _, d := range []time.Duration{10 * time.Minute, 90 * time.Second} { // two writes of a row
			f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: pends(d)})
			_ = a.SaveThread(t.Context(), second)
		}
		after := func(d time.Duration) []bus.Change {
			time.Sleep(d)
			synctest.Wait()
			wire.mu.Lock()
			defer wire.mu.Unlock()
			return slices.Clone(wire.sent)
		}
		for _, c := range after(10*time.Minute - time.Second/2) {
			if c.Origin == "" || c.Write != 0 {
				t.Fatalf("published %+v before the write ended", c)
			}
		}
		sent := after(2 * time.Second)
		if last := sent[len(sent)-1]; last != (bus.Change{ThreadID: "thr_1"}) || len(sent) < 500 {
			t.Errorf("%d announcements, of which the last is %+v, want one a second, and then the write's end", len(sent), last)
		}
		if n := len(after(time.Hour)) - len(sent); n != 0 {
			t.Errorf("%d announcements after the last one", n)
		}
	})
}

// A cache that was disconnected when a write's outcome became unknown has not held its thread back. It must hear of the
// write when the write can have no further effect.
func TestAnUnknownWriteIsToldOfAgainWhenItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, wire := memstore.New(), &handBus{}
		f := faulty.New(base, faulty.WithLongestWrite(time.Minute))
		a := onBus(t, f, wire)
		fill(t, base, 1)
		var late faulty.Late
		f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: late.Hold(nil)})
		_ = a.SaveThread(t.Context(), second)
		b := onBus(t, f, wire) // connected only now
		wire.connected(true)
		warm(t, b)
		must(t, late.Apply())
		time.Sleep(time.Minute)
		synctest.Wait()
		last := len(wire.sent) - 1
		for i, c := range wire.sent {
			if known := c.Origin == ""; last < 1 || known != (i == last) {
				t.Fatalf("published %+v, want the unknown outcome several times, and then its end", wire.sent)
			}
		}
		wire.f(wire.sent[last])
		answers(t, b, "second", "in the other cache")
		if n := wire.sent[last]; n.Origin != "" || n.ThreadID != "thr_1" {
			t.Errorf("the last change is %+v: it would begin another quarantine", n)
		}
	})
}

// A cache that was disconnected when a write's outcome became unknown hears of it soon after it has connected again.
func TestAnUnknownWriteIsToldOfAgainToWhoWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, local := memstore.New(), bus.Local()
		f := faulty.New(base, faulty.WithLongestWrite(30*time.Second))
		away := &fitfulBus{Bus: local, steady: true}
		a, b := onBus(t, f, local), onBus(t, f, away)
		fill(t, base, 1)
		var late faulty.Late
		f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: late.Hold(nil)})
		away.leave()
		_ = a.SaveThread(t.Context(), second)
		away.comeBack()
		warm(t, b) // the state before the write
		time.Sleep(2 * time.Second)
		must(t, late.Apply())
		answers(t, b, "second", "in the other cache, two seconds after it came back")
	})
}

type countingBus struct{ handBus }

func (*countingBus) AppendStats(dst []layer.Stat) []layer.Stat {
	return append(dst, layer.Stat{Name: "chatstore_bus_connected", Value: 1})
}

func TestItReportsWhatItsBusCounts(t *testing.T) {
	if s := onBus(t, memstore.New(), &countingBus{}); stat(s, "chatstore_bus_connected", "") != 1 {
		t.Error("the cache does not report the statistics of its bus")
	}
}

// A row has one pending announcement, however many of its writes have an unknown outcome. A closed cache has none.
func TestRemindersDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, closed := range []bool{false, true} {
			wire := &handBus{}
			s, p, _ := open(t, cache.WithBus(wire))
			p.set(faulty.Fail(nil))
			for range 100 {
				_ = s.SaveThread(t.Context(), first)
			}
			want := 100 + 60 // the row's reminders, one a second for a minute
			if closed {
				must(t, store.Close(s))
				want = 100
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if len(wire.sent) != want {
				t.Errorf("closed %v: %d announcements, want %d", closed, len(wire.sent), want)
			}
		}
	})
}
