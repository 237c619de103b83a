package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// timing is an Observer that logs every call. It gets ids, a code and a duration, and by type no content.
type timing struct{ log *slog.Logger }

func (timing) Begin(ctx context.Context, _ layer.Call) (context.Context, any) { return ctx, struct{}{} }

func (o timing) End(ctx context.Context, c layer.Call, r layer.Result, _ any) {
	o.log.InfoContext(ctx, c.Op.String(), "thread", c.ThreadID, "code", r.Code)
}

func ExampleObserve() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
	s := store.Wrap(&spy{}, layer.Observe("timing", timing{log}))
	_, _ = s.LoadThread(context.Background(), "thr_1")
	// Output: level=INFO msg=load_thread thread=thr_1 code=ok
}

// A rule of one's own in a few lines: reads that the backend cannot answer now are tried once more. Writes are not: the
// first may have happened.
func ExampleIntercept() {
	retry := layer.Intercept("retry", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if !c.Op.IsWrite() && errors.Is(err, store.ErrUnavailable) {
				fmt.Println("once more:", c.Op)
				return next(ctx)
			}
			return err
		}))
	s := store.Wrap(&spy{err: store.ErrUnavailable}, retry)
	_, err := s.LoadThread(context.Background(), "thr_1")
	fmt.Println(store.CodeOf(err))
	// Output:
	// once more: load_thread
	// unavailable
}

func ExampleWrap() {
	limit := layer.Intercept("limit", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return next(ctx)
		}))
	s := store.Wrap(&spy{}, layer.Observe("timing", timing{slog.Default()}), limit)
	fmt.Println(store.Layers(s))
	// Output: [timing limit *store_test.spy]
}

func ExampleCodeOf() {
	err := &store.Error{Op: store.OpLoadThread, Kind: store.RowThread, ID: "thr_1", Code: store.CodeNotFound}
	fmt.Println(err)
	fmt.Println(store.CodeOf(err), errors.Is(err, store.ErrNotFound))
	// Output:
	// load_thread: not found: thread "thr_1"
	// not_found true
}
