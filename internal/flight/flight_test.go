package flight

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// answer is the result of one caller of Do.
type answer struct {
	v     int
	role  Role
	err   error
	panic any
}

// backend is a group with calls that are counted and that wait for the gate.
type backend struct {
	Group[string, int]
	calls atomic.Int32
	gate  chan struct{}
}

// bubble runs f in a synctest bubble. It fails if the group holds calls afterwards.
func bubble(t *testing.T, f func(t *testing.T, b *backend)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &backend{gate: make(chan struct{})}
		f(t, b)
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.open) != 0 || len(b.tail) != 0 {
			t.Errorf("the group still holds %d open calls and %d queues", len(b.open), len(b.tail))
		}
	})
}

// load returns the number of the call.
func (b *backend) load(ctx context.Context) (int, error) {
	n := int(b.calls.Add(1))
	select {
	case <-b.gate:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ask calls Do in a new goroutine and returns when that goroutine waits.
func (b *backend) ask(ctx context.Context, spec Spec[string], fn func(context.Context) (int, error)) <-chan answer {
	out := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			a.panic = recover()
			out <- a
		}()
		a.v, a.err = b.Do(ctx, spec, func(r Role) { a.role = r }, fn)
	}()
	synctest.Wait()
	return out
}

// under checks the number of calls that have begun.
func (b *backend) under(t *testing.T, want int32, why string) {
	t.Helper()
	if n := b.calls.Load(); n != want {
		t.Errorf("%d calls, want %d: %s", n, want, why)
	}
}

// gets checks that the caller gets the answer of call v.
func gets(t *testing.T, c <-chan answer, v int, who string) {
	t.Helper()
	if a := <-c; a.v != v || a.err != nil {
		t.Errorf("%s got %d, %v; want the answer of call %d", who, a.v, a.err, v)
	}
}

func TestOneCallForMany(t *testing.T) {
	bubble(t, func(t *testing.T, b *backend) {
		var callers []<-chan answer
		for i := range 100 {
			callers = append(callers, b.ask(t.Context(), Spec[string]{Key: "k", Origin: i}, b.load))
		}
		close(b.gate)
		for i, c := range callers {
			a := <-c
			if a.v != 1 || a.err != nil {
				t.Fatalf("caller %d got %d, %v, want the answer of the shared call", i, a.v, a.err)
			}
			if a.role.Follower != (i > 0) || a.role.Leader != 0 {
				t.Fatalf("caller %d has the role %+v, want the first caller as the leader", i, a.role)
			}
		}
		b.under(t, 1, "all callers share one call")
	})
}

func TestACallerThatComesAfterTheEndMakesACallOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T, b *backend) {
		close(b.gate)
		for i := 1; i <= 3; i++ {
			gets(t, b.ask(t.Context(), Spec[string]{Key: "k"}, b.load), i, "one more caller")
		}
	})
}

func TestOtherKeysDoNotShare(t *testing.T) {
	bubble(t, func(t *testing.T, b *backend) {
		x, y := b.ask(t.Context(), Spec[string]{Key: "x"}, b.load), b.ask(t.Context(), Spec[string]{Key: "y"}, b.load)
		close(b.gate)
		gets(t, x, 1, "x")
		gets(t, y, 2, "y")
	})
}

// The same holds for a deadline, and for the leader.
func TestACancelledCallerEndsItsOwnWaitOnly(t *testing.T) {
	cause := errors.New("went away")
	for _, leads := range []bool{true, false} {
		for _, late := range []bool{true, false} {
			t.Run(fmt.Sprintf("leads %v, by its deadline %v", leads, late), func(t *testing.T) {
				bubble(t, func(t *testing.T, b *backend) {
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					want := cause
					if late {
						var stop context.CancelFunc
						ctx, stop = context.WithTimeout(ctx, time.Second)
						defer stop()
						want = context.DeadlineExceeded
					}
					contexts := []context.Context{t.Context(), ctx}
					if leads {
						slices.Reverse(contexts)
					}
					gone, stays := b.ask(contexts[0], Spec[string]{Key: "k"}, b.load), b.ask(contexts[1], Spec[string]{Key: "k"}, b.load)
					if !leads {
						gone, stays = stays, gone
					}
					if !late {
						cancel(cause)
					}
					if a := <-gone; a.err != want {
						t.Errorf("the cancelled caller got %v, want %v", a.err, want)
					}
					synctest.Wait()
					close(b.gate)
					gets(t, stays, 1, "the other caller")
				})
			})
		}
	}
}

func TestTheCallEndsWhenTheLastCallerHasLeft(t *testing.T) {
	bubble(t, func(t *testing.T, b *backend) {
		ended := make(chan error, 1)
		load := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return 0, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		x, y := b.ask(ctx, Spec[string]{Key: "k"}, load), b.ask(ctx, Spec[string]{Key: "k"}, load)
		cancel()
		<-x
		<-y
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the call's context ended with %v", err)
		}
	})
}

func TestNobodyJoinsACallThatAllHaveLeft(t *testing.T) {
	bubble(t, func(t *testing.T, b *backend) {
		deaf := make(chan struct{}) // the first call ignores its context
		ctx, cancel := context.WithCancel(t.Context())
		first := b.ask(ctx, Spec[string]{Key: "k"}, func(context.Context) (int, error) { <-deaf; return 1, nil })
		cancel()
		<-first
		second := b.ask(t.Context(), Spec[string]{Key: "k"}, func(context.Context) (int, error) { return 2, nil })
		gets(t, second, 2, "a caller that came after all had left")
		close(deaf)
	})
}

func TestAPanicReachesEveryCallerAndGoexitFailsThem(t *testing.T) {
	cause := errors.New("boom")
	for _, panics := range []bool{true, false} {
		bubble(t, func(t *testing.T, b *backend) {
			load := func(context.Context) (int, error) {
				<-b.gate
				if panics {
					panic(cause)
				}
				runtime.Goexit()
				return 1, nil
			}
			x, y := b.ask(t.Context(), Spec[string]{Key: "k"}, load), b.ask(t.Context(), Spec[string]{Key: "k"}, load)
			close(b.gate)
			for _, c := range []<-chan answer{x, y} {
				a := <-c
				if !panics {
					if a.err != ErrGoexit {
						t.Errorf("a caller got %v", a.err)
					}
					continue
				}
				p, ok := a.panic.(*PanicError)
				if !ok || !errors.Is(p, cause) || !strings.Contains(p.Error(), "TestAPanicReachesEveryCaller") {
					t.Errorf("a caller got %v, want a panic with the value and the stack of the call", p)
				}
			}
		})
	}
}

func TestTheTimeLimitEndsTheCall(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("obeys its context %v", obeys), func(t *testing.T) {
			bubble(t, func(t *testing.T, b *backend) {
				begin := time.Now()
				got := <-b.ask(t.Context(), Spec[string]{Key: "k", Limit: time.Second}, func(ctx context.Context) (int, error) {
					if obeys {
						return b.load(ctx)
					}
					return b.load(context.WithoutCancel(ctx))
				})
				if !errors.Is(got.err, context.DeadlineExceeded) {
					t.Errorf("got %v, want the deadline", got.err)
				}
				if d := time.Since(begin); d != time.Second {
					t.Errorf("ended after %v, want the limit", d)
				}
				close(b.gate)
			})
		})
	}
}

func TestNobodyJoinsACallAfterItsTimeLimit(t *testing.T) {
	for _, queued := range []bool{true, false} {
		bubble(t, func(t *testing.T, b *backend) {
			deaf := make(chan struct{}) // the first call ignores its context
			spec := Spec[string]{Key: "k", Limit: time.Second, Queued: queued}
			first := b.ask(t.Context(), spec, func(context.Context) (int, error) { <-deaf; return 1, nil })
			if a := <-first; a.err != context.DeadlineExceeded {
				t.Errorf("queued %v: the first caller got %v", queued, a.err)
			}
			second := b.ask(t.Context(), spec, func(context.Context) (int, error) { return 2, nil })
			gets(t, second, 2, "a caller that came after the limit")
			close(deaf)
		})
	}
}

// While a write is in progress, a call that has begun may have read the old value. Later callers must not join it.
func TestQueuedCallersJoinOnlyACallThatHasNotBegun(t *testing.T) {
	bubble(t, func(t *testing.T, b *backend) {
		spec := Spec[string]{Key: "k", Queued: true}
		first := b.ask(t.Context(), spec, b.load) // it has begun
		var rest []<-chan answer
		for range 50 {
			rest = append(rest, b.ask(t.Context(), spec, b.load))
		}
		b.under(t, 1, "the others wait for the next")
		b.gate <- struct{}{}
		gets(t, first, 1, "the first")
		synctest.Wait() // the second has begun
		late := b.ask(t.Context(), spec, b.load)
		b.under(t, 2, "one call of a queue at a time")
		close(b.gate)
		for _, c := range rest {
			gets(t, c, 2, "a waiting caller")
		}
		gets(t, late, 3, "the late caller")
	})
}

func TestAQueuedCallThatAllHaveLeftIsNotMade(t *testing.T) {
	bubble(t, func(t *testing.T, b *backend) {
		spec := Spec[string]{Key: "k", Queued: true}
		first := b.ask(t.Context(), spec, b.load)
		ctx, cancel := context.WithCancel(t.Context())
		left := b.ask(ctx, spec, b.load)
		cancel()
		<-left
		third := b.ask(t.Context(), spec, b.load)
		b.under(t, 1, "one call at a time")
		close(b.gate)
		gets(t, first, 1, "the first")
		gets(t, third, 2, "the third, as the abandoned one is not made,")
	})
}

func TestManyGoroutines(t *testing.T) {
	var g Group[string, int]
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if n%3 == 0 {
					cancel()
				}
				spec := Spec[string]{Key: string(rune('a' + n%5)), Queued: (n+i)%2 == 0}
				if spec.Queued {
					spec.Key += "q"
				}
				v, err := g.Do(ctx, spec, func(Role) {}, func(context.Context) (int, error) { return 7, nil })
				if err == nil && v != 7 {
					t.Errorf("got %d", v)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for idle := false; !idle; runtime.Gosched() { // abandoned calls end on their own
		g.mu.Lock()
		idle = len(g.open)+len(g.tail) == 0
		g.mu.Unlock()
	}
}
