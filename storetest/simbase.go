package storetest

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
)

// longestWrite is how late a write of a simBase may take effect.
const longestWrite = 2 * time.Millisecond

// errLost is what a simBase says where it does not say what happened.
var errLost = errors.New("storetest: the connection was lost")

// simBase is a slow Store that keeps a log of what it held of one thread. It takes effect at one instant of each call, and
// draws from its seed how long it takes, and what goes wrong; the draw depends on nothing but the call and its (virtual) time.
type simBase struct {
	h               *history
	s               *scenario
	seed            uint64
	versions        bool
	thread          string // whose log is kept
	prompt          bool   // nothing takes time, or goes wrong
	lates           sync.WaitGroup
	mu              sync.Mutex
	*memstore.Store // the generators; and the rows, behind mu
}

var (
	_ store.Store         = (*simBase)(nil)
	_ driver.WriteBounder = (*simBase)(nil)
)

// LongestWrite bounds how late a write takes effect.
func (b *simBase) LongestWrite() time.Duration { return longestWrite }

// Seed is that of the history.
func (b *simBase) Seed() uint64 { return b.seed }

// fate is what happens to one call.
type fate struct {
	before, after time.Duration // until it takes effect, and from there to the answer
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
	lostAndLate // it takes effect after its caller has been told that nobody knows
	panicsAndLate
)

// lostFates are those of a write whose outcome its caller cannot know.
var lostFates = []fateKind{lostBefore, lostAfter, panicsBefore, panicsAfter, lostAndLate, lostAndLate, panicsAndLate}

func (b *simBase) fate(write bool, words ...string) fate {
	if b.prompt {
		return fate{}
	}
	h := fnv.New64a()
	for _, w := range words {
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
	if p := r.Float64(); write && p < b.s.lostWrites {
		f.kind = lostFates[r.IntN(len(lostFates))]
	} else if !write && p < b.s.lostReads {
		f.kind = [...]fateKind{lostAfter, panicsAfter}[r.IntN(2)]
	}
	return f
}

// upTo draws a time of up to d, but not 0.
func upTo(r *rand.Rand, d time.Duration) time.Duration { return 1 + time.Duration(r.Int64N(int64(d))) }

// pause waits, unless the context ends first.
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

// listen has the recorder of the context heard, or not.
func (b *simBase) listen(ctx context.Context) context.Context {
	if b.versions {
		return ctx
	}
	return callctx.WithoutVersionRecorder(ctx)
}

func simRead[T any](ctx context.Context, b *simBase, threadID string, load func(context.Context) (T, error), words ...string) (v T, err error) {
	f := b.fate(false, append(words, threadID)...)
	if err := pause(ctx, f.before); err != nil {
		return v, err
	}
	b.mu.Lock()
	got, failed := load(b.listen(ctx))
	if threadID == b.thread {
		b.h.baseRead()
	}
	b.mu.Unlock()
	if err := pause(ctx, f.after); err != nil {
		return v, err
	}
	switch f.kind {
	case lostAfter:
		return v, errLost
	case panicsAfter:
		panic(errLost)
	}
	return got, failed
}

func (b *simBase) write(ctx context.Context, c command, words ...string) error {
	f := b.fate(true, append(words, c.op.String(), c.threadID())...)
	if err := pause(ctx, f.before); err != nil {
		return err
	}
	c.mode = store.SaveModeFrom(ctx)
	commit := func(ctx context.Context) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		err := c.do(ctx, b.Store)
		if err == nil && c.threadID() == b.thread {
			b.h.committed(ctx, c)
		}
		return err
	}
	switch f.kind {
	case lostBefore:
		return errLost
	case panicsBefore:
		panic(errLost)
	case lostAndLate, panicsAndLate:
		b.lates.Go(func() {
			time.Sleep(f.late)
			_ = commit(context.WithoutCancel(callctx.WithoutVersionRecorder(ctx)))
		})
		if f.kind == panicsAndLate {
			panic(errLost)
		}
		return errLost
	}
	err := commit(b.listen(ctx))
	if err := pause(ctx, f.after); err != nil {
		return err
	}
	switch f.kind {
	case lostAfter:
		return errLost
	case panicsAfter:
		panic(errLost)
	}
	return err
}

func (b *simBase) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	return simRead(ctx, b, threadID, func(ctx context.Context) (chat.Thread, error) {
		return b.Store.LoadThread(ctx, threadID)
	}, "thread")
}

func (b *simBase) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	return simRead(ctx, b, threadID, func(ctx context.Context) (store.Page[chat.Item], error) {
		return b.Store.LoadThreadItems(ctx, threadID, q)
	}, "items", q.After, q.Order.String(), string(rune(q.Limit)))
}

func (b *simBase) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	return simRead(ctx, b, threadID, func(ctx context.Context) (chat.Item, error) {
		return b.Store.LoadItem(ctx, threadID, itemID)
	}, "item", itemID)
}

func (b *simBase) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	return simRead(ctx, b, "", func(ctx context.Context) (store.Page[chat.Thread], error) {
		return b.Store.LoadThreads(ctx, q)
	}, "threads")
}

func (b *simBase) SaveThread(ctx context.Context, t chat.Thread) error {
	return b.write(ctx, command{op: store.OpSaveThread, thread: t}, t.Title)
}

func (b *simBase) DeleteThread(ctx context.Context, threadID string) error {
	return b.write(ctx, command{op: store.OpDeleteThread, thread: chat.Thread{ID: threadID}})
}

func (b *simBase) AddThreadItem(ctx context.Context, threadID string, it chat.Item) error {
	return b.write(ctx, command{op: store.OpAddThreadItem, thread: chat.Thread{ID: threadID}, item: it}, it.ID)
}

func (b *simBase) SaveItem(ctx context.Context, threadID string, it chat.Item) error {
	return b.write(ctx, command{op: store.OpSaveItem, thread: chat.Thread{ID: threadID}, item: it}, it.ID)
}

func (b *simBase) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	return b.write(ctx, command{op: store.OpDeleteThreadItem, thread: chat.Thread{ID: threadID}, item: chat.Item{ID: itemID}}, itemID)
}
