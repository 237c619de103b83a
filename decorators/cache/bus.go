package cache

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/store"
)

// publishTimeout bounds how long a write waits for the bus.
const publishTimeout = 5 * time.Second

// newOrigin names a cache among all that may share a bus.
func newOrigin() string { return rand.Text() }

// announced runs a write and tells the bus of it before it returns: of a write that ended unknown without a number, since
// it may still take effect after this cache's own words have settled. A definite failure changed nothing.
func (l *layer) announced(ctx context.Context, kind byte, id string, call func() error) (err error) {
	if l.cfg.bus == nil {
		return call()
	}
	change := store.Change{Origin: l.origin, Write: l.writes.Add(1)}
	if kind == coherence.ThreadWord {
		change.ThreadID = id
	} else {
		change.AttachmentID = id
	}
	returned := false
	defer func() {
		switch {
		case returned && err != nil && store.IsDefinite(err):
			return
		case !returned || err != nil:
			change.Write = 0
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
		defer cancel()
		if l.cfg.bus.Publish(ctx, change) != nil {
			l.stats.unsent.Add(1)
		}
	}()
	err = call()
	returned = true
	return err
}

func (l *layer) subscribe(bus store.Bus) {
	l.stop = bus.Subscribe(context.Background(), l.heed, l.connected)
}

// heed forgets what a change made untrue. Moving the words is what counts: loads under way must not be stored either.
func (l *layer) heed(c store.Change) {
	if c.Origin == l.origin && c.Write != 0 {
		return // the write moved the words itself, and may have patched
	}
	if c.All {
		l.core.Words.BumpAll()
	}
	if c.ThreadID != "" {
		l.core.Words.Bump(l.core.Words.Slot(coherence.ThreadWord, c.ThreadID))
	}
	if c.AttachmentID != "" {
		l.core.Words.Bump(l.core.Words.Slot(coherence.AttachmentWord, c.AttachmentID))
	}
}

func (l *layer) connected(yes bool) {
	if !yes || l.closed.Load() {
		l.serving.Store(false)
		return
	}
	l.core.Words.BumpAll()
	for _, s := range l.shards {
		s.flush()
	}
	l.serving.Store(true)
}

// LocalBus returns a [store.Bus] for several caches over one base in one process. It delivers while Publish waits: when a
// write through one cache has returned, no other answers with what was before it. It never loses a change.
func LocalBus() store.Bus { return &localBus{} }

type localBus struct {
	mu          sync.RWMutex
	subscribers map[*subscriber]struct{}
}

type subscriber struct {
	mu sync.Mutex // one change at a time
	f  func(store.Change)
}

func (b *localBus) Publish(_ context.Context, c store.Change) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for s := range b.subscribers {
		s.mu.Lock()
		s.f(c)
		s.mu.Unlock()
	}
	return nil
}

func (b *localBus) Subscribe(_ context.Context, f func(store.Change), connected func(bool)) (stop func()) {
	s := &subscriber{f: f}
	b.mu.Lock()
	if b.subscribers == nil {
		b.subscribers = make(map[*subscriber]struct{})
	}
	b.subscribers[s] = struct{}{}
	b.mu.Unlock()
	connected(true)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subscribers, s)
	}
}
