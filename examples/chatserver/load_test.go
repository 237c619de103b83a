package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/decorators/metrics"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

var loadTime = flag.Duration("load", map[bool]time.Duration{false: time.Second, true: 5 * time.Second}[testenv.Full],
	"how long 200 users chat, with the stack and then without it")

// These are the default bounds of the cache.
const cacheBound = 64 << 20

// 200 users chat at once, with the stack and without it, to show what the cache saves.
func TestTwoHundredUsersChat(t *testing.T) {
	for name, stack := range map[string]wrapper{
		"with the stack":    wrap,
		"without the stack": bare,
	} {
		t.Run(name, func(t *testing.T) { testLoad(t, stack) })
	}
}

// bare is the base with a counter of its calls.
func bare(base store.Store, _ bus.Bus, reg prometheus.Registerer, _ trace.TracerProvider) (store.Store, error) {
	inner, err := metrics.New(reg, metrics.WithStore("chatserver"), metrics.WithLayer("inner"))
	if err != nil {
		return nil, err
	}
	return store.Wrap(base, inner), nil
}

func testLoad(t *testing.T, stack wrapper) {
	const users = 200
	srv := startAlone(t, func(c *config) { c.wrap = stack })
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	over := time.Now().Add(*loadTime)
	started := testenv.Heap()

	var mu sync.Mutex
	var turns []time.Duration
	var wg sync.WaitGroup
	for n := range users {
		c := newClient(t, srv.url, fmt.Sprint("user", n), testKey)
		wg.Go(func() {
			took, err := converse(ctx, c, over)
			if err != nil {
				cancel(fmt.Errorf("user %d: %w", n, err))
			}
			mu.Lock()
			defer mu.Unlock()
			turns = append(turns, took...)
		})
	}
	wg.Wait()
	testenv.Must(t, context.Cause(ctx))
	ended := testenv.Heap()
	// The heap includes the clients, because they run in this process.
	if grown := ended - started; grown > cacheBound+32<<20 {
		t.Errorf("the heap has grown by %d MiB; the cache may hold 64", grown>>20)
	}
	if held := sum(t, srv.registry, "chatstore_cache_bytes"); held > cacheBound {
		t.Errorf("the cache holds %.0f bytes", held)
	}
	slices.Sort(turns)
	at := func(q float64) time.Duration { return turns[int(q*float64(len(turns)-1))].Round(time.Millisecond / 10) }
	t.Logf("%d turns of %d users in %v: p50 %v, p99 %v; %.2f base reads a turn; heap %+d MiB",
		len(turns), users, *loadTime, at(.5), at(.99), reads(t, srv.registry, "inner")/float64(len(turns)), (ended-started)>>20)
	testenv.Must(t, srv.stop())
}

// converse has conversations until the time is over, at least one. It loads each conversation before its next message, as a
// page does, and checks that all items are there in order.
func converse(ctx context.Context, c *client, over time.Time) (took []time.Duration, err error) {
	const length = 20
	for first := true; first || time.Now().Before(over); first = false {
		var told []string
		done := func(it object) { told = append(told, it["id"].(string)) }
		began := time.Now()
		id, err := c.newThread(ctx, "hello", done)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		for n := 0; n < length && (n == 0 || time.Now().Before(over)); n++ {
			if _, err := c.ask(ctx, "items.list", object{"thread_id": id}); err != nil {
				return nil, err
			}
			began := time.Now()
			if err := c.say(ctx, id, fmt.Sprintf("message %d", n), done); err != nil {
				return nil, err
			}
			took = append(took, time.Since(began))
		}
		kept, err := c.items(ctx, id)
		if err != nil {
			return nil, err
		}
		if diff := cmp.Diff(told, itemIDs(kept)); diff != "" {
			return nil, errors.New("(-finished items, +stored items)\n" + diff)
		}
	}
	return took, nil
}
