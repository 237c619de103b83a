package cache_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// onBus makes a cache over base.
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

// A cache's own message must not undo its own patch.
func TestOnesOwnMessageIsNotForeign(t *testing.T) {
	s, p, base := open(t, cache.WithBus(bus.Local()))
	fill(t, base, 3)
	warm(t, s)
	p.costs(0, func() { turn(t, s, 0) }, "a warm turn on a wire")
}

// handBus is a Bus that a test moves by hand.
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
	p.costs(4, warm2, "cut off")
	wire.connected(true)
	p.costs(2, warm2, "connected again, when what was from before the gap must be gone")
}

// A load that was under way when a gap opened must not be stored after it has closed: emptying the LRU is not enough.
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
			answers(t, s, "second", "after a load from before the change")
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
		t.Fatalf("sent %+v; want the success and the unknown, not the conflict", wire.sent)
	}
	if ok := wire.sent[0]; ok.ThreadID != "thr_1" || ok.Write == 0 || ok.Origin == "" {
		t.Errorf("a success was announced as %+v", ok)
	}
	if unknown := wire.sent[1]; unknown.ThreadID != "thr_1" || unknown.Write != 0 {
		t.Errorf("an unknown outcome was announced as %+v", unknown)
	}
}

// What carries this cache's name but no number is not known to have incremented its counters at the right time.
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
		p.costs(c.reads, func() { load(t.Context(), t, s) }, "a read after a message of write %d", c.write)
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
				t.Fatalf("got %v", err)
			}
		}
		time.Sleep(50 * time.Second) // the bubble's clock
		warmBoth()
		must(t, thread.Apply())
		must(t, file.Apply())
		for name, s := range map[string]store.Store{"writer": a, "other": b} {
			answers(t, s, "second", name)
			at := get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
			if body := get[chat.AttachmentBody](t)(at.Decode()); body.Name != "second" {
				t.Errorf("%s: the attachment is still %q", name, body.Name)
			}
		}
		time.Sleep(80 * time.Second) // the quarantines are over, that of the last announcement too
		synctest.Wait()
		warmBoth()
		before := f.Reads()
		warmBoth()
		if n := f.Reads() - before; n != 0 {
			t.Errorf("after the quarantine, warm reads cost %d base reads", n)
		}
	})
}

// A base that announces its transactions itself, stamped, may announce a write that its cache gave up: that is no message of
// its own any more.
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
		t.Fatalf("the base saw %v; announced was %+v", stamps, wire.sent)
	}
	for i, want := range []int64{1, 0} {
		load(t.Context(), t, s)
		wire.f(bus.Change{ThreadID: "thr_1", Origin: stamps[i].Origin, Write: stamps[i].Write})
		p.costs(want, func() { load(t.Context(), t, s) }, "a read after the message of write %d", i+1)
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
			t.Fatalf("write %d is forgotten", w)
		}
	}
	if n.Has(4999) || n.Has(5001) {
		t.Error("the newest writes are taken for unknown ones")
	}
	if n.Len() > 1100 {
		t.Errorf("%d numbers are kept", n.Len())
	}
}

// leasedBus can be cut off without noticing.
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
				p.costs(4, warm2, "at its end")
				if n := stat(s, "chatstore_cache_requests_total", "bypass"); n != 8 {
					t.Errorf("%v reads passed the cache by, want 8", n)
				}
				wire.lease(time.Now().Add(time.Second))
				if n := p.readsOf(warm2); n > 2 {
					t.Errorf("with a new lease: %d base reads", n)
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
	release := cache.HoldShards(s) // connecting waits for them, having seen that the cache is open
	var wg sync.WaitGroup
	wg.Go(func() { wire.connected(true) })
	for cache.Counter(s) == counter {
		runtime.Gosched()
	}
	wg.Go(func() { must(t, store.Close(s)) })
	for range 100_000 { // long enough to close, if connecting does not keep it from that
		if cache.Closed(s) {
			break
		}
		runtime.Gosched()
	}
	release()
	wg.Wait()
	if cache.Serving(s) {
		t.Error("a closed cache answers from its entries")
	}
	wire.connected(true)
	if cache.Serving(s) {
		t.Error("a closed cache was connected")
	}
}

// What a base announces of writes that bear no stamp, such as another program's, has happened: nothing is held back for it.
func TestAChangeWithoutAnOriginHasHappened(t *testing.T) {
	wire := &handBus{}
	s, p, base := open(t, cache.WithBus(wire), cache.WithQuarantine(time.Minute))
	wire.connected(true)
	fill(t, base, 1)
	warm(t, s)
	wire.f(bus.Change{ThreadID: "thr_1"})
	p.costs(2, func() { warm(t, s); warm(t, s) }, "two warm reads, of which the first sees the change")
}

// The announcement of a write must not die with the caller that has just left.
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
		t.Errorf("announced %v", wire.sent)
	}
}

// refusingBus publishes for callers that are still there only.
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
		told := 0
		stop := wire.Subscribe(ctx, func(bus.Change) { told++ }, func(bool) {})
		defer stop()
		must(t, wire.Publish(t.Context(), bus.Change{ThreadID: "thr_1"}))
		cancel()
		synctest.Wait()
		must(t, wire.Publish(t.Context(), bus.Change{ThreadID: "thr_1"}))
		if told != 1 {
			t.Errorf("told of %d changes, want the first", told)
		}
	})
}

// A cache that was cut off when a write ended unknown has not held it back: it must hear of it when it is over.
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
				t.Fatalf("announced %+v, want the unknown outcome a few times, and its end", wire.sent)
			}
		}
		wire.f(wire.sent[last])
		answers(t, b, "second", "in the other cache")
		if n := wire.sent[last]; n.Origin != "" || n.ThreadID != "thr_1" {
			t.Errorf("told %+v: that would be held back again", n)
		}
	})
}

// Who was away when a write ended unknown is told soon after, long before the write may take effect.
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
		warm(t, b) // what was before the write
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
		t.Error("what the wire counts is not reported")
	}
}

// However many writes of a row end unknown, there is one announcement to come, and none from a closed cache.
func TestRemindersDoNotAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, closed := range []bool{false, true} {
			wire := &handBus{}
			s, p, _ := open(t, cache.WithBus(wire))
			p.set(faulty.Fail(nil))
			for range 100 {
				_ = s.SaveThread(t.Context(), first)
			}
			want := 100 + 60 // a minute of seconds, for the one row
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
