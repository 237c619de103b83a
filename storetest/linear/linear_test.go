package linear

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

// found runs the histories until one breaks a promise.
func found(t *testing.T, newStack func(store.Store) store.Store, opts ...Option) *violation {
	t.Helper()
	c := check{stacks: []func(store.Store) store.Store{newStack}, histories: 100}
	for _, o := range opts {
		o(&c)
	}
	var seen Coverage
	for _, s := range scenarios {
		if v := c.search(t, s, &seen); v != nil {
			return v
		}
	}
	return nil
}

func passThrough(base store.Store) store.Store { return struct{ store.Store }{base} }

func TestABareBaseIsLinearizable(t *testing.T) {
	n, floor := 20, Coverage{Reads: 4000, Late: 10, Cancelled: 60, Conditional: 60}
	if testenv.Full {
		n, floor = 100, Coverage{Reads: 20_000, Late: 50, Cancelled: 300, Conditional: 300}
	}
	Run(t, passThrough, WithHistories(n), WithFloor(floor))
}

// naive is a cache that one could write in ten minutes. Each of its faults can be fixed by a field.
type naive struct {
	dropBefore, dropAfter bool
	perKey                bool // a write drops only the named rows, not the pages that contain them
	refuseFill            bool // a load that overlaps a write is not stored
}

func (n naive) wrap(base store.Store) store.Store {
	type key struct {
		op           store.Op
		thread, item string
		q            store.ThreadQuery
	}
	var mu sync.Mutex
	held, gen := map[key]call.Answer{}, 0
	drop := func(c call.Call) {
		mu.Lock()
		defer mu.Unlock()
		gen++
		if !n.perKey {
			clear(held)
			return
		}
		delete(held, key{op: store.OpLoadThread, thread: c.Thread.ID})
		delete(held, key{op: store.OpLoadItem, thread: c.Thread.ID, item: c.Item.ID})
	}
	return &call.Store{IDs: base, Do: func(ctx context.Context, c call.Call) call.Answer {
		if c.Op.IsWrite() {
			if n.dropBefore {
				drop(c)
			}
			if n.dropAfter {
				defer drop(c)
			}
			return c.Make(ctx, base)
		}
		k := key{c.Op, c.Thread.ID, c.Item.ID, c.Query}
		mu.Lock()
		a, ok := held[k]
		was := gen
		mu.Unlock()
		if ok {
			return a
		}
		a = c.Make(ctx, base)
		mu.Lock()
		defer mu.Unlock()
		if a.Err == nil && (!n.refuseFill || gen == was) {
			held[k] = a
		}
		return a
	}}
}

func TestFindsWhatNaiveCachesDo(t *testing.T) {
	for name, n := range map[string]naive{
		"never drops":                       {},
		"drops before the write only":       {dropBefore: true},
		"drops after the write only":        {dropAfter: true, refuseFill: true},
		"drops before and after, but fills": {dropBefore: true, dropAfter: true},
		"drops the rows it names":           {dropBefore: true, dropAfter: true, refuseFill: true, perKey: true},
		"forgets writes that come late":     {dropBefore: true, dropAfter: true, refuseFill: true},
	} {
		t.Run(name, func(t *testing.T) {
			if found(t, n.wrap) == nil {
				t.Error("no history reveals it")
			}
		})
	}
}

// bent is a stack with one op replaced.
func bent(op store.Op, do func(ctx context.Context, c call.Call, base store.Store) call.Answer) func(store.Store) store.Store {
	return func(base store.Store) store.Store {
		return &call.Store{IDs: base, Do: func(ctx context.Context, c call.Call) call.Answer {
			if c.Op == op {
				return do(ctx, c, base)
			}
			return c.Make(ctx, base)
		}}
	}
}

// Faults that must be found even without porcupine: with a second stack, and with stale reads allowed.
func TestFindsAnswersThatAreNot(t *testing.T) {
	var n atomic.Int64
	for name, stack := range map[string]func(store.Store) store.Store{
		"reads that always fail": bent(store.OpLoadThread, func(context.Context, call.Call, store.Store) call.Answer {
			return call.Answer{Err: store.ErrUnavailable}
		}),
		"callers who never left are told that they have": bent(store.OpLoadThread, func(ctx context.Context, c call.Call, base store.Store) call.Answer {
			if n.Add(1)%3 == 0 {
				return call.Answer{Err: context.Canceled}
			}
			return c.Make(ctx, base)
		}),
		"a panic of the stack's own": bent(store.OpLoadThread, func(context.Context, call.Call, store.Store) call.Answer { panic("mine") }),
		"writes that are swallowed": bent(store.OpAddThreadItem, func(context.Context, call.Call, store.Store) call.Answer {
			return call.Answer{}
		}),
		"writes that take effect after they have returned": bent(store.OpAddThreadItem, func(ctx context.Context, c call.Call, base store.Store) call.Answer {
			go func() {
				defer func() { _ = recover() }()
				c.Make(context.WithoutCancel(ctx), base)
			}()
			return call.Answer{}
		}),
		"writes that are refused after they have taken effect": bent(store.OpAddThreadItem, func(ctx context.Context, c call.Call, base store.Store) call.Answer {
			a := c.Make(ctx, base)
			if a.Err == nil {
				a.Err = store.ErrConflict
			}
			return a
		}),
		"writes that are made twice": bent(store.OpAddThreadItem, func(ctx context.Context, c call.Call, base store.Store) call.Answer {
			a := c.Make(ctx, base)
			if c.Op = store.OpSaveItem; a.Err == nil {
				c.Make(ctx, base)
			}
			return a
		}),
	} {
		t.Run(name, func(t *testing.T) {
			for _, opts := range [][]Option{nil, {WithBeside(passThrough)}, {WithStaleBy(time.Millisecond)}} {
				if found(t, stack, append(opts, WithHistories(20))...) == nil {
					t.Errorf("no history reveals it, with %d options", len(opts))
				}
			}
		})
	}
}

// A client's own write shows that the writes before it have ended, whichever client began them.
func TestBesideAnothersWriteUnderOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(scenario{})
		save := func(via int, title string) *event {
			return &event{via: via, in: call.Call{Op: store.OpSaveThread, Thread: newThread(title, 0)}}
		}
		do := func(e *event) {
			h.begin(e)
			h.committed(context.WithValue(t.Context(), eventKey{}, e), e.in)
		}
		first, others, own := save(0, "first"), save(1, "another's"), save(0, "one's own")
		do(first)
		h.end(first, call.Answer{}, known)
		do(others) // does not return
		do(own)
		h.end(own, call.Answer{}, known)
		read := &event{in: call.Call{Op: store.OpLoadThread, Thread: chat.Thread{ID: simThread}}, out: call.Answer{Thread: newThread("first", 0)}}
		h.begin(read)
		h.end(read, read.out, known)
		h.end(others, call.Answer{}, known)
		if h.check(&check{stacks: make([]func(store.Store) store.Store, 2)}) == nil {
			t.Error("a read from before the client's own write was accepted")
		}
	})
}

// joining joins any running call for the same thread.
func joining(base store.Store) store.Store {
	var flights singleflight.Group
	return bent(store.OpLoadThread, func(ctx context.Context, c call.Call, base store.Store) call.Answer {
		a, _, _ := flights.Do(c.Thread.ID, func() (a any, _ error) {
			defer func() {
				if recover() != nil {
					a = call.Answer{Err: errLost}
				}
			}()
			return c.Make(context.WithoutCancel(ctx), base), nil
		})
		return a.(call.Answer)
	})(base)
}

func TestFindsFlightsThatAreJoinedAcrossAWrite(t *testing.T) {
	v := found(t, joining)
	if v == nil {
		t.Fatal("no history reveals it")
	}
	if v.event == nil || v.event.in.Op != store.OpLoadThread {
		t.Errorf("found %v, want a load of the thread", v.event)
	}
}

// lagging answers LoadThread some time after it has read the base. For porcupine this is linearizable as long as no client
// saw the newer thread. But the base did not hold that answer.
func lagging(base store.Store) store.Store {
	var mu sync.Mutex
	var last call.Answer
	var at time.Time
	return bent(store.OpLoadThread, func(ctx context.Context, c call.Call, base store.Store) call.Answer {
		if c.Thread.ID != simThread {
			return c.Make(ctx, base)
		}
		mu.Lock()
		was, then := last, at
		mu.Unlock()
		if was.Thread.ID != "" && time.Since(then) < 20*time.Microsecond {
			return was
		}
		a := c.Make(ctx, base)
		if a.Err == nil {
			mu.Lock()
			last, at = a, time.Now()
			mu.Unlock()
		}
		return a
	})(base)
}

// The log of the base reveals faults that porcupine alone accepts.
func TestFindsWhatNobodyCouldNotice(t *testing.T) {
	v := found(t, lagging, WithHistories(300))
	if v == nil {
		t.Fatal("no history reveals it")
	}
	if v.event == nil {
		t.Error("porcupine found it, want the log")
	}
	if found(t, lagging, WithHistories(30), WithStaleBy(time.Millisecond)) != nil {
		t.Error("a read that may be stale was refused")
	}
}

// In this history, every read equals a state of the base at some instant, but the events have no order. Only porcupine can
// find that. One client makes two reads during one write, and the second answer is older than the first.
func TestFindsReadsThatGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(scenario{})
		do := func(e event, during ...event) {
			h.begin(&e)
			for _, d := range during {
				h.begin(&d)
				h.end(&d, d.out, known)
			}
			if e.in.Op.IsWrite() {
				h.committed(context.WithValue(t.Context(), eventKey{}, &e), e.in)
			}
			h.end(&e, e.out, known)
		}
		old, changed := newThread("old", 0), newThread("changed", 0)
		load := func(client int, title chat.Thread) event {
			return event{client: client, in: call.Call{Op: store.OpLoadThread, Thread: chat.Thread{ID: simThread}}, out: call.Answer{Thread: title}}
		}
		do(event{in: call.Call{Op: store.OpSaveThread, Thread: old}})
		write := event{in: call.Call{Op: store.OpSaveThread, Thread: changed}}
		do(write, load(1, old), load(1, old))
		c := &check{stacks: make([]func(store.Store) store.Store, 1)}
		if v := h.check(c); v != nil {
			t.Errorf("reads before a write takes effect: %s", v.why)
		}
		// Two reads overlap the commit: the first sees it, the second does not.
		h = newHistory(scenario{})
		do(event{in: call.Call{Op: store.OpSaveThread, Thread: old}})
		w, long := event{in: write.in}, load(2, old)
		h.begin(&w)
		h.begin(&long) // spans the commit
		h.committed(t.Context(), w.in)
		do(load(1, changed))
		do(load(1, old))
		h.end(&long, long.out, known)
		h.end(&w, call.Answer{}, known)
		if v := h.check(c); v == nil {
			t.Error("a read that goes back in time was accepted")
		}
	})
}

func TestAViolationIsReportedAsAShortList(t *testing.T) {
	v := found(t, naive{}.wrap)
	if v == nil {
		t.Fatal("no history reveals it")
	}
	text := v.report(t)
	for _, want := range []string{"did not hold", "committed: ", fmt.Sprintf("linear.WithReplay(%q, %d)", v.scenario, v.seed), "> "} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if n := len(v.history.events); n > 40 {
		t.Errorf("%d calls are left, want a short list:\n%s", n, text)
	}
}

// The seed determines a history, so a fault shows again.
func TestTheSameSeedIsTheSameHistory(t *testing.T) {
	text := func(s scenario, seed uint64) string {
		c := check{stacks: []func(store.Store) store.Store{naive{dropBefore: true, dropAfter: true}.wrap}}
		var lines []string
		for _, e := range c.run(t, s, seed, s.whole()).inOrder() {
			// Leave out the numbers, because events of one instant have no order.
			lines = append(lines, fmt.Sprintf("%v %v %d %s", e.callAt, e.retAt, e.client, e.what()))
		}
		return strings.Join(lines, "\n")
	}
	for _, s := range scenarios {
		for seed := range uint64(20) {
			if a, b := text(s, seed), text(s, seed); a != b {
				t.Fatalf("%s %d:\n%s\n\nand then\n\n%s", s.name, seed, a, b)
			}
		}
	}
	if text(scenarios[0], 1) == text(scenarios[0], 2) {
		t.Error("two seeds gave the same history")
	}
}

func TestAFloorThatIsNotReachedFails(t *testing.T) {
	short := (&Coverage{Hits: 10, Joined: 3}).below(Coverage{Hits: 11, Joined: 3, Late: 1})
	if !slices.Equal(short, []string{"Hits is 10, want at least 11", "Late is 0, want at least 1"}) {
		t.Errorf("%q", short)
	}
}

// Without faults, the simulated base must be a correct Store.
func TestTheSimulatedBaseConforms(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		b := newBase(newHistory(scenario{}), &scenario{}, 0, true)
		b.prompt = true
		return b
	}, storetest.WithVersionsRequired())
}

// A layer that drops a condition overwrites what its caller has not read.
func TestFindsWritesThatLoseTheirCondition(t *testing.T) {
	for _, op := range []store.Op{store.OpSaveThread, store.OpAddThreadItem, store.OpSaveItem, store.OpDeleteThreadItem} {
		v := found(t, bent(op, func(ctx context.Context, c call.Call, base store.Store) call.Answer {
			return c.Make(callctx.With(ctx, func(d *callctx.Data) { d.If = callctx.Condition{} }), base)
		}))
		if v == nil {
			t.Errorf("%s: no history reveals it", op)
		} else if v.event == nil || v.event.in.Op != op || v.event.in.IfThread == "" {
			t.Errorf("%s: found %v", op, v.event)
		}
	}
}
