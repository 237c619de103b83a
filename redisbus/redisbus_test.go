package redisbus_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/bus/pubsub"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/redisbus"
	"github.com/chatstore/chatstore/redisbus/redistest"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/fleet"
)

func TestMain(m *testing.M) {
	fleet.Worker(openWorker)
	// go-redis runs a goroutine for its clock as long as the process runs.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.startGlobalTimeCache.func1"))
}

// patience is how long a test waits for an expected event.
const patience = time.Minute

var must = testenv.Must

// open returns a Bus with a lease that does not end even on a slow machine.
func open(t testing.TB, c redis.UniversalClient, opts ...redisbus.Option) *pubsub.Bus {
	t.Helper()
	b := redisbus.New(c, append([]redisbus.Option{redisbus.WithLease(time.Minute), redisbus.WithBackoff(10*time.Millisecond, 100*time.Millisecond),
		redisbus.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	t.Cleanup(func() { b.Close() })
	return b
}

// witness records what a subscriber gets.
type witness struct {
	t      testing.TB
	events chan string
}

func watch(t testing.TB, b *pubsub.Bus) *witness {
	w := &witness{t, make(chan string, 100_000)}
	t.Cleanup(b.Subscribe(context.Background(), func(c bus.Change) { w.events <- c.ThreadID }, func(yes bool) {
		w.events <- map[bool]string{true: "up", false: "down"}[yes]
	}))
	return w
}

// up returns a server, a Bus on it, and a witness that has seen the Bus connect.
func up(t *testing.T, opts ...redisbus.Option) (*redistest.Server, *pubsub.Bus, *witness) {
	t.Helper()
	server := redistest.Start(t)
	b := open(t, server.Client(), opts...)
	w := watch(t, b)
	w.until("up")
	return server, b, w
}

// again waits until the Bus was disconnected and is connected again.
func (w *witness) again() {
	w.t.Helper()
	w.until("down")
	w.until("up")
}

// until waits for an event, and returns the events before it.
func (w *witness) until(want string) (before []string) {
	w.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case got := <-w.events:
			if got == want {
				return before
			}
			before = append(before, got)
		case <-limit:
			w.t.Fatalf("no %q came; got %q", want, before)
		}
	}
}

func thread(id string) bus.Change { return bus.Change{ThreadID: id, Origin: "cache", Write: 1} }

func TestAChangeReachesTheOthers(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprint("RESP", protocol), func(t *testing.T) {
			server := redistest.Start(t)
			client := func() *redis.Client {
				c := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Addr(), Protocol: protocol})
				t.Cleanup(func() { c.Close() })
				return c
			}
			a, b := open(t, client()), open(t, client())
			elsewhere := watch(t, open(t, client(), redisbus.WithChannel("other")))
			wa, wb := watch(t, a), watch(t, b)
			for _, w := range []*witness{wa, wb, elsewhere} {
				w.until("up")
			}
			for i := range 100 {
				must(t, a.Publish(t.Context(), thread(fmt.Sprint("thr_", i))))
			}
			if got := append(wa.until("thr_99"), wb.until("thr_99")...); slices.Contains(got, "down") {
				t.Errorf("got %q", got)
			}
			if len(elsewhere.events) > 0 {
				t.Errorf("another channel got %q", <-elsewhere.events)
			}
		})
	}
}

func TestTwoCachesOverOneBaseAgree(t *testing.T) {
	server, base := redistest.Start(t), memstore.New()
	var stacks []store.Store
	var arrived []*witness
	for range 2 {
		b := open(t, server.Client())
		s := store.Wrap(base, cache.New(cache.WithBus(b)))
		t.Cleanup(func() { store.Close(s) })
		stacks, arrived = append(stacks, s), append(arrived, watch(t, b)) // this subscriber comes after the cache
	}
	for _, w := range arrived {
		w.until("up")
	}
	for i := range 20 {
		for _, s := range stacks {
			s.LoadThread(t.Context(), "thr_1") // now both caches hold it
		}
		title := fmt.Sprint(i)
		must(t, stacks[i%2].SaveThread(t.Context(), chat.Thread{ID: "thr_1", Title: title, CreatedAt: time.Now()}))
		for _, w := range arrived {
			w.until("thr_1")
		}
		for _, s := range stacks {
			if got, err := s.LoadThread(t.Context(), "thr_1"); err != nil || got.Title != title {
				t.Errorf("got %q, %v, want %q", got.Title, err, title)
			}
		}
	}
}

func TestAKilledSubscriptionIsNoticed(t *testing.T) {
	server, _, w := up(t) // the disconnection shows, not the end of the lease
	for range 3 {
		must(t, server.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err())
		w.again()
	}
}

func TestAServerThatStopsAndComesBackIsNoticed(t *testing.T) {
	server, b, w := up(t)
	server.Stop()
	w.until("down")
	if !b.LeasedUntil().IsZero() {
		t.Error("leased without a server")
	}
	if err := b.Publish(t.Context(), thread("thr_1")); store.CodeOf(err) != store.CodeUnavailable {
		t.Errorf("published without a server: %v", err)
	}
	server.Restart()
	w.until("up")
	must(t, b.Publish(t.Context(), thread("thr_2")))
	w.until("thr_2")
}

func TestAServerThatHangsEndsTheLease(t *testing.T) {
	const lease = 500 * time.Millisecond
	server, b, w := up(t, redisbus.WithLease(lease))
	server.Pause()
	paused := time.Now()
	if until := b.LeasedUntil(); until.After(paused.Add(lease)) {
		t.Errorf("leased for %v", until.Sub(paused))
	}
	<-time.After(time.Until(paused.Add(lease))) // by now no earlier heartbeat can extend the lease
	for !b.LeasedUntil().IsZero() {
		w.until("down")
	}
	closing := open(t, server.Client(), redisbus.WithLease(lease))
	began := time.Now()
	must(t, closing.Close())
	if d := time.Since(began); d > patience/2 {
		t.Errorf("Close took %v", d)
	}
	for len(w.events) > 0 { // on a slow machine the lease may have changed before
		<-w.events
	}
	server.Resume()
	w.until("up")
}

// The server disconnects a subscriber that does not read, and drops its pending messages.
func TestAnOverflowingSubscriberIsNoticed(t *testing.T) {
	server := redistest.Start(t, "client-output-buffer-limit", "pubsub 64kb 0 0")
	a, b := open(t, server.Client()), open(t, server.Client())
	var once sync.Once
	running, gate := make(chan struct{}), make(chan struct{})
	stop := b.Subscribe(t.Context(), func(bus.Change) {
		once.Do(func() { close(running) })
		<-gate
	}, func(bool) {})
	defer stop()
	w := watch(t, b)
	w.until("up")
	watch(t, a).until("up") // so that the server has two subscribers
	must(t, a.Publish(t.Context(), thread("thr_first")))
	<-running
	ids := strings.Repeat("x", 200)
	admin := server.Client()
	for i := 0; ; i++ { // until the server has disconnected it
		must(t, a.Publish(t.Context(), thread(fmt.Sprint(ids, i))))
		list, err := admin.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
		must(t, err)
		if strings.Count(list, "\n") < 2 {
			break
		}
		if i == 100_000 {
			t.Fatal("the server disconnects no subscriber")
		}
	}
	close(gate)
	w.again()
}

func TestAServerThatIsNotThereYetIsNoError(t *testing.T) {
	server := redistest.Start(t)
	server.Stop()
	w := watch(t, open(t, server.Client()))
	server.Restart()
	w.until("up")
}

func TestAPayloadOfSomebodyElseEndsTheConnection(t *testing.T) {
	server, _, w := up(t)
	must(t, server.Client().Publish(t.Context(), redisbus.DefaultChannel, "garbage").Err())
	w.again()
}

func TestMisuseIsRefusedAtConstruction(t *testing.T) {
	c := redis.NewClient(&redis.Options{})
	defer c.Close()
	for name, f := range map[string]func(){
		"client":      func() { redisbus.New(nil) },
		"WithChannel": func() { redisbus.New(c, redisbus.WithChannel("")) },
		"WithLease":   func() { redisbus.New(c, redisbus.WithLease(-1)) },
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

// BenchmarkDelivery measures the time from the call of Publish to the call of another client's subscriber.
func BenchmarkDelivery(b *testing.B) {
	server := redistest.Start(b)
	from, to := open(b, server.Client()), open(b, server.Client())
	connected, arrived := make(chan struct{}, 10), make(chan time.Time, 1)
	b.Cleanup(to.Subscribe(b.Context(), func(bus.Change) { arrived <- time.Now() }, func(yes bool) {
		if yes {
			connected <- struct{}{}
		}
	}))
	<-connected
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		began := time.Now()
		must(b, from.Publish(b.Context(), thread("thr_1")))
		took = append(took, (<-arrived).Sub(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e3, "median-µs")
	b.ReportMetric(float64(took[len(took)*99/100])/1e3, "p99-µs")
}
