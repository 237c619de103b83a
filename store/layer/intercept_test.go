package layer_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

func intercepting(f layer.InterceptorFunc) (store.Store, *spy.Base) {
	base := &spy.Base{}
	return store.Wrap(base, layer.Intercept("rule", f)), base
}

func TestAnInterceptorDecidesWhetherTheCallGoesOn(t *testing.T) {
	for _, verdict := range []error{errors.New("not today"), nil} { // nil without a next is CodeInternal
		s, base := intercepting(func(context.Context, layer.Call, func(context.Context) error) error { return verdict })
		for _, op := range store.Ops() {
			err := spy.CallOp(t.Context(), s, op)
			if store.CodeOf(err) != store.CodeInternal || verdict != nil && !errors.Is(err, verdict) {
				t.Errorf("%s: got %v", op, err)
			}
		}
		if calls := base.Calls(); len(calls) != 0 {
			t.Errorf("the base was called: %v", calls)
		}
	}
}

func TestAnInterceptorMayRetry(t *testing.T) {
	s, base := intercepting(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if err := next(ctx); !errors.Is(err, store.ErrUnavailable) {
			return err
		}
		return next(ctx)
	})
	answers := []error{store.ErrUnavailable, store.ErrUnavailable, store.ErrUnavailable, nil}
	base.Do = func(context.Context, store.Op) error { return answers[len(base.Calls())-1] }
	_, first := s.LoadThread(t.Context(), "thr_1")
	th, err := s.LoadThread(t.Context(), "thr_1")
	if !errors.Is(first, store.ErrUnavailable) || err != nil || th.Title != "answer" || len(base.Calls()) != len(answers) {
		t.Errorf("got %v, then %v, %v", first, th, err)
	}
}

func TestAnAnswerComesOnlyWhereBothSucceed(t *testing.T) {
	for _, c := range []struct {
		base, verdict error
		want          store.Code
	}{
		{store.ErrNotFound, nil, store.CodeInternal},
		{nil, store.ErrDenied, store.CodeDenied},
	} {
		s, base := intercepting(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			_ = next(ctx)
			return c.verdict
		})
		base.Do = func(context.Context, store.Op) error { return c.base }
		if th, err := s.LoadThread(t.Context(), "thr_1"); store.CodeOf(err) != c.want || th.Title != "" {
			t.Errorf("got %v, %v", th, err)
		}
	}
}

func TestALateNextDoesNothing(t *testing.T) {
	for _, how := range []string{"returned", "panicked"} {
		var late func(context.Context) error
		s, base := intercepting(func(_ context.Context, _ layer.Call, next func(context.Context) error) error {
			late = next
			if how == "panicked" {
				panic("interceptor")
			}
			return store.ErrUnavailable
		})
		_, _ = spy.Try(t.Context(), s, store.OpDeleteThread)
		err := late(t.Context())
		if store.CodeOf(err) != store.CodeInternal || !errors.Is(err, store.ErrNotApplied) || len(base.Calls()) != 0 {
			t.Errorf("%s: a late next returned %v; calls of the base: %v", how, err, base.Calls())
		}
	}
}

func TestNextMayRunInManyGoroutines(t *testing.T) {
	s, _ := intercepting(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
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

// If an attempt of a write may still take effect, the outcome is unknown, whatever later attempts returned.
func TestAnAttemptThatEndedUnknownMakesTheOutcomeUnknown(t *testing.T) {
	var answers []error // of the base, in order
	retry := func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		var err error
		for range answers {
			if err = next(ctx); err == nil {
				break
			}
		}
		return err
	}
	for _, c := range []struct {
		name      string
		answers   []error
		want      store.Code
		unsettled bool
	}{
		{"lost, then a conflict", []error{store.ErrUnavailable, store.ErrConflict}, store.CodeUnavailable, true},
		{"lost, then done", []error{store.ErrUnavailable, nil}, store.CodeOK, true},
		{"lost, then not applied", []error{store.ErrUnavailable, store.ErrNotApplied}, store.CodeUnavailable, true},
		{"lost, then lost", []error{store.ErrUnavailable, errors.New("driver")}, store.CodeInternal, true},
		{"not applied, then a conflict", []error{store.ErrNotApplied, store.ErrConflict}, store.CodeConflict, false},
		{"not applied, then done", []error{store.ErrNotApplied, nil}, store.CodeOK, false},
	} {
		for _, op := range store.Ops() {
			s, base := intercepting(retry)
			answers = c.answers
			base.Do = func(context.Context, store.Op) error { return c.answers[len(base.Calls())-1] }
			reported := false
			err := spy.CallOp(spy.WithUnsettledRecorder(t.Context(), func(<-chan struct{}) { reported = true }), s, op)
			if !op.IsWrite() {
				if last := c.answers[len(c.answers)-1]; !errors.Is(err, last) || reported {
					t.Errorf("%s, %s: a read got %v, reported %v", c.name, op, err, reported)
				}
				continue
			}
			if store.CodeOf(err) != c.want || reported != c.unsettled {
				t.Errorf("%s, %s: got %v, reported %v", c.name, op, err, reported)
			}
			if c.unsettled && err != nil && store.IsDefinite(err) {
				t.Errorf("%s, %s: %v is definite", c.name, op, err)
			}
		}
	}
}

func TestAWriteThatGoesOnAfterItsInterceptorIsUnsettled(t *testing.T) {
	for _, answer := range []error{nil, store.ErrDenied, context.DeadlineExceeded} {
		hold, done := make(chan struct{}), make(chan struct{})
		s, base := intercepting(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			began := make(chan struct{})
			go func() {
				defer close(done)
				_ = next(context.WithValue(ctx, beganKey{}, began))
			}()
			<-began
			return answer
		})
		base.Do = func(ctx context.Context, _ store.Op) error {
			close(ctx.Value(beganKey{}).(chan struct{}))
			<-hold
			layer.ReportUnsettled(ctx)
			driver.ReportVersion(ctx, "thr_1", 1, 2)
			return nil
		}
		reported, versions := 0, 0
		ctx := spy.WithUnsettledRecorder(t.Context(), func(<-chan struct{}) { reported++ })
		ctx = callctx.WithVersionRecorder(ctx, func(string, uint64, uint64) { versions++ })
		err := s.SaveThread(ctx, chat.Thread{ID: "thr_1"})
		if reported == 0 || store.IsDefinite(err) {
			t.Errorf("the Interceptor returned %v: got %v, reported %d times", answer, err, reported)
		}
		before := reported
		close(hold)
		<-done
		if reported != before || versions != 0 {
			t.Errorf("after the end of the call: %d unsettled reports and %d versions", reported-before, versions)
		}
	}
}

type beganKey struct{}

type closing struct {
	layer.InterceptorFunc
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

func TestClosingTheLayerClosesItsInterceptor(t *testing.T) {
	c := &closing{InterceptorFunc: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error { return next(ctx) }}
	if err := store.Close(store.Wrap(&spy.Base{}, layer.Intercept("rule", c))); err != nil || c.closed != 1 {
		t.Errorf("closed %d times, %v", c.closed, err)
	}
}
