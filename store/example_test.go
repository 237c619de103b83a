package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

func ExampleWrap() {
	limit := layer.Intercept("limit", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return next(ctx)
		}))
	readOnly := layer.Intercept("read only", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op.IsWrite() {
				return &store.Error{Op: c.Op, Code: store.CodeDenied}
			}
			return next(ctx)
		}))
	s := store.Wrap(memstore.New(), limit, readOnly)
	fmt.Println(store.Layers(s))
	fmt.Println(s.SaveThread(context.Background(), chat.Thread{ID: "thr_1", CreatedAt: time.Now()}))
	// Output:
	// [limit read only memstore]
	// save_thread: denied
}

func ExampleCodeOf() {
	err := &store.Error{Op: store.OpLoadThread, Kind: store.RowThread, ID: "thr_1", Code: store.CodeNotFound}
	fmt.Println(err)
	fmt.Println(store.CodeOf(err), errors.Is(err, store.ErrNotFound))
	// Output:
	// load_thread: not found: thread "thr_1"
	// not_found true
}

// Two servers read a thread at the same time, and both change it. One write applies.
func ExampleIfVersion() {
	s := memstore.New()
	_ = s.SaveThread(context.Background(), chat.Thread{ID: "thr_1", CreatedAt: time.Now()})

	titled := func(title string) (context.Context, chat.Thread) {
		ctx, read := store.WithVersions(context.Background())
		thread, err := s.LoadThread(ctx, "thr_1")
		version, ok := read.Of("thr_1")
		if err != nil || !ok {
			panic("the thread is there, and memstore keeps versions")
		}
		thread.Title = title
		return store.IfVersion(ctx, "thr_1", version), thread
	}
	ctx1, first := titled("Lisbon")
	ctx2, second := titled("Porto")
	fmt.Println(s.SaveThread(ctx1, first))
	fmt.Println(s.SaveThread(ctx2, second))
	// Output:
	// <nil>
	// save_thread: conflict: thread "thr_1": if_version
}
