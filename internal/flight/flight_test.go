package flight

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// answer is what one caller of Do got.
type answer struct {
	v     int
	role  Role
	err   error
	panic any
}

// ask calls Do in a goroutine of its own.
func ask(ctx context.Context, g *Group[int], spec Spec, fn func(context.Context) (int, error)) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			a.panic = recover()
			out <- a
		}()
		spec.Joined = func(r Role) { a.role = r }
		a.v, a.err = g.Do(ctx, spec, context.WithoutCancel, fn)
	}()
	return out
}

// backend counts its calls and holds each until it is let go.
type backend struct {
	calls atomic.Int32
	gate  chan struct{}
}

func newBackend() *backend { return &backend{gate: make(chan struct{})} }

// load answers with the number of the call.
func (b *backend) load(ctx context.Context) (int, error) {
	n := int(b.calls.Add(1))
	select {
	case <-b.gate:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// idle fails if the group still holds anything.
func idle(t *testing.T, g *Group[int]) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.open) != 0 || len(g.tail) != 0 {
		t.Errorf("the group still holds %d open calls and %d queues", len(g.open), len(g.tail))
	}
}

func TestOneCallForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		b := newBackend()
		var callers []<-chan answer
		for i := range 100 {
			callers = append(callers, ask(t.Context(), &g, Spec{Key: "k", Origin: i}, b.load))
			synctest.Wait()
		}
		close(b.gate)
		for i, c := range callers {
			a := <-c
			if a.v != 1 || a.err != nil {
				t.Fatalf("caller %d got %d, %v; want the one call's answer", i, a.v, a.err)
			}
			if a.role.Follower != (i > 0) || a.role.Leader != 0 {
				t.Fatalf("caller %d: role %+v; the first leads and all know its origin", i, a.role)
			}
		}
		if n := b.calls.Load(); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
		idle(t, &g)
	})
}

func TestACallerThatComesAfterTheEndMakesACallOfItsOwn(t *testing.T) {
	var g Group[int]
	b := newBackend()
	close(b.gate)
	for i := 1; i <= 3; i++ {
		if a := <-ask(t.Context(), &g, Spec{Key: "k"}, b.load); a.v != i {
			t.Fatalf("call %d got the answer of call %d", i, a.v)
		}
	}
}

func TestOtherKeysDoNotShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		b := newBackend()
		x, y := ask(t.Context(), &g, Spec{Key: "x"}, b.load), ask(t.Context(), &g, Spec{Key: "y"}, b.load)
		synctest.Wait()
		close(b.gate)
		if (<-x).v == (<-y).v {
			t.Error("two keys shared a call")
		}
		idle(t, &g)
	})
}

func TestACancelledCallerEndsItsOwnWaitOnly(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g Group[int]
				b := newBackend()
				ctx, cancel := context.WithCancelCause(t.Context())
				first, second := t.Context(), ctx
				if who == "leader" {
					first, second = ctx, t.Context()
				}
				leader := ask(first, &g, Spec{Key: "k"}, b.load)
				synctest.Wait()
				follower := ask(second, &g, Spec{Key: "k"}, b.load)
				synctest.Wait()
				gone, stays := follower, leader
				if who == "leader" {
					gone, stays = leader, follower
				}
				cause := errors.New("went away")
				cancel(cause)
				if a := <-gone; a.err != cause {
					t.Errorf("the cancelled caller got %v, want its cause", a.err)
				}
				synctest.Wait()
				close(b.gate)
				if a := <-stays; a.v != 1 || a.err != nil {
					t.Errorf("the other caller got %d, %v; want the answer", a.v, a.err)
				}
				idle(t, &g)
			})
		})
	}
}

func TestTheCallEndsWhenTheLastCallerHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		ended := make(chan error, 1)
		load := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return 0, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		a, b := ask(ctx, &g, Spec{Key: "k"}, load), ask(ctx, &g, Spec{Key: "k"}, load)
		synctest.Wait()
		cancel()
		<-a
		<-b
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the call's context ended with %v", err)
		}
		idle(t, &g)
	})
}

func TestNobodyJoinsACallThatAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		deaf := make(chan struct{}) // the first call does not heed its context
		first := ask2(&g, t, func(context.Context) (int, error) { <-deaf; return 1, nil })
		first.cancel()
		<-first.out
		second := <-ask(t.Context(), &g, Spec{Key: "k"}, func(context.Context) (int, error) { return 2, nil })
		if second.v != 2 || second.err != nil {
			t.Errorf("got %d, %v; want an answer of its own", second.v, second.err)
		}
		close(deaf)
		idle(t, &g)
	})
}

type cancellable struct {
	out    <-chan answer
	cancel context.CancelFunc
}

// ask2 asks for "k" with a context that can be cancelled, and waits until the call is under way.
func ask2(g *Group[int], t *testing.T, fn func(context.Context) (int, error)) cancellable {
	ctx, cancel := context.WithCancel(t.Context())
	c := cancellable{ask(ctx, g, Spec{Key: "k"}, fn), cancel}
	synctest.Wait()
	return c
}

func TestAPanicReachesEveryCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		cause := errors.New("boom")
		gate := make(chan struct{})
		load := func(context.Context) (int, error) { <-gate; panic(cause) }
		a, b := ask(t.Context(), &g, Spec{Key: "k"}, load), ask(t.Context(), &g, Spec{Key: "k"}, load)
		synctest.Wait()
		close(gate)
		for _, c := range []<-chan answer{a, b} {
			p, ok := (<-c).panic.(*PanicError)
			if !ok || !errors.Is(p, cause) || !strings.Contains(p.Error(), "TestAPanicReachesEveryCaller") {
				t.Errorf("a caller got %v; want a panic with the value and the stack of the call", p)
			}
		}
		idle(t, &g)
	})
}

func TestGoexitFailsEveryCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		gate := make(chan struct{})
		load := func(context.Context) (int, error) { <-gate; runtime.Goexit(); return 1, nil }
		a, b := ask(t.Context(), &g, Spec{Key: "k"}, load), ask(t.Context(), &g, Spec{Key: "k"}, load)
		synctest.Wait()
		close(gate)
		for _, c := range []<-chan answer{a, b} {
			if got := <-c; got.err != ErrGoexit {
				t.Errorf("a caller got %v", got.err)
			}
		}
		idle(t, &g)
	})
}

func TestTheTimeLimitEndsTheCall(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		t.Run(fmt.Sprintf("heeds its context %v", heeds), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g Group[int]
				deaf := make(chan struct{})
				begin := time.Now()
				got := <-ask(t.Context(), &g, Spec{Key: "k", Limit: time.Second}, func(ctx context.Context) (int, error) {
					if heeds {
						<-ctx.Done()
						return 0, ctx.Err()
					}
					<-deaf
					return 1, nil
				})
				if !errors.Is(got.err, context.DeadlineExceeded) {
					t.Errorf("got %v, want the deadline", got.err)
				}
				if d := time.Since(begin); d != time.Second {
					t.Errorf("ended after %v, want the limit", d)
				}
				close(deaf)
				idle(t, &g)
			})
		})
	}
}

func TestALeadersDeadlineIsNotTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		b := newBackend()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		leader := ask(ctx, &g, Spec{Key: "k"}, b.load)
		synctest.Wait()
		follower := ask(t.Context(), &g, Spec{Key: "k"}, b.load)
		if a := <-leader; !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("the leader got %v", a.err)
		}
		close(b.gate)
		if a := <-follower; a.v != 1 || a.err != nil {
			t.Errorf("the follower got %d, %v", a.v, a.err)
		}
		idle(t, &g)
	})
}

// While a write is in progress, a call that has begun may have read what was before it: who comes later must not join.
func TestQueuedCallersJoinOnlyACallThatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		b := newBackend()
		spec := Spec{Key: "k", Queued: true}
		first := ask(t.Context(), &g, spec, b.load)
		synctest.Wait() // it has begun
		var rest []<-chan answer
		for range 50 {
			rest = append(rest, ask(t.Context(), &g, spec, b.load))
		}
		synctest.Wait()
		if n := b.calls.Load(); n != 1 {
			t.Fatalf("%d calls under way, want 1: the others wait for the next", n)
		}
		b.gate <- struct{}{}
		if a := <-first; a.v != 1 {
			t.Errorf("the first got the answer of call %d", a.v)
		}
		synctest.Wait() // the second has begun
		late := ask(t.Context(), &g, spec, b.load)
		synctest.Wait()
		if n := b.calls.Load(); n != 2 {
			t.Errorf("%d calls so far, want 2: of one queue, one is under way at a time", n)
		}
		close(b.gate)
		for _, c := range rest {
			if a := <-c; a.v != 2 || a.err != nil {
				t.Fatalf("one who waited got call %d, %v; want the second call", a.v, a.err)
			}
		}
		if a := <-late; a.v != 3 {
			t.Errorf("the late one got call %d, want one that began after it came", a.v)
		}
		idle(t, &g)
	})
}

func TestAQueuedCallThatAllHaveLeftIsNotMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		b := newBackend()
		spec := Spec{Key: "k", Queued: true}
		first := ask(t.Context(), &g, spec, b.load)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		left := ask(ctx, &g, spec, b.load)
		synctest.Wait()
		cancel()
		<-left
		third := ask(t.Context(), &g, spec, b.load)
		synctest.Wait()
		if n := b.calls.Load(); n != 1 {
			t.Errorf("%d calls under way at once, want 1", n)
		}
		close(b.gate)
		<-first
		if a := <-third; a.v != 2 {
			t.Errorf("the third got call %d, want 2: the abandoned one is not made", a.v)
		}
		idle(t, &g)
	})
}

func TestManyGoroutines(t *testing.T) {
	var g Group[int]
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if n%3 == 0 {
					cancel()
				}
				spec := Spec{Key: string(rune('a' + n%5)), Queued: (n+i)%2 == 0}
				if spec.Queued {
					spec.Key += "q"
				}
				v, err := g.Do(ctx, spec, context.WithoutCancel, func(context.Context) (int, error) { return 7, nil })
				if err == nil && v != 7 {
					t.Errorf("got %d", v)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	synctestFreeIdle(t, &g)
}

// synctestFreeIdle waits, outside of a bubble, for abandoned calls to end.
func synctestFreeIdle(t *testing.T, g *Group[int]) {
	t.Helper()
	for {
		g.mu.Lock()
		n := len(g.open) + len(g.tail)
		g.mu.Unlock()
		if n == 0 {
			return
		}
		if t.Context().Err() != nil {
			t.Fatalf("%d calls never ended", n)
		}
		runtime.Gosched()
	}
}
