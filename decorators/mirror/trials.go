package mirror

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

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
	ctx = callctx.With(layer.Own(context.WithoutCancel(ctx)), func(d *callctx.Data) {
		d.Stamp, d.Retried = callctx.Stamp{}, false // of the first store's caches and retries
	})
	t := &trial{ctx: ctx, call: c}
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
	if !s.push(&s.queues[int(t.slots[0])%s.workers], func() { s.run(t) }) {
		s.end(t, dropped)
	}
}

// run makes a trial on a worker. It repeats a read that differs, because a write can have come between the two answers.
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
		case t.tries == tries || !s.push(&s.queues[s.workers], func() { s.run(t) }):
			s.end(t, skipped)
		}
	}()
	if s.ctx.Err() != nil {
		return
	}
	if t.tries > 0 {
		select {
		case <-time.After(pause << (t.tries - 1)):
		case <-s.open.Done():
		}
	}
	ctx, cancel := context.WithTimeout(t.ctx, s.limit)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if t.tries == 0 {
		if t.make(ctx, &d, false); t.call.Op.IsWrite() || d.result() != different {
			return
		}
	}
	t.tries++
	before := s.writing.Load(t.slots[0])
	d = Divergence{Call: t.call}
	t.make(ctx, &d, true)
	during = !before.Idle() || s.writing.Load(t.slots[0]) != before
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
