package mirror

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
)

// mirrored is the layer.
type mirrored struct {
	config
	next, second store.Store
	counts       [2][numResults]atomic.Uint64 // of reads and of writes
	writing      *generation.Table            // a write begins at the first store and ends at the second
	lists        generation.Slot              // of the listings of threads

	open    context.Context // until Close
	shut    context.CancelFunc
	ctx     context.Context // of all trials, until Close has waited for them
	cancel  context.CancelFunc
	close   func() error
	running sync.WaitGroup
	queues  []queue // one for each worker, and a last one for reads that differed during writes
}

const (
	counters = 1 << 12               // so many that a write rarely counts as one of another thread
	tries    = 4                     // of a read that differs during writes
	pause    = 20 * time.Millisecond // before the first such try; it doubles each time
	grace    = time.Second           // for cancelled trials to end
)

// The kinds of slots. The same id may be that of a thread and of an attachment.
const (
	kindThread = iota
	kindAttachment
	kindList
)

func newMirrored(next, second store.Store, c config) *mirrored {
	s := &mirrored{config: c, next: next, second: second, writing: generation.New(counters), queues: make([]queue, c.workers+1)}
	s.open, s.shut = context.WithCancel(context.Background())
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.lists = s.writing.Slot(kindList, "")
	s.close = sync.OnceValue(s.stop)
	return s
}

// queue has the trials of one worker, which exists while there are any.
type queue struct {
	mu      sync.Mutex
	waiting []func()
	running bool
}

// push gives run to the queue's worker, unless the queue is full or the layer is closed.
func (s *mirrored) push(q *queue, run func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.open.Err() != nil || len(q.waiting) >= s.length {
		return false
	}
	q.waiting = append(q.waiting, run)
	if !q.running {
		q.running = true
		s.running.Go(func() { s.work(q) })
	}
	return true
}

// next takes the first trial from the queue, or nil.
func (q *queue) next() (run func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running = len(q.waiting) > 0; q.running {
		run, q.waiting[0] = q.waiting[0], nil
		q.waiting = q.waiting[1:]
	}
	return run
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

func (s *mirrored) work(q *queue) {
	idle := false
	defer func() {
		if !idle { // a trial has ended the goroutine (runtime.Goexit)
			s.running.Go(func() { s.work(q) })
		}
	}()
	for run := q.next(); run != nil; run = q.next() {
		run()
	}
	idle = true
}

// Close waits for the waiting trials, up to the time limit of a trial, and drops the rest. It leaves the second store open.
// Later calls go to the first store only. Close fails if a trial ignores that its context is cancelled and so still runs.
func (s *mirrored) Close() error { return s.close() }

func (s *mirrored) stop() error {
	defer s.cancel()
	s.shut()
	for i := range s.queues {
		s.queues[i].len() // under the lock: a push that is under way starts its worker before the wait
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	for _, wait := range [...]time.Duration{s.limit, grace} {
		select {
		case <-ended:
			return nil
		case <-time.After(wait):
			s.cancel()
		}
	}
	return errors.New("mirror: a trial ignores that its context is cancelled")
}
