package layer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// timing is an Observer that logs every call. An Observer gets ids, a code and a duration, but no content.
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
	s := store.Wrap(memstore.New(), layer.Observe("timing", timing{log}))
	if _, err := s.LoadThread(context.Background(), "thr_1"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// level=INFO msg=load_thread thread=thr_1 code=not_found
	// load_thread: not found: thread "thr_1"
}

// This layer repeats a read once if the backend is unavailable. It repeats no write, because the first attempt may have been
// applied.
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
	down := layer.Intercept("down", layer.InterceptorFunc(
		func(context.Context, layer.Call, func(context.Context) error) error { return store.ErrUnavailable }))
	s := store.Wrap(memstore.New(), retry, down)
	_, err := s.LoadThread(context.Background(), "thr_1")
	fmt.Println(store.CodeOf(err))
	// Output:
	// once more: load_thread
	// unavailable
}
