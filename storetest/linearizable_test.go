package storetest

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

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// found runs the histories until one breaks a promise.
func found(t *testing.T, newStack func(store.Store) store.Store, opts ...LinearizableOption) *violation {
	t.Helper()
	c := linearizable{stacks: []func(store.Store) store.Store{newStack}, histories: 100}
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
	Linearizable(t, passThrough, AtLeast(Coverage{Reads: 20_000, Late: 50, Cancelled: 300}))
}

// naive is a cache as one would write it in ten minutes. Its parts can be mended one by one.
type naive struct {
	store.Store
	dropBefore, dropAfter bool
	perKey                bool // a write drops the rows it names, and not what they are part of
	refuseFill            bool // a load during which something was written is not kept

	mu      sync.Mutex
	threads map[string]chat.Thread
	items   map[[2]string]chat.Item
	pages   map[string]store.Page[chat.Item]
	gen     int
}

func (n *naive) wrap(base store.Store) store.Store {
	return &naive{Store: base, dropBefore: n.dropBefore, dropAfter: n.dropAfter, perKey: n.perKey, refuseFill: n.refuseFill,
		threads: map[string]chat.Thread{}, items: map[[2]string]chat.Item{}, pages: map[string]store.Page[chat.Item]{}}
}

func through2[K comparable, V any](n *naive, m map[K]V, k K, load func() (V, error)) (V, error) {
	n.mu.Lock()
	v, ok := m[k]
	gen := n.gen
	n.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := load()
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil && (!n.refuseFill || gen == n.gen) {
		m[k] = v
	}
	return v, err
}

func (n *naive) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return through2(n, n.threads, id, func() (chat.Thread, error) { return n.Store.LoadThread(ctx, id) })
}

func (n *naive) LoadItem(ctx context.Context, threadID, id string) (chat.Item, error) {
	return through2(n, n.items, [2]string{threadID, id}, func() (chat.Item, error) { return n.Store.LoadItem(ctx, threadID, id) })
}

func (n *naive) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	return through2(n, n.pages, fmt.Sprint(threadID, q), func() (store.Page[chat.Item], error) {
		return n.Store.LoadThreadItems(ctx, threadID, q)
	})
}

func (n *naive) drop(threadID, itemID string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gen++
	delete(n.threads, threadID)
	delete(n.items, [2]string{threadID, itemID})
	if !n.perKey {
		clear(n.items)
		clear(n.pages)
	}
}

func (n *naive) write(threadID, itemID string, call func() error) error {
	if n.dropBefore {
		n.drop(threadID, itemID)
	}
	if n.dropAfter {
		defer n.drop(threadID, itemID)
	}
	return call()
}

func (n *naive) SaveThread(ctx context.Context, t chat.Thread) error {
	return n.write(t.ID, "", func() error { return n.Store.SaveThread(ctx, t) })
}

func (n *naive) DeleteThread(ctx context.Context, id string) error {
	return n.write(id, "", func() error { return n.Store.DeleteThread(ctx, id) })
}

func (n *naive) AddThreadItem(ctx context.Context, threadID string, it chat.Item) error {
	return n.write(threadID, it.ID, func() error { return n.Store.AddThreadItem(ctx, threadID, it) })
}

func (n *naive) SaveItem(ctx context.Context, threadID string, it chat.Item) error {
	return n.write(threadID, it.ID, func() error { return n.Store.SaveItem(ctx, threadID, it) })
}

func (n *naive) DeleteThreadItem(ctx context.Context, threadID, id string) error {
	return n.write(threadID, id, func() error { return n.Store.DeleteThreadItem(ctx, threadID, id) })
}

func TestLinearizableFindsWhatNaiveCachesDo(t *testing.T) {
	for name, n := range map[string]*naive{
		"never drops":                       {},
		"drops before the write only":       {dropBefore: true},
		"drops after the write only":        {dropAfter: true, refuseFill: true},
		"drops before and after, but fills": {dropBefore: true, dropAfter: true},
		"drops the rows it names":           {dropBefore: true, dropAfter: true, refuseFill: true, perKey: true},
		"forgets writes that come late":     {dropBefore: true, dropAfter: true, refuseFill: true},
	} {
		t.Run(name, func(t *testing.T) {
			if found(t, n.wrap) == nil {
				t.Error("no history shows it")
			}
		})
	}
}

// bent is a base with some calls of another kind.
type bent struct {
	store.Store
	load func(ctx context.Context, id string) (chat.Thread, error)
	add  func(ctx context.Context, threadID string, it chat.Item) error
}

func (b *bent) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	if b.load == nil {
		return b.Store.LoadThread(ctx, id)
	}
	return b.load(ctx, id)
}

func (b *bent) AddThreadItem(ctx context.Context, threadID string, it chat.Item) error {
	if b.add == nil {
		return b.Store.AddThreadItem(ctx, threadID, it)
	}
	return b.add(ctx, threadID, it)
}

// What a stack may not answer, also where porcupine is not asked: beside another stack, and where reads may be stale.
func TestLinearizableFindsAnswersThatAreNot(t *testing.T) {
	for name, bend := range map[string]func(b *bent, base store.Store){
		"reads that always fail": func(b *bent, base store.Store) {
			b.load = func(context.Context, string) (chat.Thread, error) { return chat.Thread{}, store.ErrUnavailable }
		},
		"callers who never left are told that they have": func(b *bent, base store.Store) {
			var n atomic.Int64
			b.load = func(ctx context.Context, id string) (chat.Thread, error) {
				if n.Add(1)%3 == 0 {
					return chat.Thread{}, context.Canceled
				}
				return base.LoadThread(ctx, id)
			}
		},
		"a panic of the stack's own": func(b *bent, base store.Store) {
			b.load = func(context.Context, string) (chat.Thread, error) { panic("mine") }
		},
		"writes that are swallowed": func(b *bent, base store.Store) {
			b.add = func(context.Context, string, chat.Item) error { return nil }
		},
		"writes that take effect after they have returned": func(b *bent, base store.Store) {
			b.add = func(ctx context.Context, threadID string, it chat.Item) error {
				go func() {
					defer func() { _ = recover() }()
					_ = base.AddThreadItem(context.WithoutCancel(ctx), threadID, it)
				}()
				return nil
			}
		},
		"writes that are refused after they have taken effect": func(b *bent, base store.Store) {
			b.add = func(ctx context.Context, threadID string, it chat.Item) error {
				if err := base.AddThreadItem(ctx, threadID, it); err != nil {
					return err
				}
				return store.ErrConflict
			}
		},
		"writes that are made twice": func(b *bent, base store.Store) {
			b.add = func(ctx context.Context, threadID string, it chat.Item) error {
				err := base.AddThreadItem(ctx, threadID, it)
				if err == nil {
					_ = base.SaveItem(ctx, threadID, it)
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			stack := func(base store.Store) store.Store {
				b := &bent{Store: base}
				bend(b, base)
				return b
			}
			for _, opts := range [][]LinearizableOption{nil, {Beside(passThrough)}, {StaleBy(time.Millisecond)}} {
				if found(t, stack, append(opts, Histories(20))...) == nil {
					t.Errorf("no history shows it, with %d options", len(opts))
				}
			}
		})
	}
}

// A write of one's own shows what came before it: it is no longer under way, whoever it was that began it.
func TestBesideAnothersWriteUnderOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(scenario{})
		save := func(via int, title string) *event {
			return &event{via: via, in: command{op: store.OpSaveThread, thread: newThread(title, 0)}}
		}
		do := func(e *event) {
			h.begin(e)
			h.committed(context.WithValue(t.Context(), eventKey{}, e), e.in)
		}
		first, others, own := save(0, "first"), save(1, "another's"), save(0, "one's own")
		do(first)
		h.end(first, answer{}, known)
		do(others) // does not return
		do(own)
		h.end(own, answer{}, known)
		read := &event{in: command{op: store.OpLoadThread, thread: chat.Thread{ID: simThread}}, out: answer{thread: newThread("first", 0)}}
		h.begin(read)
		h.end(read, read.out, known)
		h.end(others, answer{}, known)
		if h.check(&linearizable{stacks: make([]func(store.Store) store.Store, 2)}) == nil {
			t.Error("a read from before one's own write was let through")
		}
	})
}

// joining shares any call for the same thread that is under way.
type joining struct {
	store.Store
	mu    sync.Mutex
	calls map[string]*joined
}

type joined struct {
	done chan struct{}
	t    chat.Thread
	err  error
}

func (j *joining) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	j.mu.Lock()
	c, ok := j.calls[id]
	if !ok {
		c = &joined{done: make(chan struct{})}
		j.calls[id] = c
		go func() {
			defer func() {
				if p := recover(); p != nil {
					c.err = errLost
				}
				j.mu.Lock()
				delete(j.calls, id)
				j.mu.Unlock()
				close(c.done)
			}()
			c.t, c.err = j.Store.LoadThread(context.WithoutCancel(ctx), id)
		}()
	}
	j.mu.Unlock()
	<-c.done
	return c.t, c.err
}

func TestLinearizableFindsFlightsThatAreJoinedAcrossAWrite(t *testing.T) {
	v := found(t, func(base store.Store) store.Store { return &joining{Store: base, calls: map[string]*joined{}} })
	if v == nil {
		t.Fatal("no history shows it")
	}
	if v.event == nil || v.event.in.op != store.OpLoadThread {
		t.Errorf("found %v, want a load of the thread", v.event)
	}
}

// lagging answers LoadThread a while after it looked: linearizable for porcupine as long as nobody saw the newer thread
// meanwhile, and yet not what the base held.
type lagging struct {
	store.Store
	mu   sync.Mutex
	last chat.Thread
	at   time.Time
}

func (l *lagging) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	if id == simThread {
		l.mu.Lock()
		last, at := l.last, l.at
		l.mu.Unlock()
		if last.ID != "" && time.Since(at) < 20*time.Microsecond {
			return last, nil
		}
	}
	t, err := l.Store.LoadThread(ctx, id)
	if err == nil && id == simThread {
		l.mu.Lock()
		l.last, l.at = t, time.Now()
		l.mu.Unlock()
	}
	return t, err
}

// The log of the base shows what porcupine alone lets through.
func TestLinearizableFindsWhatNobodyCouldNotice(t *testing.T) {
	lag := func(base store.Store) store.Store { return &lagging{Store: base} }
	v := found(t, lag, Histories(300))
	if v == nil {
		t.Fatal("no history shows it")
	}
	if v.event == nil {
		t.Error("it was porcupine that found it")
	}
	if found(t, lag, Histories(30), StaleBy(time.Millisecond)) != nil {
		t.Error("what is allowed to be stale is not")
	}
}

// A history in which every read is what the base held at some instant, and which cannot be put into one order: porcupine's to
// find. (Two reads of one client, the second older than the first, during one write.)
func TestLinearizableFindsReadsThatGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistory(scenario{})
		call := func(e event, during ...event) {
			h.begin(&e)
			for _, d := range during {
				h.begin(&d)
				h.end(&d, d.out, known)
			}
			if e.in.op.IsWrite() {
				h.committed(context.WithValue(t.Context(), eventKey{}, &e), e.in)
			}
			h.end(&e, e.out, known)
		}
		old, changed := newThread("old", 0), newThread("changed", 0)
		load := func(client int, title chat.Thread) event {
			return event{client: client, in: command{op: store.OpLoadThread, thread: chat.Thread{ID: simThread}}, out: answer{thread: title}}
		}
		call(event{in: command{op: store.OpSaveThread, thread: old}})
		write := event{in: command{op: store.OpSaveThread, thread: changed}}
		call(write, load(1, old), load(1, old))
		c := &linearizable{stacks: make([]func(store.Store) store.Store, 1)}
		if v := h.check(c); v != nil {
			t.Errorf("reads before a write takes effect: %s", v.why)
		}
		// Two reads that overlap the commit: the first sees it, the second does not.
		h2 := newHistory(scenario{})
		first := event{in: command{op: store.OpSaveThread, thread: old}}
		h2.begin(&first)
		h2.committed(t.Context(), first.in)
		h2.end(&first, answer{}, known)
		w, long := event{client: 0, in: write.in}, load(2, old)
		h2.begin(&w)
		h2.begin(&long) // spans the commit
		h2.committed(t.Context(), w.in)
		seen := load(1, changed)
		h2.begin(&seen)
		h2.end(&seen, seen.out, known)
		later := load(1, old)
		h2.begin(&later)
		h2.end(&later, later.out, known)
		h2.end(&long, long.out, known)
		h2.end(&w, answer{}, known)
		if v := h2.check(c); v == nil {
			t.Error("a read that goes back was let through")
		}
	})
}

func TestAViolationIsReportedAsAShortList(t *testing.T) {
	v := found(t, (&naive{}).wrap)
	if v == nil {
		t.Fatal("no history shows it")
	}
	text := v.report(t)
	for _, want := range []string{"did not hold", "committed: ", fmt.Sprintf("storetest.Replay(%q, %d)", v.scenario, v.seed), "> "} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if n := len(v.history.events); n > 40 {
		t.Errorf("%d calls are left of it, want a short list:\n%s", n, text)
	}
}

// The seed is all there is: a history that shows a fault shows it again.
func TestTheSameSeedIsTheSameHistory(t *testing.T) {
	text := func(s scenario, seed uint64) string {
		c := linearizable{stacks: []func(store.Store) store.Store{(&naive{dropBefore: true, dropAfter: true}).wrap}}
		var lines []string
		for _, e := range c.run(t, s, seed, s.whole()).inOrder() {
			// But for the numbers: two things of one instant are in no order.
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
		t.Error("two seeds are one history")
	}
}

func TestAFloorThatIsNotReachedFails(t *testing.T) {
	short := (&Coverage{Hits: 10, Joined: 3}).below(Coverage{Hits: 11, Joined: 3, Late: 1})
	if !slices.Equal(short, []string{"Hits is 10, want at least 11", "Late is 0, want at least 1"}) {
		t.Errorf("%q", short)
	}
}

// What is simulated must be a Store too, when it is left in peace.
func TestTheSimulatedBaseConforms(t *testing.T) {
	open := func(*testing.T) store.Store {
		return &simBase{h: newHistory(scenario{}), prompt: true, versions: true, Store: memstore.New()}
	}
	Run(t, open, RequireVersions())
}
