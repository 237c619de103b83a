package mirror

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// mirrored is the layer.
type mirrored struct {
	config
	next, second store.Store
	counts       [2][numResults]atomic.Uint64 // of reads and of writes
	writing      *generation.Table            // a write begins at the first store and ends at the second
	lists        generation.Slot              // of the listings of threads
	erasing      generation.Slot              // of EraseOwner

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
	kindErasing
)

func newMirrored(next, second store.Store, c config) *mirrored {
	s := &mirrored{config: c, next: next, second: second, writing: generation.New(counters), queues: make([]queue, c.workers+1)}
	s.open, s.shut = context.WithCancel(context.Background())
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.lists, s.erasing = s.writing.Slot(kindList, ""), s.writing.Slot(kindErasing, "")
	s.close = sync.OnceValue(s.stop)
	return s
}

// queue has the trials of one worker, which exists while there are any.
type queue struct {
	mu      sync.Mutex
	waiting []func()
	running bool
}

// push gives run to the queue's worker, unless limit others are waiting or the layer is closed.
func (s *mirrored) push(q *queue, run func(), limit int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s.open.Err() != nil || len(q.waiting) >= limit {
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

// drain waits for the trials that wait now.
func (s *mirrored) drain(ctx context.Context) error {
	for i := range s.workers {
		passed := make(chan struct{})
		if !s.push(&s.queues[i], func() { close(passed) }, math.MaxInt) {
			return s.close() // which waits, too
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
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
	return errors.New("mirror: a call of the second store ignores that its context is cancelled")
}

// trial is a call of the second store.
type trial struct {
	ctx   context.Context
	call  layer.Call
	slots []generation.Slot // of the id that is read or written; a write of a thread has that of all listings, too
	tries int
	// make makes the call. It fills in both codes, and the field that differs. If again, it first makes the call on the first store.
	make func(ctx context.Context, d *Divergence, again bool)
}

func (s *mirrored) newTrial(ctx context.Context, c layer.Call) *trial {
	t := &trial{ctx: layer.Own(context.WithoutCancel(ctx)), call: c}
	switch {
	case c.AttachmentID != "":
		t.slots = append(t.slots, s.writing.Slot(kindAttachment, c.AttachmentID))
	case c.Op != store.OpLoadThreads:
		t.slots = append(t.slots, s.writing.Slot(kindThread, c.ThreadID))
	}
	if c.Op == store.OpLoadThreads || c.Op == store.OpSaveThread || c.Op == store.OpDeleteThread {
		t.slots = append(t.slots, s.lists)
	}
	return t
}

// read makes a read on the first store, and queues a trial of a share of the reads.
func read[T any](ctx context.Context, s *mirrored, c layer.Call, differ func(a, b *T) string,
	load func(context.Context, store.Store) (T, error)) (T, error) {
	v, err := load(ctx, s.next)
	if rand.Float64() >= s.reads {
		return v, err
	}
	t, first, code := s.newTrial(ctx, c), kept(v), store.CodeOf(err)
	t.make = func(ctx context.Context, d *Divergence, again bool) {
		first, code := first, code
		if again {
			ctx, d.First = store.WithFresh(ctx), store.CodePanic // unless it returns
			v, err := load(ctx, s.next)
			first, code = v, store.CodeOf(err)
		}
		d.First, d.Second = code, store.CodePanic
		second, err := load(ctx, s.second)
		if d.Second = store.CodeOf(err); d.First == store.CodeOK && d.Second == store.CodeOK {
			d.Field = differ(&first, &second)
		}
	}
	if isAnswer(code) {
		s.queue(t)
	} else {
		s.end(t, skipped)
	}
	return v, err
}

// write makes a write on the first store, and queues a trial if it succeeds.
func (s *mirrored) write(ctx context.Context, c layer.Call, save func(context.Context, store.Store) error) error {
	if !s.writes {
		return save(ctx, s.next)
	}
	t := s.newTrial(ctx, c)
	t.make = func(ctx context.Context, d *Divergence, _ bool) {
		d.Second = store.CodePanic
		d.Second = store.CodeOf(save(ctx, s.second))
	}
	for _, slot := range t.slots {
		s.writing.Begin(slot)
	}
	outcome := skipped // a panic leaves it: the outcome is unknown
	defer func() {
		if outcome == equal {
			s.queue(t)
		} else {
			s.end(t, outcome)
		}
	}()
	err := save(ctx, s.next)
	if err == nil {
		outcome = equal
	} else if store.IsDefinite(err) {
		outcome = refused
	}
	return err
}

// queue gives t to the worker of its id, so that the writes of a thread keep their order.
func (s *mirrored) queue(t *trial) {
	if !s.push(&s.queues[int(t.slots[0])%s.workers], func() { s.run(t) }, s.length) {
		s.end(t, dropped)
	}
}

// run makes a trial on a worker. A read that differs is made again, as only the difference of stores without a write counts.
func (s *mirrored) run(t *trial) {
	d, during := Divergence{Call: t.call}, false
	defer func() { // deferred, because a store may panic or end the goroutine
		_ = recover()
		switch r := d.result(); {
		case s.ctx.Err() != nil:
			s.end(t, dropped)
		case r != different || !during:
			s.end(t, r)
			s.tell(d, r)
		case t.tries == tries || !s.push(&s.queues[s.workers], func() { s.run(t) }, s.length):
			s.end(t, skipped)
		}
	}()
	if s.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, s.limit)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if t.tries > 0 {
		select {
		case <-time.After(pause << (t.tries - 1)):
		case <-s.open.Done():
		}
	} else if t.make(ctx, &d, false); t.call.Op.IsWrite() || d.result() != different {
		return
	}
	t.tries++
	before, erasing := s.writing.Load(t.slots[0]), s.writing.Load(s.erasing)
	d = Divergence{Call: t.call}
	t.make(ctx, &d, true)
	during = !before.Idle() || !erasing.Idle() || s.writing.Load(t.slots[0]) != before || s.writing.Load(s.erasing) != erasing
}

// end ends and counts a trial.
func (s *mirrored) end(t *trial, r result) {
	kind := 0
	if t.call.Op.IsWrite() {
		kind = 1
		for _, slot := range t.slots {
			s.writing.End(slot)
		}
	}
	s.counts[kind][r].Add(1)
}

// tell reports a divergence.
func (s *mirrored) tell(d Divergence, r result) {
	if s.report == nil || r != different && r != failed {
		return
	}
	defer func() { _ = recover() }()
	if d.First != d.Second {
		d.Field = "code"
	}
	s.report(d)
}
