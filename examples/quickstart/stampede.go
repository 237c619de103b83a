package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// patience limits how long the base is held: a wrong count is better than a program that hangs.
const patience = time.Minute

// stampede starts many readers of one thread, each as the principal who(i). It holds the base until every reader waits, and
// returns how many calls reached the base.
func stampede(ctx context.Context, base store.Store, threadID string, readers int, who func(i int) store.Principal,
	layers ...store.Middleware) (calls int, err error) {
	var (
		reached, waiting atomic.Int64
		everybody        = make(chan struct{})
	)
	late, stop := context.WithTimeout(ctx, patience)
	defer stop()
	gate := func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		reached.Add(1)
		select {
		case <-everybody:
		case <-late.Done():
		case <-ctx.Done(): // see watched
		}
		return next(ctx)
	}
	s := store.Wrap(base, append(layers, layer.Intercept("gate", layer.InterceptorFunc(gate)))...)
	defer store.Close(s)

	var wg sync.WaitGroup
	errs := make(chan error, readers)
	for i := range readers {
		wg.Go(func() {
			ctx := &watched{Context: ctx, waits: func() {
				if waiting.Add(1) == int64(readers) {
					close(everybody)
				}
			}}
			t, err := s.LoadThread(store.WithPrincipal(ctx, who(i)), threadID)
			if err == nil && t.ID != threadID {
				err = fmt.Errorf("thread %q instead of %q", t.ID, threadID)
			}
			if err != nil {
				errs <- fmt.Errorf("reader %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	close(errs)
	if n := waiting.Load(); n < int64(readers) {
		return 0, fmt.Errorf("only %d of %d readers were waiting after %v", n, readers, patience)
	}
	return int(reached.Load()), <-errs
}

// watched calls waits when a call begins to wait under its context: waiting code asks for the Done channel first.
type watched struct {
	context.Context
	once  sync.Once
	waits func()
}

func (w *watched) Done() <-chan struct{} {
	w.once.Do(w.waits)
	return w.Context.Done()
}
