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
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	lease = 5 * time.Second
	tick  = lease / 5 // between heartbeats
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open returns a Bus that is closed when the test ends, or before.
func open(t *testing.T, tr pubsub.Transport, opts ...pubsub.Option) *pubsub.Bus {
	t.Helper()
	b := pubsub.New(tr, append([]pubsub.Option{pubsub.WithLease(lease), pubsub.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	t.Cleanup(func() { b.Close() })
	return b
}

// witness is a subscriber that writes down what it is told.
type witness struct {
	mu   sync.Mutex
	seen []string
}

func (w *witness) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
}

func (w *witness) f(c bus.Change) { w.add(c.ThreadID + c.AttachmentID) }

func (w *witness) connected(yes bool) { w.add(map[bool]string{true: "up", false: "down"}[yes]) }

// take waits until nothing moves, and returns what came since the last time.
func (w *witness) take() string {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.seen, " ")
	w.seen = nil
	return s
}

func (w *witness) want(t *testing.T, want string) {
	t.Helper()
	if got := w.take(); got != want {
		t.Errorf("%v: told %q, want %q", time.Now().Format("05.0"), got, want)
	}
}

func watch(b *pubsub.Bus) *witness {
	w := &witness{}
	b.Subscribe(context.Background(), w.f, w.connected)
	return w
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

// lostChanges loses what is a change.
func lostChanges(_ *conn, payload string) ([]string, time.Duration) {
	if len(decoded(payload).Changes) > 0 {
		return nil, 0
	}
	return []string{payload}, 0
}

// acquainted lets every Bus hear of every other, and w forget it.
func acquainted(w *witness) {
	time.Sleep(lease)
	w.take()
}

func nothing(*conn, string) ([]string, time.Duration) { return nil, 0 }

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestAChangeReachesEveryBusItsOwnIncluded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		a, b := open(t, h.port("a")), open(t, h.port("b"))
		wa, wa2, wb := watch(a), watch(a), watch(b)
		synctest.Wait()
		sent := bus.Change{ThreadID: "thr_1", Origin: "cache", Write: 7}
		var got bus.Change
		b.Subscribe(t.Context(), func(c bus.Change) { got = c }, func(bool) {})
		must(t, a.Publish(t.Context(), sent))
		for _, w := range []*witness{wa, wa2, wb} {
			w.want(t, "up thr_1")
		}
		if got != sent {
			t.Errorf("got %+v, sent was %+v", got, sent)
		}
	})
}

func TestTwoCachesInTwoProcessesAgree(t *testing.T) {
	bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
		h := newHub()
		a := h.port("a")
		h.setFate(func(to *conn, p string) ([]string, time.Duration) {
			if to.port == a && decoded(p).Conn == "" || to.port != a {
				return []string{p}, 0
			}
			return nil, 0
		})
		w := watch(open(t, a))
		open(t, h.port("b"))
		w.want(t, "")
		h.setFate(nil)
		time.Sleep(tick)
		w.want(t, "up")
	})
}

func TestOnlyHeartbeatsOfTheSameConnectionCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		b := open(t, p)
		w := watch(b)
		w.want(t, "up")
		h.mu.Lock()
		old := h.log[0]
		h.mu.Unlock()
		h.setFate(nothing)
		p.cut()
		w.want(t, "down")
		time.Sleep(tick) // connected again
		synctest.Wait()
		if p.attempts() != 2 {
			t.Fatalf("%d connections", p.attempts())
		}
		h.setFate(func(_ *conn, p string) ([]string, time.Duration) {
			if p == old {
				return []string{p}, 0
			}
			return nil, 0
		})
		h.send(old)
		w.want(t, "")
		if !b.LeasedUntil().IsZero() {
			t.Error("a heartbeat of the last connection made a lease")
		}
	})
}

func TestTheLeaseCountsFromTheSending(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		h.setFate(func(_ *conn, p string) ([]string, time.Duration) { return []string{p}, 2 * time.Second })
		began := time.Now()
		b := open(t, h.port("a"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := b.LeasedUntil(); !got.Equal(began.Add(lease)) {
			t.Errorf("leased until %v after the sending, want %v", got.Sub(began), lease)
		}
	})
}

func TestAHalfOpenConnectionEndsTheLeaseAndIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		b := open(t, p)
		w := watch(b)
		w.want(t, "up")
		until := b.LeasedUntil()
		h.setFate(nothing)
		time.Sleep(time.Until(until) - 1)
		w.want(t, "")
		time.Sleep(time.Nanosecond)
		w.want(t, "down")
		time.Sleep(lease - 1)
		synctest.Wait()
		if p.attempts() != 1 {
			t.Errorf("given up early")
		}
		h.setFate(nil)
		p.mu.Lock()
		clear(p.conns) // this one hears nothing any more
		p.mu.Unlock()
		time.Sleep(time.Second)
		w.want(t, "up")
		if p.attempts() != 2 {
			t.Errorf("%d connections, want 2", p.attempts())
		}
	})
}

func TestAHeartbeatLaterThanTheLeaseIsNone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		b := open(t, h.port("a"))
		w := watch(b)
		w.want(t, "up")
		h.setFate(func(_ *conn, p string) ([]string, time.Duration) { return []string{p}, lease })
		time.Sleep(lease)
		w.want(t, "down")
		for range 20 {
			time.Sleep(tick / 2)
			synctest.Wait()
			if !b.LeasedUntil().IsZero() {
				t.Fatal("leased by a late heartbeat")
			}
		}
		w.want(t, "")
	})
}

// A heartbeat that comes in time for a new lease, but after the old one has ended, must not hide that it had.
func TestALeaseThatLapsedIsNeverExtendedUnsaid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		// Who subscribes to a Bus that has its lease is told so under that lease: this one must come before it.
		subscribed := make(chan struct{})
		p.set(func(context.Context) error { <-subscribed; return nil }, nil)
		b := open(t, p)
		w := &witness{}
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
		w.want(t, "up")
		// The first heartbeat was sent at 0, and the lease ends at 5; the second arrives at 4.9, the third while f runs.
		h.setFate(func(_ *conn, p string) ([]string, time.Duration) {
			if decoded(p).Beat == 2 {
				return []string{p}, tick * 39 / 10
			}
			if decoded(p).Beat > 0 {
				return nil, 0
			}
			return []string{p}, 0
		})
		time.Sleep(tick * 48 / 10)
		go b.Publish(context.Background(), change(1))
		synctest.Wait()
		time.Sleep(tick * 4 / 10) // the lease ends at 5 while f runs
		if !time.Now().After(b.LeasedUntil()) {
			t.Error("the lease outlasts its heartbeat while a subscriber is slow")
		}
		h.setFate(nil)
		hold = false
		close(block)
		w.want(t, "down up") // with the second one, sent at 1: leased until 6
	})
}

// Which of two things that happen at the same moment is seen first is left to chance.
func TestAHeartbeatAtTheEndOfTheLeaseDoesNotHideIt(t *testing.T) {
	for range 50 {
		bubble(t, func(t *testing.T) {
			h := newHub()
			w := watch(open(t, h.port("a")))
			w.want(t, "up")
			h.setFate(func(_ *conn, p string) ([]string, time.Duration) {
				if decoded(p).Beat == 2 {
					return []string{p}, lease - tick
				}
				return nil, 0
			})
			time.Sleep(lease)
			w.want(t, "down up")
		})
	}
}

func TestALostConnectionIsToldAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		b := open(t, p)
		w := watch(b)
		w.want(t, "up")
		p.set(func(context.Context) error { return errFake }, nil)
		p.cut()
		w.want(t, "down")
		if !b.LeasedUntil().IsZero() {
			t.Error("still leased")
		}
		p.set(nil, nil)
		time.Sleep(time.Second)
		w.want(t, "up")
		if n := counted(b, "chatstore_bus_drops_total", "connection"); n != 1 {
			t.Errorf("counted %v lost connections", n)
		}
	})
}

func TestALostMessageIsNoticedByTheNext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		a, b := open(t, h.port("a")), open(t, h.port("b"))
		w := watch(b)
		acquainted(w)
		must(t, a.Publish(t.Context(), change(1)))
		w.want(t, "thr_1")
		h.setFate(nothing)
		must(t, a.Publish(t.Context(), change(2)))
		w.want(t, "")
		h.setFate(nil)
		must(t, a.Publish(t.Context(), change(3)))
		w.want(t, "down up thr_3")
		must(t, a.Publish(t.Context(), change(4)))
		w.want(t, "thr_4")
		if p := b.LeasedUntil(); !p.After(time.Now()) {
			t.Error("a gap on a live connection ended the lease")
		}
	})
}

func TestALostMessageIsNoticedByTheNextHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		a, b := open(t, h.port("a")), open(t, h.port("b"))
		w := watch(b)
		acquainted(w)
		h.setFate(lostChanges)
		must(t, a.Publish(t.Context(), change(1)))
		w.want(t, "")
		time.Sleep(tick)
		w.want(t, "down up")
		time.Sleep(10 * tick)
		w.want(t, "")
	})
}

func TestADoubleOrOvertakenMessageIsAGap(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		a, b := open(t, h.port("a")), open(t, h.port("b"))
		w := watch(b)
		acquainted(w)
		h.setFate(func(_ *conn, p string) ([]string, time.Duration) { return []string{p, p}, 0 })
		must(t, a.Publish(t.Context(), change(1)))
		w.want(t, "thr_1 down up thr_1")
		h.setFate(func(_ *conn, p string) ([]string, time.Duration) {
			if decoded(p).Number == 2 {
				return []string{p}, tick / 4
			}
			return []string{p}, 0
		})
		must(t, a.Publish(t.Context(), change(2)))
		must(t, a.Publish(t.Context(), change(3)))
		w.want(t, "down up thr_3")
		time.Sleep(tick / 4)
		w.want(t, "down up thr_2")
	})
}

func TestAFailedPublishIsAnErrorAndAGapForTheOthers(t *testing.T) {
	for name, publish := range map[string]func(context.Context) error{
		"refused": func(context.Context) error { return errFake },
		"hanging": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := newHub()
				p := h.port("a")
				a, b := open(t, p), open(t, h.port("b"))
				w := watch(b)
				acquainted(w)
				p.set(nil, publish)
				began := time.Now()
				err := a.Publish(t.Context(), change(1))
				if !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				time.Sleep(time.Until(began.Add(lease * 3 / 5)))
				w.want(t, "down up")
				if n := counted(a, "chatstore_bus_unsent_changes_total", ""); n != 1 {
					t.Errorf("counted %v unsent", n)
				}
			})
		})
	}
}

func TestAChangeGivenUpInTheQueueIsAGapForTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		a, b := open(t, p), open(t, h.port("b"))
		w := watch(b)
		acquainted(w)
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
		time.Sleep(tick * 3 / 4) // past a heartbeat, which must not be ahead of the message under way
		w.want(t, "")
		close(gate)
		must(t, <-first)
		w.want(t, "thr_1")
		time.Sleep(tick)
		w.want(t, "down up")
		must(t, a.Publish(t.Context(), change(3)))
		w.want(t, "thr_3")
	})
}

func TestAPublishWaitsTwoFifthsOfTheLeaseAtMost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		b := open(t, p)
		p.set(nil, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		var wg sync.WaitGroup
		for range 300 { // three batches: the last would wait for too long
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
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		b := open(t, p)
		w := watch(b)
		w.want(t, "up")
		p.set(nil, func(context.Context) error { time.Sleep(time.Microsecond); return nil })
		var wg sync.WaitGroup
		const n = 500
		for i := range n {
			wg.Go(func() { must(t, b.Publish(t.Context(), change(i))) })
		}
		wg.Wait()
		if got := strings.Fields(w.take()); len(got) != n || slices.Contains(got, "down") {
			t.Errorf("told %d things of %d: %v", len(got), n, got)
		}
		var last uint64
		for _, p := range h.log {
			if m := decoded(p); len(m.Changes) > 0 {
				if m.Number != last+1 {
					t.Errorf("number %d after %d", m.Number, last)
				}
				last = m.Number
			}
		}
		if last == 0 || last > n/10 {
			t.Errorf("%d messages for %d changes at the same time", last, n)
		}
	})
}

func TestAnUndecodablePayloadEndsTheConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		b := open(t, p)
		w := watch(b)
		w.want(t, "up")
		h.send("garbage")
		w.want(t, "down")
		time.Sleep(time.Second)
		w.want(t, "up")
		if p.attempts() != 2 || counted(b, "chatstore_bus_drops_total", "payload") != 1 {
			t.Errorf("%d connections", p.attempts())
		}
	})
}

func TestASilentPublisherMakesAllDropOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		dead := h.port("dead")
		a, b := open(t, dead), open(t, h.port("b"))
		w := watch(b)
		acquainted(w)
		must(t, a.Publish(t.Context(), change(1)))
		w.want(t, "thr_1")
		h.setFate(func(to *conn, p string) ([]string, time.Duration) { // nothing of a arrives
			if m := decoded(p); m.Beat > 0 && to.port != dead && slices.Contains(publishers(h), m.Publisher) {
				return nil, 0
			}
			return []string{p}, 0
		})
		time.Sleep(lease - 1)
		w.want(t, "")
		time.Sleep(time.Nanosecond)
		w.want(t, "down up")
		time.Sleep(4 * lease)
		w.want(t, "")
		// It comes back having sent something: what it was is not known.
		h.setFate(nil)
		time.Sleep(tick)
		w.want(t, "down up")
	})
}

// publishers returns those that have sent changes. h.mu is held.
func publishers(h *hub) (names []string) {
	for _, p := range h.log {
		if m := decoded(p); len(m.Changes) > 0 {
			names = append(names, m.Publisher)
		}
	}
	return names
}

func TestAGoodbyeIsNoSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		a, b := open(t, h.port("a")), open(t, h.port("b"))
		w := watch(b)
		must(t, a.Publish(t.Context(), change(1)))
		acquainted(w)
		must(t, a.Close())
		time.Sleep(3 * lease)
		w.want(t, "")
	})
}

func TestAGoodbyeTellsOfALostMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		a, b := open(t, h.port("a")), open(t, h.port("b"))
		w := watch(b)
		acquainted(w)
		h.setFate(lostChanges)
		must(t, a.Publish(t.Context(), change(1)))
		must(t, a.Close())
		w.want(t, "down up")
	})
}

func TestANewPublisherIsNoReasonToDrop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		w := watch(open(t, h.port("b")))
		w.want(t, "up")
		time.Sleep(lease)
		a := open(t, h.port("a"))
		must(t, a.Publish(t.Context(), change(1)))
		time.Sleep(lease)
		w.want(t, "thr_1")
	})
}

func TestAPublisherFirstHeardOfAfterItsFirstMessageIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		w := watch(open(t, h.port("b")))
		w.want(t, "up")
		time.Sleep(lease)
		w.want(t, "")
		h.setFate(nothing)
		a := open(t, h.port("a"))
		must(t, a.Publish(t.Context(), change(1)))
		synctest.Wait()
		h.setFate(nil)
		time.Sleep(tick)
		w.want(t, "down up")
	})
}

func TestManyPublishersMetOnConnectingAreOneDrop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		for i := range 20 {
			b := open(t, h.port(""))
			must(t, b.Publish(t.Context(), change(i)))
			time.Sleep(tick / 20)
		}
		w := watch(open(t, h.port("b")))
		w.want(t, "up")
		time.Sleep(2 * lease)
		w.want(t, "down up")
	})
}

func TestTheMemoryForPublishersIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		b := open(t, h.port("a"), pubsub.WithLease(time.Hour))
		w := watch(b)
		w.want(t, "up")
		for i := range 10_000 {
			p, err := pubsub.Encode(pubsub.Message{Publisher: fmt.Sprint("p", i), Changes: []bus.Change{change(0)}, Number: 1})
			must(t, err)
			h.send(p)
		}
		if got := strings.Fields(w.take()); !slices.Contains(got, "down") {
			t.Error("more publishers than are remembered, and nothing dropped")
		}
	})
}

func TestConnectingBacksOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		var mu sync.Mutex
		var at []time.Time
		p.set(func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			return errFake
		}, nil)
		open(t, p, pubsub.WithBackoff(100*time.Millisecond, time.Second))
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
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
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		h.setFate(func(_ *conn, s string) ([]string, time.Duration) { return []string{s, "garbage"}, 0 })
		open(t, p)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := p.attempts(); n > 30 {
			t.Errorf("%d connections in a minute", n)
		}
	})
}

func TestAHangingConnectIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		p.set(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil)
		w := watch(open(t, p))
		time.Sleep(4 * time.Second)
		p.set(nil, nil)
		time.Sleep(2 * time.Second)
		w.want(t, "up")
	})
}

func TestSubscribingToAConnectedBusConnectsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := open(t, newHub().port("a"))
		first := watch(b)
		first.want(t, "up")
		time.Sleep(tick / 2)
		watch(b).want(t, "up")
		first.want(t, "")
	})
}

func TestStopWaitsForARunningCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := open(t, newHub().port("a"))
		gate, n := make(chan struct{}), 0
		stop := b.Subscribe(t.Context(), func(bus.Change) { n++; <-gate; n++ }, func(bool) {})
		synctest.Wait()
		must(t, b.Publish(t.Context(), change(1)))
		synctest.Wait()
		stopped := make(chan int)
		go func() { stop(); stopped <- n }()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("stop did not wait")
		default:
		}
		close(gate)
		if got := <-stopped; got != 2 {
			t.Errorf("stopped within the call (%d)", got)
		}
		must(t, b.Publish(t.Context(), change(2)))
		stop()
		synctest.Wait()
		if n != 2 {
			t.Error("called after stop")
		}
	})
}

func TestNobodyIsCalledAfterStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := open(t, newHub().port("a"))
		stop := func() {}
		b.Subscribe(t.Context(), func(bus.Change) { stop() }, func(bool) {})
		w := &witness{}
		stop = b.Subscribe(t.Context(), w.f, w.connected) // called after the first
		w.want(t, "up")
		must(t, b.Publish(t.Context(), change(1)))
		w.want(t, "")
	})
}

func TestASubscriberThatComesWhileOthersAreToldIsToldToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := open(t, newHub().port("a"))
		synctest.Wait()
		w := &witness{}
		b.Subscribe(t.Context(), func(bus.Change) {}, func(yes bool) {
			if yes {
				b.Subscribe(t.Context(), w.f, w.connected)
			}
		})
		w.want(t, "up")
	})
}

func TestTheEndOfTheContextEndsTheSubscriptionFromWithin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := open(t, newHub().port("a"))
		ctx, cancel := context.WithCancel(t.Context())
		w := &witness{}
		b.Subscribe(ctx, func(c bus.Change) { w.f(c); cancel() }, w.connected)
		w.want(t, "up")
		for i := range 3 {
			must(t, b.Publish(t.Context(), change(i)))
			synctest.Wait()
		}
		w.want(t, "thr_0")
	})
}

func TestASubscriberThatFailsStopsNobodyElse(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("out of order") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := open(t, newHub().port("a"))
				good := watch(b)
				good.want(t, "up") // first: the coming of another would be one more occasion to tell the bad one
				bad, times := &witness{}, 0
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
				bad.want(t, "up down")
				time.Sleep(tick)
				bad.want(t, "up")
				for i := range 3 {
					must(t, b.Publish(t.Context(), change(i)))
				}
				good.want(t, "thr_0 thr_1 thr_2")
				bad.want(t, "thr_0 thr_1 down thr_2")
				time.Sleep(tick)
				bad.want(t, "up")
				if n := counted(b, "chatstore_bus_subscriber_failures_total", ""); n != 2 {
					t.Errorf("counted %v failures", n)
				}
			})
		})
	}
}

func TestCloseTellsTheSubscribersAndTheOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		b := open(t, h.port("a"))
		w := watch(b)
		w.want(t, "up")
		must(t, b.Close())
		must(t, b.Close())
		w.want(t, "down")
		if !b.LeasedUntil().IsZero() {
			t.Error("leased though closed")
		}
		if last := decoded(h.log[len(h.log)-1]); !last.Goodbye {
			t.Errorf("the last word was %+v", last)
		}
		if err := b.Publish(t.Context(), change(1)); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("published on a closed bus: %v", err)
		}
	})
}

func TestCloseSendsWhatIsWaiting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		p := h.port("a")
		a := open(t, p)
		w := watch(open(t, h.port("b")))
		w.want(t, "up")
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
		time.Sleep(2 * lease)
		w.want(t, "thr_0 thr_1 thr_2")
	})
}

func TestCloseWaitsForNoTransportThatHangs(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, connect := range map[string]func(context.Context) error{"connecting": hang, "connected": nil} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
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
	bubble(t, func(t *testing.T) {
		h := newHub()
		b := open(t, h.port("a"), pubsub.WithAnnouncingBase())
		w := watch(b)
		w.want(t, "up")
		must(t, b.Publish(t.Context(), change(1)))
		w.want(t, "")
		h.send(`{"t":["thr_1","thr_2"],"a":["atc_1"],"o":"cache","w":3}`) // a trigger's
		h.send(`{"t":["thr_3"]}`)
		w.want(t, "thr_1atc_1 thr_2 thr_3")
	})
}

func TestAChangeThatNobodyCouldDecodeIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub()
		b := open(t, h.port("a"))
		w := watch(b)
		for _, c := range []bus.Change{{}, {ThreadID: "a\n"}, {AttachmentID: "\xff"}, {All: true, Origin: strings.Repeat("x", 257)}} {
			if err := b.Publish(t.Context(), c); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("%+v: %v", c, err)
			}
		}
		time.Sleep(lease)
		w.want(t, "up")
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

// chaosWitness checks the promise: whoever serves knows every change that was published a lease, and a delivery, ago.
type chaosWitness struct {
	mu      sync.Mutex
	serving bool
	unknown map[string]time.Time // published, not known
}

func TestNobodyServesWithoutAChangeThatIsOlderThanTheLease(t *testing.T) {
	const longest = tick // a delivery
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				rnd, fates := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1)) // the second under h.mu
				h := newHub()
				var (
					ports     []*port
					buses     []*pubsub.Bus
					witnesses []*chaosWitness
				)
				for i := range 4 {
					p := h.port(fmt.Sprint(i))
					b := open(t, p, pubsub.WithBackoff(tick/20, tick/10))
					w := &chaosWitness{unknown: map[string]time.Time{}}
					b.Subscribe(t.Context(), func(c bus.Change) {
						w.mu.Lock()
						defer w.mu.Unlock()
						delete(w.unknown, c.ThreadID)
					}, func(yes bool) {
						w.mu.Lock()
						defer w.mu.Unlock()
						w.serving = yes
						if yes {
							clear(w.unknown)
						}
					})
					ports, buses, witnesses = append(ports, p), append(buses, b), append(witnesses, w)
				}
				arrives := map[*conn]time.Time{} // when the last payload does: the channel keeps the order
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
					now := time.Now()
					for i, w := range witnesses {
						checks++
						w.mu.Lock()
						if w.serving && now.Before(buses[i].LeasedUntil()) {
							served++
							for id, at := range w.unknown {
								if now.Sub(at) > lease+longest {
									t.Fatalf("%d serves without %s for %v", i, id, now.Sub(at))
								}
							}
						}
						w.mu.Unlock()
					}
					from := rnd.IntN(len(buses))
					switch rnd.IntN(12) {
					case 0:
						ports[from].cut()
					case 1:
						ports[from].set(nil, func(context.Context) error { return errFake })
					case 2:
						ports[from].set(nil, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
					default:
						ports[from].set(nil, nil)
					}
					c := change(n)
					for _, w := range witnesses {
						w.mu.Lock()
						w.unknown[c.ThreadID] = now
						w.mu.Unlock()
					}
					go buses[from].Publish(context.Background(), c)
				}
				if served < checks/4 {
					t.Errorf("served at %d of %d times: the test shows little", served, checks)
				}
			})
		})
	}
}
