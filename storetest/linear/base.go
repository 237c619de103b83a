package linear

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// longestWrite is the maximum delay of a late write of a simBase.
const longestWrite = 2 * time.Millisecond

// errLost is the error of calls whose outcome a simBase hides.
var errLost = errors.New("linear: the connection was lost")

// simBase is a slow Store with a log of the states of one thread. Each call takes effect at one instant. Delays and faults
// are drawn from the seed, and depend only on the call and its virtual time.
type simBase struct {
	call.Store
	h        *history
	s        *scenario
	seed     uint64
	versions bool
	thread   string // the logged thread
	prompt   bool   // without delays and faults
	lates    sync.WaitGroup
	mu       sync.Mutex
	rows     *memstore.Store // guarded by mu
}

func newBase(h *history, s *scenario, seed uint64, versions bool) *simBase {
	b := &simBase{h: h, s: s, seed: seed, versions: versions, thread: simThread, rows: memstore.New()}
	b.Store = call.Store{IDs: b.rows, Do: b.do}
	return b
}

var (
	_ store.Store          = (*simBase)(nil)
	_ driver.WriteBounder  = (*simBase)(nil)
	_ driver.VersionReader = (*simBase)(nil)
)

// LongestWrite returns the maximum delay of a write.
func (b *simBase) LongestWrite() time.Duration { return longestWrite }

// Seed returns the seed of the history.
func (b *simBase) Seed() uint64 { return b.seed }

// fate is what happens to one call.
type fate struct {
	before, after time.Duration // delay until the effect, and from the effect to the answer
	kind          fateKind
	late          time.Duration
}

type fateKind uint8

const (
	answered fateKind = iota
	lostBefore
	lostAfter
	panicsBefore
	panicsAfter
	lostAndLate // takes effect after its caller got an error
	panicsAndLate
)

// lostFates are the fates of a write with an unknown outcome.
var lostFates = []fateKind{lostBefore, lostAfter, panicsBefore, panicsAfter, lostAndLate, lostAndLate, panicsAndLate}

func (b *simBase) fate(c call.Call) fate {
	if b.prompt {
		return fate{}
	}
	h := fnv.New64a()
	for _, w := range words(c) {
		h.Write([]byte(w))
		h.Write([]byte{0})
	}
	r := rand.New(rand.NewPCG(b.seed^h.Sum64(), uint64(b.h.now())))
	f := fate{before: upTo(r, b.s.latency), after: upTo(r, b.s.latency), late: upTo(r, longestWrite)}
	if r.IntN(8) == 0 {
		f.before *= 5
	}
	if r.IntN(8) == 0 {
		f.after *= 5
	}
	if p := r.Float64(); c.Op.IsWrite() && p < b.s.lostWrites {
		f.kind = lostFates[r.IntN(len(lostFates))]
	} else if !c.Op.IsWrite() && p < b.s.lostReads {
		f.kind = [...]fateKind{lostAfter, panicsAfter}[r.IntN(2)]
	}
	return f
}

// upTo draws a duration from 1 ns to d.
func upTo(r *rand.Rand, d time.Duration) time.Duration { return 1 + time.Duration(r.Int64N(int64(d))) }

// pause waits for d. If the context ends first, it returns its error.
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listen removes the version recorder from the context if the base reports no versions.
func (b *simBase) listen(ctx context.Context) context.Context {
	if b.versions {
		return ctx
	}
	return callctx.WithoutVersionRecorder(ctx)
}

// do makes a call.
func (b *simBase) do(ctx context.Context, c call.Call) call.Answer {
	switch {
	case c.OfAttachment():
		return c.Make(ctx, b.rows)
	case c.Op.IsWrite():
		return b.write(ctx, c)
	}
	return b.read(ctx, c)
}

// words returns what distinguishes calls that begin at the same time.
func words(c call.Call) []string {
	switch c.Op {
	case store.OpLoadThread:
		return []string{"thread", c.Thread.ID}
	case store.OpLoadThreadItems:
		return []string{"items", c.Query.After, c.Query.Order.String(), string(rune(c.Query.Limit)), c.Thread.ID}
	case store.OpLoadItem:
		return []string{"item", c.Item.ID, c.Thread.ID}
	case store.OpLoadThreads:
		return []string{"threads", ""}
	case store.OpSaveThread:
		return []string{c.Thread.Title, c.Op.String(), c.Thread.ID}
	case store.OpDeleteThread:
		return []string{c.Op.String(), c.Thread.ID}
	}
	return []string{c.Item.ID, c.Op.String(), c.Thread.ID}
}

func (b *simBase) read(ctx context.Context, c call.Call) call.Answer {
	f := b.fate(c)
	if err := pause(ctx, f.before); err != nil {
		return call.Answer{Err: err}
	}
	b.mu.Lock()
	a := c.Make(b.listen(ctx), b.rows)
	if c.Thread.ID == b.thread {
		b.h.baseRead()
	}
	b.mu.Unlock()
	if err := pause(ctx, f.after); err != nil {
		return call.Answer{Err: err}
	}
	switch f.kind {
	case lostAfter:
		return call.Answer{Err: errLost}
	case panicsAfter:
		panic(errLost)
	}
	return a
}

// ThreadVersions is as slow as a read, and fails as often. It does not count as a read of the thread.
func (b *simBase) ThreadVersions(ctx context.Context, ids []string) (epoch string, versions []uint64, err error) {
	f := b.fate(call.Call{Op: store.OpLoadThread, Thread: chat.Thread{ID: "all versions"}})
	if err := pause(ctx, f.before); err != nil {
		return "", nil, err
	}
	b.mu.Lock()
	epoch, versions, err = b.rows.ThreadVersions(ctx, ids)
	b.mu.Unlock()
	if err := pause(ctx, f.after); err != nil {
		return "", nil, err
	}
	switch f.kind {
	case lostAfter:
		return "", nil, errLost
	case panicsAfter:
		panic(errLost)
	}
	return epoch, versions, err
}

func (b *simBase) write(ctx context.Context, c call.Call) call.Answer {
	f := b.fate(c)
	lost := call.Answer{Err: errLost}
	if err := pause(ctx, f.before); err != nil {
		return call.Answer{Err: err}
	}
	commit := func(ctx context.Context) call.Answer {
		b.mu.Lock()
		defer b.mu.Unlock()
		a := c.Make(ctx, b.rows)
		if a.Err == nil && c.Thread.ID == b.thread {
			b.h.committed(ctx, c)
		}
		return a
	}
	switch f.kind {
	case lostBefore:
		return lost
	case panicsBefore:
		panic(errLost)
	case lostAndLate, panicsAndLate:
		b.lates.Go(func() {
			time.Sleep(f.late)
			commit(context.WithoutCancel(callctx.WithoutVersionRecorder(ctx)))
		})
		if f.kind == panicsAndLate {
			panic(errLost)
		}
		return lost
	}
	a := commit(b.listen(ctx))
	if err := pause(ctx, f.after); err != nil {
		return call.Answer{Err: err}
	}
	switch f.kind {
	case lostAfter:
		return lost
	case panicsAfter:
		panic(errLost)
	}
	return a
}
