package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	lease = 5 * time.Second
	tick  = lease / 5 // between heartbeats
)

var must = testenv.Must

// open returns a Bus that is closed at the end of the test, unless the test has closed it.
func open(t *testing.T, tr pubsub.Transport, opts ...pubsub.Option) *pubsub.Bus {
	t.Helper()
	b := pubsub.New(tr, append([]pubsub.Option{pubsub.WithLease(lease), pubsub.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	t.Cleanup(func() { b.Close() })
	return b
}

// witness is a subscriber that records its calls.
type witness struct {
	t    *testing.T
	bus  *pubsub.Bus // if not nil, it must have no lease while the witness is disconnected
	mu   sync.Mutex
	up   bool
	seen []string
}

func (w *witness) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
}

func (w *witness) f(c bus.Change) { w.add(c.ThreadID + c.AttachmentID) }

func (w *witness) connected(yes bool) {
	w.add(map[bool]string{true: "up", false: "down"}[yes])
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = yes
}

// take waits until all goroutines are idle and returns the calls since the last take.
func (w *witness) take() string {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bus != nil && !w.up && !w.bus.LeasedUntil().IsZero() {
		w.t.Errorf("%v: the Bus has a lease, but its subscriber is disconnected", time.Now().Format("05.0"))
	}
	s := strings.Join(w.seen, " ")
	w.seen = nil
	return s
}

func (w *witness) want(want string) {
	w.t.Helper()
	if got := w.take(); got != want {
		w.t.Errorf("%v: got %q, want %q", time.Now().Format("05.0"), got, want)
	}
}

// after sleeps for d, then checks like want.
func (w *witness) after(d time.Duration, want string) {
	w.t.Helper()
	time.Sleep(d)
	w.want(want)
}

// hears publishes change n on b, then checks like want.
func (w *witness) hears(b *pubsub.Bus, n int, want string) {
	w.t.Helper()
	must(w.t, b.Publish(w.t.Context(), change(n)))
	w.want(want)
}

func watch(t *testing.T, b *pubsub.Bus) *witness {
	w := &witness{t: t, bus: b}
	b.Subscribe(context.Background(), w.f, w.connected)
	return w
}

// alone runs f in a synctest bubble with a Bus b at the port p of a new hub, and a connected witness of b.
func alone(t *testing.T, f func(t *testing.T, p *port, b *pubsub.Bus, w *witness), opts ...pubsub.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newHub().port("a")
		b := open(t, p, opts...)
		w := watch(t, b)
		w.want("up")
		f(t, p, b, w)
	})
}

// pair runs f in a synctest bubble with a Bus a at the port p, and a witness of another Bus. The two know each other.
func pair(t *testing.T, f func(t *testing.T, p *port, a *pubsub.Bus, w *witness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newHub().port("a")
		a, w := open(t, p), watch(t, open(t, p.port("b")))
		w.after(lease, "up")
		f(t, p, a, w)
	})
}

func change(n int) bus.Change { return bus.Change{ThreadID: fmt.Sprintf("thr_%d", n)} }

func decoded(payload string) pubsub.Message {
	m, _ := pubsub.Decode(payload)
	return m
}

func counted(b *pubsub.Bus, name, label string) (v float64) {
	for _, s := range b.AppendStats(nil) {
		if s.Name == name && s.Labels[0].Value == label {
			v += s.Value
		}
	}
	return v
}

// losing loses the payloads for which lost returns true.
func losing(lost func(to *conn, payload string) bool) fate {
	return func(to *conn, payload string) ([]string, time.Duration) {
		if lost(to, payload) {
			return nil, 0
		}
		return []string{payload}, 0
	}
}

var (
	nothing     = losing(func(*conn, string) bool { return true })
	lostChanges = losing(func(_ *conn, p string) bool { return len(decoded(p).Changes) > 0 })
)

func late(d time.Duration) fate {
	return func(_ *conn, p string) ([]string, time.Duration) { return []string{p}, d }
}

// secondBeat loses all heartbeats except the second, which it delays by d.
func secondBeat(d time.Duration) fate {
	return func(_ *conn, p string) ([]string, time.Duration) {
		switch decoded(p).Beat {
		case 0:
			return []string{p}, 0
		case 2:
			return []string{p}, d
		}
		return nil, 0
	}
}

func refuse(context.Context) error { return errFake }

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAChangeReachesEveryBusItsOwnIncluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		a, b := open(t, h.port("a")), open(t, h.port("b"))
		all := []*witness{watch(t, a), watch(t, a), watch(t, b)}
		synctest.Wait()
		sent := bus.Change{ThreadID: "thr_1", Origin: "cache", Write: 7}
		var got bus.Change
		b.Subscribe(t.Context(), func(c bus.Change) { got = c }, func(bool) {})
		must(t, a.Publish(t.Context(), sent))
		for _, w := range all {
			w.want("up thr_1")
		}
		if got != sent {
			t.Errorf("got %+v, sent was %+v", got, sent)
		}
	})
}

func TestTwoCachesInTwoProcessesAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, base := newHub(), memstore.New()
		stacks := make([]store.Store, 2)
		for i := range stacks {
			stacks[i] = store.Wrap(base, cache.New(cache.WithBus(open(t, h.port("")))))
			t.Cleanup(func() { store.Close(stacks[i]) })
		}
		synctest.Wait()
		for i := range 4 {
			thread := chat.Thread{ID: "thr_1", Title: fmt.Sprint(i), CreatedAt: time.Now()}
			must(t, stacks[i%2].SaveThread(t.Context(), thread))
			synctest.Wait()
			for _, s := range stacks {
				if got, err := s.LoadThread(t.Context(), "thr_1"); err != nil || got.Title != thread.Title {
					t.Errorf("got %q, %v; saved was %q", got.Title, err, thread.Title)
				}
			}
		}
	})
}

func TestNobodyIsConnectedBeforeAnOwnHeartbeatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newHub().port("a")
		a.setFate(losing(func(to *conn, p string) bool { return to.port == a && decoded(p).Conn != "" }))
		w := watch(t, open(t, a))
		open(t, a.port("b"))
		w.want("")
		a.setFate(nil)
		w.after(tick, "up")
	})
}

func TestOnlyHeartbeatsOfTheSameConnectionCount(t *testing.T) {
	alone(t, func(t *testing.T, p *port, _ *pubsub.Bus, w *witness) {
		old := p.log[0]
		p.setFate(nothing)
		p.cut()
		w.want("down")
		w.after(tick, "") // connected again
		if p.opened != 2 {
			t.Fatalf("%d connections", p.opened)
		}
		p.setFate(losing(func(_ *conn, payload string) bool { return payload != old }))
		p.send(old)
		w.want("") // but without a lease
	})
}

func TestTheLeaseCountsFromTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newHub().port("a")
		p.setFate(late(2 * time.Second))
		began := time.Now()
		b := open(t, p)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := b.LeasedUntil(); !got.Equal(began.Add(lease)) {
			t.Errorf("leased until %v after the sending, want %v", got.Sub(began), lease)
		}
	})
}

func TestAHalfOpenConnectionEndsTheLeaseAndIsReplaced(t *testing.T) {
	alone(t, func(t *testing.T, p *port, b *pubsub.Bus, w *witness) {
		p.setFate(nothing)
		w.after(time.Until(b.LeasedUntil())-1, "")
		w.after(time.Nanosecond, "down")
		w.after(lease-1, "")
		if p.opened != 1 {
			t.Errorf("the connection was given up too early")
		}
		p.setFate(nil)
		p.mu.Lock()
		clear(p.conns) // the old connection receives nothing more
		p.mu.Unlock()
		w.after(time.Second, "up")
		if p.opened != 2 {
			t.Errorf("%d connections, want 2", p.opened)
		}
	})
}

func TestAHeartbeatLaterThanTheLeaseIsNone(t *testing.T) {
	alone(t, func(_ *testing.T, p *port, _ *pubsub.Bus, w *witness) {
		p.setFate(late(lease))
		w.after(lease, "down")
		for range 20 {
			w.after(tick/2, "")
		}
	})
}

// A heartbeat may come after the old lease has ended and still begin a new one. It must not hide the end of the old one.
func TestALeaseThatLapsedIsNeverExtendedUnsaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newHub().port("a")
		// The subscription must come before the first lease, so that its first connected(true) comes without a lease.
		subscribed := make(chan struct{})
		p.set(func(context.Context) error { <-subscribed; return nil }, nil)
		b := open(t, p)
		w := &witness{t: t}
		block, hold := make(chan struct{}), true
		b.Subscribe(t.Context(), func(bus.Change) {
			if hold {
				<-block
			}
		}, func(yes bool) {
			w.connected(yes)
			if !b.LeasedUntil().IsZero() {
				w.add("leased")
			}
		})
		close(subscribed)
		w.want("up")
		// The first heartbeat was sent at 0, and the lease ends at 5; the second arrives at 4.9, the third while f runs.
		p.setFate(secondBeat(tick * 39 / 10))
		time.Sleep(tick * 48 / 10)
		go b.Publish(context.Background(), change(1))
		synctest.Wait()
		time.Sleep(tick * 4 / 10) // the lease ends at 5 while f runs
		if !time.Now().After(b.LeasedUntil()) {
			t.Error("the lease outlasts its heartbeat while a subscriber is slow")
		}
		p.setFate(nil)
		hold = false
		close(block)
		w.want("down up") // with the second one, sent at 1: leased until 6
	})
}

// The heartbeat and the end of the lease happen at the same moment. Which of them is seen first is random.
func TestAHeartbeatAtTheEndOfTheLeaseDoesNotHideIt(t *testing.T) {
	for range 50 {
		alone(t, func(_ *testing.T, p *port, _ *pubsub.Bus, w *witness) {
			p.setFate(secondBeat(lease - tick))
			w.after(lease, "down up")
		})
	}
}

func TestALostConnectionIsToldAtOnce(t *testing.T) {
	alone(t, func(t *testing.T, p *port, b *pubsub.Bus, w *witness) {
		p.set(refuse, nil)
		p.cut()
		w.want("down")
		p.set(nil, nil)
		w.after(time.Second, "up")
		if n := counted(b, "chatstore_bus_drops_total", "connection"); n != 1 {
			t.Errorf("counted %v lost connections", n)
		}
	})
}

func TestALostMessageIsNoticedByTheNext(t *testing.T) {
	pair(t, func(t *testing.T, p *port, a *pubsub.Bus, w *witness) {
		w.hears(a, 1, "thr_1")
		p.setFate(nothing)
		w.hears(a, 2, "")
		p.setFate(nil)
		w.hears(a, 3, "down up thr_3")
		w.hears(a, 4, "thr_4")
		if !w.bus.LeasedUntil().After(time.Now()) {
			t.Error("a gap on a live connection ended the lease")
		}
	})
}

func TestALostMessageIsNoticedByTheNextHeartbeat(t *testing.T) {
	pair(t, func(_ *testing.T, p *port, a *pubsub.Bus, w *witness) {
		p.setFate(lostChanges)
		w.hears(a, 1, "")
		w.after(tick, "down up")
		w.after(10*tick, "")
	})
}

func TestADoubleOrOvertakenMessageIsAGap(t *testing.T) {
	pair(t, func(_ *testing.T, p *port, a *pubsub.Bus, w *witness) {
		p.setFate(func(_ *conn, s string) ([]string, time.Duration) { return []string{s, s}, 0 })
		w.hears(a, 1, "thr_1 down up thr_1")
		p.setFate(late(tick / 4))
		w.hears(a, 2, "")
		p.setFate(nil)
		w.hears(a, 3, "down up thr_3")
		w.after(tick/4, "down up thr_2")
	})
}

func TestAFailedPublishIsAnErrorAndAGapForTheOthers(t *testing.T) {
	for name, publish := range map[string]func(context.Context) error{"refused": refuse, "hanging": hang} {
		t.Run(name, func(t *testing.T) {
			pair(t, func(t *testing.T, p *port, a *pubsub.Bus, w *witness) {
				p.set(nil, publish)
				end := time.Now().Add(lease * 3 / 5)
				if err := a.Publish(t.Context(), change(1)); !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				w.after(time.Until(end), "down up")
				if n := counted(a, "chatstore_bus_unsent_changes_total", ""); n != 1 {
					t.Errorf("counted %v unsent", n)
				}
			})
		})
	}
}

func TestAChangeGivenUpInTheQueueIsAGapForTheOthers(t *testing.T) {
	pair(t, func(t *testing.T, p *port, a *pubsub.Bus, w *witness) {
		time.Sleep(tick / 2)
		gate := make(chan struct{})
		p.set(nil, func(context.Context) error { <-gate; return nil })
		first := make(chan error, 1)
		go func() { first <- a.Publish(t.Context(), change(1)) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Publish(ctx, change(2)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		w.after(tick*3/4, "") // past a heartbeat, whose number must not include the message that is being sent
		close(gate)
		must(t, <-first)
		w.want("thr_1")
		w.after(tick, "down up")
		w.hears(a, 3, "thr_3")
	})
}

func TestAPublishWaitsTwoFifthsOfTheLeaseAtMost(t *testing.T) {
	alone(t, func(t *testing.T, p *port, b *pubsub.Bus, _ *witness) {
		p.set(nil, hang)
		var wg sync.WaitGroup
		for range 300 { // three batches: the last one would exceed the limit
			wg.Go(func() {
				began := time.Now()
				if err := b.Publish(context.Background(), change(1)); err == nil {
					t.Error("no error")
				}
				if d := time.Since(began); d > 2*tick {
					t.Errorf("waited for %v", d)
				}
			})
		}
		wg.Wait()
	})
}

func TestNumbersAreSentInOrder(t *testing.T) {
	alone(t, func(t *testing.T, p *port, b *pubsub.Bus, w *witness) {
		p.set(nil, func(context.Context) error { time.Sleep(time.Microsecond); return nil })
		var wg sync.WaitGroup
		const n = 500
		for i := range n {
			wg.Go(func() { must(t, b.Publish(t.Context(), change(i))) })
		}
		wg.Wait()
		if got := strings.Fields(w.take()); len(got) != n || slices.Contains(got, "down") {
			t.Errorf("got %d changes of %d: %v", len(got), n, got)
		}
		var last uint64
		for _, s := range p.log {
			if m := decoded(s); len(m.Changes) > 0 {
				if m.Number != last+1 {
					t.Errorf("number %d after %d", m.Number, last)
				}
				last = m.Number
			}
		}
		if last == 0 || last > n/10 {
			t.Errorf("%d messages for %d concurrent changes", last, n)
		}
	})
}

func TestAnUndecodablePayloadEndsTheConnection(t *testing.T) {
	alone(t, func(t *testing.T, p *port, b *pubsub.Bus, w *witness) {
		p.send("garbage")
		w.want("down")
		w.after(time.Second, "up")
		if p.opened != 2 || counted(b, "chatstore_bus_drops_total", "payload") != 1 {
			t.Errorf("%d connections", p.opened)
		}
	})
}

func TestASilentPublisherMakesAllDropOnce(t *testing.T) {
	pair(t, func(_ *testing.T, dead *port, a *pubsub.Bus, w *witness) {
		w.hears(a, 1, "thr_1")
		name := decoded(dead.log[len(dead.log)-1]).Publisher
		dead.setFate(losing(func(to *conn, p string) bool { // no payload of a arrives
			return to.port != dead && decoded(p).Publisher == name
		}))
		w.after(lease-1, "")
		w.after(time.Nanosecond, "down up")
		w.after(4*lease, "")
		// When it comes back, the others do not know its earlier messages.
		dead.setFate(nil)
		w.after(tick, "down up")
	})
}

func TestAGoodbyeIsNoSilence(t *testing.T) {
	pair(t, func(t *testing.T, _ *port, a *pubsub.Bus, w *witness) {
		w.hears(a, 1, "thr_1")
		must(t, a.Close())
		w.after(3*lease, "")
	})
}

func TestAGoodbyeTellsOfALostMessage(t *testing.T) {
	pair(t, func(t *testing.T, p *port, a *pubsub.Bus, w *witness) {
		p.setFate(lostChanges)
		w.hears(a, 1, "")
		must(t, a.Close())
		w.want("down up")
	})
}

func TestANewPublisherIsNoReasonToDrop(t *testing.T) {
	alone(t, func(t *testing.T, p *port, _ *pubsub.Bus, w *witness) {
		w.after(lease, "")
		w.hears(open(t, p.port("b")), 1, "thr_1")
		w.after(lease, "")
	})
}

func TestAPublisherFirstHeardOfAfterItsFirstMessageIs(t *testing.T) {
	alone(t, func(t *testing.T, p *port, _ *pubsub.Bus, w *witness) {
		w.after(lease, "")
		p.setFate(nothing)
		w.hears(open(t, p.port("b")), 1, "")
		p.setFate(nil)
		w.after(tick, "down up")
	})
}

func TestManyPublishersMetOnConnectingAreOneDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		for i := range 20 {
			b := open(t, h.port(""))
			must(t, b.Publish(t.Context(), change(i)))
			time.Sleep(tick / 20)
		}
		w := watch(t, open(t, h.port("b")))
		w.want("up")
		w.after(2*lease, "down up")
	})
}

func TestTheMemoryForPublishersIsBounded(t *testing.T) {
	alone(t, func(t *testing.T, p *port, _ *pubsub.Bus, w *witness) {
		for i := range 10_000 {
			m, err := pubsub.Encode(pubsub.Message{Publisher: fmt.Sprint("p", i), Changes: []bus.Change{change(0)}, Number: 1})
			must(t, err)
			p.send(m)
		}
		if got := strings.Fields(w.take()); !slices.Contains(got, "down") {
			t.Error("there were more publishers than peers can hold, but nothing was dropped")
		}
	}, pubsub.WithLease(time.Hour))
}

func TestConnectingBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newHub().port("a")
		var at []time.Time
		p.set(func(context.Context) error {
			at = append(at, time.Now())
			return errFake
		}, nil)
		open(t, p, pubsub.WithBackoff(100*time.Millisecond, time.Second))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i := 1; i < len(at); i++ {
			longest := min(100*time.Millisecond<<(i-1), time.Second)
			if d := at[i].Sub(at[i-1]); d > longest || d < longest/2 {
				t.Errorf("pause %d took %v, want %v to %v", i, d, longest/2, longest)
			}
		}
		if len(at) < 10 {
			t.Errorf("%d attempts in 10 seconds", len(at))
		}
	})
}

// A connection that is lost as soon as it is made must not become a busy loop.
func TestAConnectionThatDoesNotLastBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newHub().port("a")
		p.setFate(func(_ *conn, s string) ([]string, time.Duration) { return []string{s, "garbage"}, 0 })
		open(t, p)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := p.opened; n > 30 {
			t.Errorf("%d connections in a minute", n)
		}
	})
}

func TestAHangingConnectIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newHub().port("a")
		p.set(hang, nil)
		w := watch(t, open(t, p))
		time.Sleep(4 * time.Second)
		p.set(nil, nil)
		w.after(2*time.Second, "up")
	})
}

func TestSubscribingToAConnectedBusConnectsAtOnce(t *testing.T) {
	alone(t, func(t *testing.T, _ *port, b *pubsub.Bus, first *witness) {
		time.Sleep(tick / 2)
		watch(t, b).want("up")
		first.want("")
	})
}

func TestStopWaitsForARunningCall(t *testing.T) {
	alone(t, func(t *testing.T, _ *port, b *pubsub.Bus, _ *witness) {
		gate, n := make(chan struct{}), 0
		stop := b.Subscribe(t.Context(), func(bus.Change) { n++; <-gate; n++ }, func(bool) {})
		synctest.Wait()
		must(t, b.Publish(t.Context(), change(1)))
		synctest.Wait()
		stopped := make(chan int, 1)
		go func() { stop(); stopped <- n }()
		synctest.Wait()
		if len(stopped) > 0 {
			t.Error("stop did not wait for the running call")
		}
		close(gate)
		if got := <-stopped; got != 2 {
			t.Errorf("stop returned during the call (%d)", got)
		}
		must(t, b.Publish(t.Context(), change(2)))
		stop()
		synctest.Wait()
		if n != 2 {
			t.Error("f was called after stop")
		}
	})
}

func TestNobodyIsCalledAfterStop(t *testing.T) {
	alone(t, func(t *testing.T, _ *port, b *pubsub.Bus, _ *witness) {
		stop := func() {}
		b.Subscribe(t.Context(), func(bus.Change) { stop() }, func(bool) {})
		w := &witness{t: t}
		stop = b.Subscribe(t.Context(), w.f, w.connected) // called after the first
		w.want("up")
		w.hears(b, 1, "")
	})
}

func TestASubscriberThatComesWhileOthersAreToldIsToldToo(t *testing.T) {
	alone(t, func(t *testing.T, _ *port, b *pubsub.Bus, _ *witness) {
		w := &witness{t: t}
		b.Subscribe(t.Context(), func(bus.Change) {}, func(yes bool) {
			if yes {
				b.Subscribe(t.Context(), w.f, w.connected)
			}
		})
		w.want("up")
	})
}

func TestTheEndOfTheContextEndsTheSubscriptionFromWithin(t *testing.T) {
	alone(t, func(t *testing.T, _ *port, b *pubsub.Bus, _ *witness) {
		ctx, cancel := context.WithCancel(t.Context())
		w := &witness{t: t}
		b.Subscribe(ctx, func(c bus.Change) { w.f(c); cancel() }, w.connected)
		w.want("up")
		w.hears(b, 0, "thr_0")
		w.hears(b, 1, "")
		w.hears(b, 2, "")
	})
}

func TestASubscriberThatFailsStopsNobodyElse(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("out of order") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			// good subscribes first: a later subscription would call connected of bad once more.
			alone(t, func(t *testing.T, _ *port, b *pubsub.Bus, good *witness) {
				bad, times := &witness{t: t}, 0
				b.Subscribe(t.Context(), func(c bus.Change) {
					bad.f(c)
					if c == change(1) {
						fail()
					}
				}, func(yes bool) {
					bad.connected(yes)
					if times++; yes && times == 1 {
						fail()
					}
				})
				bad.want("up down")
				bad.after(tick, "up")
				for i := range 3 {
					must(t, b.Publish(t.Context(), change(i)))
				}
				good.want("thr_0 thr_1 thr_2")
				bad.want("thr_0 thr_1 down thr_2")
				bad.after(tick, "up")
				if n := counted(b, "chatstore_bus_subscriber_failures_total", ""); n != 2 {
					t.Errorf("counted %v failures", n)
				}
			})
		})
	}
}

func TestCloseTellsTheSubscribersAndTheOthers(t *testing.T) {
	alone(t, func(t *testing.T, p *port, b *pubsub.Bus, w *witness) {
		must(t, b.Close())
		must(t, b.Close())
		w.want("down")
		if last := decoded(p.log[len(p.log)-1]); !last.Goodbye {
			t.Errorf("the last message was %+v, want a goodbye", last)
		}
		if err := b.Publish(t.Context(), change(1)); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("published on a closed bus: %v", err)
		}
	})
}

func TestCloseSendsWhatIsWaiting(t *testing.T) {
	pair(t, func(t *testing.T, p *port, a *pubsub.Bus, w *witness) {
		p.set(nil, func(context.Context) error { time.Sleep(tick / 10); return nil })
		errs := make(chan error, 3)
		for i := range 3 {
			go func() { errs <- a.Publish(context.Background(), change(i)) }()
			synctest.Wait()
		}
		must(t, a.Close())
		for range 3 {
			must(t, <-errs)
		}
		w.after(2*lease, "thr_0 thr_1 thr_2")
	})
}

func TestCloseWaitsForNoTransportThatHangs(t *testing.T) {
	for name, connect := range map[string]func(context.Context) error{"connecting": hang, "connected": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newHub().port("a")
				p.set(connect, hang)
				b := open(t, p)
				synctest.Wait()
				go b.Publish(context.Background(), change(1))
				synctest.Wait()
				began := time.Now()
				must(t, b.Close())
				if d := time.Since(began); d > tick {
					t.Errorf("Close took %v", d)
				}
			})
		})
	}
}

func TestWhatTheBaseAnnouncesIsNotPublished(t *testing.T) {
	alone(t, func(_ *testing.T, p *port, b *pubsub.Bus, w *witness) {
		w.hears(b, 1, "")
		p.send(`{"t":["thr_1","thr_2"],"a":["atc_1"],"o":"cache","w":3}`) // sent by a trigger
		p.send(`{"t":["thr_3"]}`)
		w.want("thr_1atc_1 thr_2 thr_3")
	}, pubsub.WithAnnouncingBase())
}

func TestAChangeThatNobodyCouldDecodeIsRefused(t *testing.T) {
	alone(t, func(t *testing.T, _ *port, b *pubsub.Bus, w *witness) {
		for _, c := range []bus.Change{{}, {ThreadID: "a\n"}, {AttachmentID: "\xff"}, {All: true, Origin: strings.Repeat("x", 257)}} {
			if err := b.Publish(t.Context(), c); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		w.after(lease, "")
	})
}

func TestMisuseIsRefusedAtConstruction(t *testing.T) {
	p := newHub().port("a")
	for name, f := range map[string]func(){
		"Transport":   func() { pubsub.New(nil) },
		"WithLease":   func() { pubsub.New(p, pubsub.WithLease(0)) },
		"WithBackoff": func() { pubsub.New(p, pubsub.WithBackoff(2, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), name) {
					t.Errorf("panicked with %v", p)
				}
			}()
			f()
		})
	}
}

// process is a subscriber that serves. It checks the promise: while it serves, it knows every change that was published more
// than a lease and a delivery time ago.
type process struct {
	*port
	bus     *pubsub.Bus
	mu      sync.Mutex
	serving bool
	unknown map[string]time.Time // published changes that did not arrive, with their times
}

func (p *process) hear(c bus.Change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.unknown, c.ThreadID)
}

func (p *process) connected(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.serving = yes; yes {
		clear(p.unknown)
	}
}

func TestNobodyServesWithoutAChangeThatIsOlderThanTheLease(t *testing.T) {
	const longest = tick // delivery time
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd, fates := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1)) // fates is guarded by h.mu
				h := newHub()
				processes := make([]*process, 4)
				for i := range processes {
					p := &process{port: h.port(fmt.Sprint(i)), unknown: map[string]time.Time{}}
					p.bus = open(t, p.port, pubsub.WithBackoff(tick/20, tick/10))
					p.bus.Subscribe(t.Context(), p.hear, p.connected)
					processes[i] = p
				}
				arrives := map[*conn]time.Time{} // arrival time of the last payload, to keep the order
				h.setFate(func(to *conn, p string) ([]string, time.Duration) {
					at := time.Now().Add(time.Duration(fates.Int64N(int64(longest))))
					if at.Before(arrives[to]) {
						at = arrives[to]
					}
					arrives[to] = at
					after := max(time.Until(at), 1)
					switch fates.IntN(50) {
					case 0, 1, 2, 3:
						return nil, 0
					case 4:
						return []string{p, p}, after
					case 5:
						if fates.IntN(10) == 0 {
							return []string{p[:len(p)/2]}, after
						}
					}
					return []string{p}, after
				})
				served, checks := 0, 0
				for n := range 600 {
					time.Sleep(time.Duration(rnd.Int64N(int64(tick / 3))))
					synctest.Wait()
					c, now := change(n), time.Now()
					for i, p := range processes {
						checks++
						p.mu.Lock()
						if p.serving && now.Before(p.bus.LeasedUntil()) {
							served++
							for id, at := range p.unknown {
								if now.Sub(at) > lease+longest {
									t.Fatalf("process %d serves without %s, published %v ago", i, id, now.Sub(at))
								}
							}
						}
						p.unknown[c.ThreadID] = now
						p.mu.Unlock()
					}
					from := processes[rnd.IntN(len(processes))]
					switch rnd.IntN(12) {
					case 0:
						from.cut()
					case 1:
						from.set(nil, refuse)
					case 2:
						from.set(nil, hang)
					default:
						from.set(nil, nil)
					}
					go from.bus.Publish(context.Background(), c)
				}
				if served < checks/4 {
					t.Errorf("processes served in only %d of %d checks", served, checks)
				}
			})
		})
	}
}
