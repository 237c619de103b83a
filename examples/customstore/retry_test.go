package customstore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/examples/customstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// down is a base whose first calls fail.
func down(failures int, err error, calls *int) store.Store {
	fail := func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if *calls++; *calls <= failures {
			return err
		}
		return next(ctx)
	}
	return store.Wrap(customstore.New(), layer.Intercept("down", layer.InterceptorFunc(fail)))
}

func TestRetry(t *testing.T) {
	surely := errors.Join(store.ErrUnavailable, store.ErrNotApplied)
	read := func(ctx context.Context, s store.Store) error {
		_, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
		return err
	}
	impatient := func(ctx context.Context, s store.Store) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second/2)
		defer cancel()
		return read(ctx, s)
	}
	write := func(ctx context.Context, s store.Store) error { return s.DeleteThread(ctx, "thr_1") }

	for _, tt := range []struct {
		name     string
		failures int
		err      error
		call     func(context.Context, store.Store) error
		calls    int
		want     error
		took     time.Duration
	}{
		{"a read is retried", 2, store.ErrUnavailable, read, 3, nil, 3 * time.Second},
		{"the caller gets the error of the last try", 3, store.ErrUnavailable, read, 3, store.ErrUnavailable, 3 * time.Second},
		{"other errors are final", 1, store.ErrDenied, read, 1, store.ErrDenied, 0},
		{"a write with an unknown outcome is not repeated", 1, store.ErrUnavailable, write, 1, store.ErrUnavailable, 0},
		{"a cancelled caller does not wait for the pause", 1, store.ErrUnavailable, impatient, 2, context.DeadlineExceeded, time.Second / 2},
		{"a write that certainly was not applied is retried", 1, surely, write, 2, nil, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls int
				s := store.Wrap(down(tt.failures, tt.err, &calls), customstore.Retry(3, time.Second))
				begin := time.Now()
				if err := tt.call(t.Context(), s); !errors.Is(err, tt.want) {
					t.Errorf("got error %v, want %v", err, tt.want)
				}
				if calls != tt.calls || time.Since(begin) != tt.took {
					t.Errorf("got %d calls in %v, want %d in %v", calls, time.Since(begin), tt.calls, tt.took)
				}
			})
		})
	}
}
