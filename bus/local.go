package bus

import (
	"context"
	"sync"
)

// Local returns a [Bus] for several caches over one base in one process. Publish returns after every subscriber has handled
// the change. So once a write through one cache has returned, no other cache serves an older value. No change is lost.
func Local() Bus { return &localBus{} }

type localBus struct {
	mu          sync.RWMutex
	subscribers map[*subscriber]struct{}
}

type subscriber struct {
	mu sync.Mutex // one change at a time
	f  func(Change)
}

func (b *localBus) Publish(_ context.Context, c Change) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for s := range b.subscribers {
		s.mu.Lock()
		s.f(c)
		s.mu.Unlock()
	}
	return nil
}

func (b *localBus) Subscribe(ctx context.Context, f func(Change), connected func(bool)) (stop func()) {
	s := &subscriber{f: f}
	b.mu.Lock()
	if b.subscribers == nil {
		b.subscribers = make(map[*subscriber]struct{})
	}
	b.subscribers[s] = struct{}{}
	b.mu.Unlock()
	connected(true)
	remove := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subscribers, s)
	}
	forget := context.AfterFunc(ctx, remove)
	return func() {
		forget()
		remove()
	}
}
