package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// scenario is the behaviour of clients and base. Durations are upper bounds.
type scenario struct {
	name       string
	clients    int
	calls      int           // per client
	think      time.Duration // pause between a client's calls
	latency    time.Duration // of the base, in each direction
	writes     float64       // share of all calls
	lostWrites float64       // share of the base's writes whose outcome is unknown
	lostReads  float64       // share of the base's reads that fail
	leaves     float64       // share of all calls whose caller leaves
	others     float64       // share of all calls that use other threads
}

var scenarios = []scenario{
	{name: "hot", clients: 5, calls: 16, think: 800 * time.Microsecond, latency: 60 * time.Microsecond, writes: 0.15},
	{name: "contended", clients: 5, calls: 10, think: 150 * time.Microsecond, latency: 150 * time.Microsecond, writes: 0.45},
	{name: "unknown", clients: 4, calls: 14, think: 1200 * time.Microsecond, latency: 100 * time.Microsecond, writes: 0.25, lostWrites: 0.3},
	{name: "late", clients: 5, calls: 16, think: 200 * time.Microsecond, latency: 150 * time.Microsecond, writes: 0.15, lostWrites: 0.4},
	{name: "cancelled", clients: 5, calls: 12, think: 400 * time.Microsecond, latency: 150 * time.Microsecond, writes: 0.2, leaves: 0.25},
	{name: "crowded", clients: 5, calls: 20, think: 500 * time.Microsecond, latency: 60 * time.Microsecond, writes: 0.2, others: 0.5},
	{name: "failing", clients: 5, calls: 12, think: 400 * time.Microsecond, latency: 100 * time.Microsecond, writes: 0.2, lostReads: 0.25},
}

// excerpt has the number of calls of each client.
type excerpt []int

func (s scenario) whole() excerpt { return slices.Repeat([]int{s.calls}, s.clients) }

// simOwner is the only principal. It owns the thread.
var simOwner = chat.Owner{Tenant: "acme", Subject: "ada"}

const simThread = "thr_main"

// run makes one history.
func (c *check) run(t *testing.T, s scenario, seed uint64, part excerpt) (h *history) {
	t.Helper()
	if c.stale > 0 { // give reads time to become too old
		s.think, s.latency, s.writes = max(s.think, c.stale), max(s.latency, c.stale/6), s.writes/2
	}
	synctest.Test(t, func(t *testing.T) {
		h = newHistory(s)
		base := newBase(h, &s, seed, !c.unversioned)
		stacks := make([]store.Store, len(c.stacks))
		for i, newStack := range c.stacks {
			stacks[i] = newStack(base)
		}
		sim := &simulation{h: h, base: base, stacks: stacks, scenario: s,
			ctx: store.WithPrincipal(t.Context(), store.Principal{Owner: simOwner})}
		sim.play(seed, part)
		for _, s := range stacks {
			h.cover.Joined += int(stat(s, "chatstore_flights_total", "role", "follower"))
			h.cover.Evictions += int(stat(s, "chatstore_cache_evictions_total", "reason", "entries") +
				stat(s, "chatstore_cache_evictions_total", "reason", "bytes"))
		}
		if err := store.Close(stacks...); err != nil {
			t.Errorf("closing the stack: %s", report.Error(err))
		}
	})
	return h
}

// stat sums what the layers of s count under a name and a label.
func stat(s store.Store, name, label, value string) (sum float64) {
	for r := range store.All[layer.StatsReporter](s) {
		for _, st := range r.AppendStats(nil) {
			for _, l := range st.Labels {
				if st.Name == name && l.Name == label && l.Value == value {
					sum += st.Value
				}
			}
		}
	}
	return sum
}

type simulation struct {
	h        *history
	base     *simBase
	stacks   []store.Store
	scenario scenario
	ctx      context.Context
}

// play makes the calls of all clients, waits until none of them can take effect any more, and reads everything once more.
func (m *simulation) play(seed uint64, part excerpt) {
	m.begin(rand.New(rand.NewPCG(seed, 1<<32)))
	done := make(chan struct{})
	for i := range m.scenario.clients {
		client := client{simulation: m, n: i, r: rand.New(rand.NewPCG(seed, uint64(i)))}
		go func() {
			defer func() { done <- struct{}{} }()
			for range part[i] {
				client.step()
			}
		}()
	}
	for range m.scenario.clients {
		<-done
	}
	m.base.lates.Wait()
	time.Sleep(2 * longestWrite) // until quarantines end
	for range 2 {
		for via := range m.stacks {
			m.call(m.ctx, 0, via, call.Call{Op: store.OpLoadThread, Thread: chat.Thread{ID: simThread}})
			for _, q := range []store.PageQuery{{Limit: 2}, {Limit: 20}, {Limit: 20, Order: store.OldestFirst}} {
				m.call(m.ctx, 0, via, call.Call{Op: store.OpLoadThreadItems, Thread: chat.Thread{ID: simThread}, Query: store.ThreadQuery{PageQuery: q}})
			}
		}
	}
}

// begin usually creates the thread and some items.
func (m *simulation) begin(r *rand.Rand) {
	if r.IntN(5) == 0 {
		return
	}
	m.base.prompt = true
	defer func() { m.base.prompt = false }()
	m.call(m.ctx, 0, pastStacks, call.Call{Op: store.OpSaveThread, Thread: newThread("0.0", 0)})
	for i, id := range simItems {
		if r.IntN(2) == 0 {
			in := call.Call{Op: store.OpAddThreadItem, Thread: chat.Thread{ID: simThread}, Item: newItem(id, i/2, "0.0")}
			m.call(m.ctx, 0, pastStacks, in)
		}
	}
}

// call makes a call and records it.
func (m *simulation) call(ctx context.Context, client, via int, c call.Call) {
	e := &event{client: client, via: via, in: c}
	var s store.Store = m.base
	if via != pastStacks {
		s = m.stacks[via]
	}
	m.h.begin(e)
	a, kind := m.attempt(context.WithValue(ctx, eventKey{}, e), c, s, e)
	e.left = ctx.Err() != nil
	m.h.end(e, a, kind)
}

func (m *simulation) attempt(ctx context.Context, c call.Call, s store.Store, e *event) (a call.Answer, kind eventKind) {
	defer func() {
		if p := recover(); p != nil {
			if text := fmt.Sprint(p); !strings.Contains(text, errLost.Error()) {
				e.panicked = text
			}
			a, kind = call.Answer{Code: store.CodePanic}, void
			if c.Op.IsWrite() {
				kind = unknown
			}
		}
	}()
	a = c.Make(c.Context(ctx), s)
	switch {
	case a.Code == store.CodeOK, a.Code == store.CodeNotFound, a.Code == store.CodeConflict:
		return a, known
	case !c.Op.IsWrite(), store.IsDefinite(a.Err):
		return a, void
	}
	return a, unknown
}

// client makes calls, one after the other.
type client struct {
	*simulation
	n    int
	r    *rand.Rand
	made int
	look bool   // the next call reads what this client has just written
	read uint64 // the version that a call of this client reported last
}

func (c *client) step() {
	think := c.scenario.think
	if c.r.IntN(2) == 0 {
		think /= 10
	}
	if c.look {
		think = c.scenario.latency / 4
	}
	time.Sleep(upTo(c.r, think))
	ctx := c.ctx
	if c.r.Float64() < c.scenario.leaves {
		d := upTo(c.r, 3*c.scenario.latency)
		var cancel context.CancelFunc
		if c.r.IntN(2) == 0 {
			ctx, cancel = context.WithTimeout(ctx, d)
		} else {
			ctx, cancel = context.WithCancel(ctx)
			defer time.AfterFunc(d, cancel).Stop()
		}
		defer cancel()
	}
	ctx = callctx.WithVersionRecorder(ctx, func(id string, _, after uint64) {
		if id == simThread {
			c.read = after
		}
	})
	via := c.n % len(c.stacks)
	if c.n == c.scenario.clients-1 { // the last client makes some or all of its calls on the base
		via = pastStacks
		if len(c.stacks) == 1 && c.r.IntN(3) > 0 {
			via = 0
		}
	}
	if c.r.Float64() < c.scenario.others {
		c.other(ctx, via)
		return
	}
	in := c.draw(via)
	c.look = in.Op.IsWrite() && c.r.IntN(2) == 0
	if via != pastStacks && !in.Op.IsWrite() {
		switch c.r.IntN(16) {
		case 0:
			in.Fresh = true
		case 1:
			in.NoStore = true
		}
	}
	c.call(ctx, c.n, via, in)
}

// other makes a call on a thread that has no history.
func (c *client) other(ctx context.Context, via int) {
	if via == pastStacks {
		return
	}
	t := newThread("other", 0)
	t.ID = fmt.Sprintf("thr_other%d", c.r.IntN(8))
	in := call.Call{Op: store.OpSaveThread, Thread: t}
	if c.r.IntN(3) > 0 {
		in.Op = store.OpLoadThread
	}
	c.attempt(ctx, in, c.stacks[via], new(event))
}

// draw draws a call. Past the layers it is a read, because a layer must see every write of its process.
func (c *client) draw(via int) call.Call {
	in := call.Call{Thread: chat.Thread{ID: simThread}}
	id := c.r.IntN(6)
	in.Item.ID = simItems[id]
	if via == pastStacks || c.look || c.r.Float64() >= c.scenario.writes {
		switch n := c.r.IntN(10); {
		case n < 3:
			in.Op = store.OpLoadThread
		case n < 5:
			in.Op = store.OpLoadItem
		default:
			in.Op = store.OpLoadThreadItems
			in.Query.Limit = simLimits[c.r.IntN(len(simLimits))]
			if c.r.IntN(3) == 0 {
				in.Query.Order = store.OldestFirst
			}
			if c.look {
				in.Query.Order = store.NewestFirst // the edge of a cached window
			} else if c.r.IntN(4) == 0 {
				in.Query.After = simItems[id]
			}
		}
		return in
	}
	c.made++
	text := fmt.Sprintf("%d.%d", c.n, c.made)
	second := id / 2 // some items have equal times
	if c.r.IntN(6) == 0 {
		second = c.r.IntN(4)
	}
	if c.r.IntN(8) == 0 {
		in.Mode = store.InsertOnly + store.SaveMode(c.r.IntN(2))
	}
	switch n := c.r.IntN(40); {
	case n < 8:
		in.Op = store.OpSaveThread
		in.Thread = newThread(text, c.r.IntN(2))
		if in.Mode == store.UpdateOnly {
			in.Thread.Owner = chat.Owner{} // keeps the stored owner
		}
	case n < 10:
		in.Op, in.Mode = store.OpDeleteThread, store.Upsert
	case n < 22:
		in.Op, in.Mode = store.OpAddThreadItem, store.Upsert
		in.Item = newItem(simItems[id], second, text)
	case n < 34:
		in.Op = store.OpSaveItem
		in.Item = newItem(simItems[id], second, text)
	default:
		in.Op, in.Mode = store.OpDeleteThreadItem, store.Upsert
	}
	if in.Mode == store.Upsert && c.read > 0 && c.r.IntN(3) == 0 { // a guard answers the other modes without the base
		in.IfThread, in.IfVersion = simThread, c.read
	}
	return in
}

var (
	simItems  = []string{"a", "b", "c", "d", "e", "f"}
	simLimits = []int{1, 2, 2, 3, 3, 4, 20, 20}
)

func newThread(title string, second int) chat.Thread {
	return chat.Thread{ID: simThread, Title: title, CreatedAt: simTime(second), Status: chat.Status{Type: "active"}, Owner: simOwner}
}

func newItem(id string, second int, text string) chat.Item {
	it := rows.Message(id, simTime(second), text)
	it.ThreadID = simThread
	return it
}

func simTime(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC) }
