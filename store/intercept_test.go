package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/store"
)

func intercepting(f store.InterceptorFunc) (store.Store, *spy) {
	base := &spy{}
	return store.Wrap(base, store.Intercept("rule", f)), base
}

func TestAnInterceptorDecidesWhetherTheCallGoesOn(t *testing.T) {
	refuse := errors.New("not today")
	s, base := intercepting(func(context.Context, store.Call, func(context.Context) error) error { return refuse })
	for _, op := range store.Ops() {
		if err := opCalls[op](t.Context(), s); !errors.Is(err, refuse) {
			t.Errorf("%s: got %v", op, err)
		}
	}
	if len(base.calls) != 0 {
		t.Errorf("the base got %v", base.calls)
	}
}

func TestAnInterceptorMayRetry(t *testing.T) {
	s, base := intercepting(func(ctx context.Context, _ store.Call, next func(context.Context) error) error {
		if err := next(ctx); !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		return next(ctx)
	})
	base.err = store.ErrUnavailable
	base.do = func(context.Context) {
		if len(base.calls) == 1 {
			return
		}
		base.mu.Lock()
		base.err = nil
		base.mu.Unlock()
	}
	_, first := s.LoadThread(t.Context(), "thr_1")
	th, err := s.LoadThread(t.Context(), "thr_1")
	if first == nil || err != nil || th.Title != "answer" {
		t.Errorf("got %v, then %v, %v", first, th, err)
	}
}

func TestSuccessWithoutANextIsInternal(t *testing.T) {
	s, _ := intercepting(func(context.Context, store.Call, func(context.Context) error) error { return nil })
	for _, op := range store.Ops() {
		if err := opCalls[op](t.Context(), s); store.CodeOf(err) != store.CodeInternal {
			t.Errorf("%s: got %v", op, err)
		}
	}
	s, base := intercepting(func(ctx context.Context, _ store.Call, next func(context.Context) error) error {
		_ = next(ctx)
		return nil // although it failed
	})
	base.err = store.ErrNotFound
	if th, err := s.LoadThread(t.Context(), "thr_1"); store.CodeOf(err) != store.CodeInternal || th.Title != "" {
		t.Errorf("got %v, %v", th, err)
	}
}

func TestAFailureOfTheInterceptorHidesTheAnswer(t *testing.T) {
	s, _ := intercepting(func(ctx context.Context, _ store.Call, next func(context.Context) error) error {
		_ = next(ctx)
		return store.ErrDenied
	})
	if th, err := s.LoadThread(t.Context(), "thr_1"); !errors.Is(err, store.ErrDenied) || th.Title != "" {
		t.Errorf("got %v, %v", th, err)
	}
}

func TestALateNextDoesNothing(t *testing.T) {
	for _, how := range []string{"returned", "panicked"} {
		var late func(context.Context) error
		s, base := intercepting(func(_ context.Context, _ store.Call, next func(context.Context) error) error {
			late = next
			if how == "panicked" {
				panic("interceptor")
			}
			return store.ErrUnavailable
		})
		func() {
			defer func() { _ = recover() }()
			_ = s.DeleteThread(t.Context(), "thr_1")
		}()
		err := late(t.Context())
		if store.CodeOf(err) != store.CodeInternal || !errors.Is(err, store.ErrNotApplied) || len(base.calls) != 0 {
			t.Errorf("%s: a late next got %v; the base got %v", how, err, base.calls)
		}
	}
}

func TestNextMayRunInManyGoroutines(t *testing.T) {
	s, _ := intercepting(func(ctx context.Context, _ store.Call, next func(context.Context) error) error {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _ = next(ctx) })
		}
		wg.Wait()
		return nil
	})
	if th, err := s.LoadThread(t.Context(), "thr_1"); err != nil || th.Title != "answer" {
		t.Errorf("got %v, %v", th, err)
	}
}
