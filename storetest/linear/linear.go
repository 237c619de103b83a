// Package linear checks that reads through a stack of layers are never older than they may be. A read that begins after a write
// has returned must see it, whichever way the thread is read, and also next to readers that go past the layers. Every read must
// equal what the base held at some instant between the read's begin and end. Use it for a layer that holds or shares what it
// reads. For a store by itself, use storetest.Run.
//
//	func TestMyCacheIsLinearizable(t *testing.T) {
//		linear.Run(t, mycache.New(), linear.WithFloor(linear.Coverage{Hits: 1000}))
//	}
//
// A history is a few clients who read and write one thread at the same time: by LoadThread, LoadItem and pages of all
// shapes, and by every write. There are several scenarios, because one that had every fault at once would see almost nothing
// cached:
//
//	hot          mostly reads: what is held has to be kept true by patches
//	contended    mostly writes, in each other's way
//	unknown      writes that fail, or panic, and have taken effect, take it later, or never do
//	late         the same, among reads that are under way when a write takes effect
//	cancelled    callers that leave, or whose time is up
//	crowded      other threads that want the same room
//	failing      reads of the base that fail or panic
//
// Each history runs in a bubble of [testing/synctest] and draws all its times, which are virtual, from one seed. Thousands take a
// minute. A history that fails is made shorter while it still fails, and is printed as a list of calls. [WithReplay] runs it
// alone. It fails again, unless a layer draws random numbers itself, such as for the jitter of a TTL.
package linear

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/report"
)

// Run runs histories through the stack. newStack is a [store.Middleware]: it is called at the beginning of each history, with a
// base that is empty and slow. The stack is closed at its end, with [store.Close]. All calls are made as one principal, who owns
// the thread, so a guarded stack passes as well. What has to draw lots beside the history, such as a bus that loses messages,
// finds its seed in the base's method Seed() uint64.
//
// Two checkers look at each history. The first compares every read with the log of what the base held. The second gives the
// whole history, across all keys of the thread, to porcupine, which knows only what clients saw. Calls must not fail either,
// unless the base did or the caller had left, and a write that was answered must have taken effect once, before its answer.
// See [WithStaleBy] and [WithBeside] for stacks that promise less.
func Run(t *testing.T, newStack func(base store.Store) store.Store, opts ...Option) {
	t.Helper()
	c := check{stacks: []func(store.Store) store.Store{newStack}, histories: 100}
	for _, o := range opts {
		o(&c)
	}
	if known := func(s scenario) bool { return s.name == c.replay }; c.replay != "" && !slices.ContainsFunc(scenarios, known) {
		t.Fatalf("linear.WithReplay: there is no scenario %q", c.replay)
	}
	if c.histories < 1 {
		t.Fatalf("linear.WithHistories: %d prove nothing", c.histories)
	}
	var seen Coverage
	for _, s := range scenarios {
		if c.replay != "" && c.replay != s.name {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			v := c.search(t, s, &seen)
			if v != nil {
				t.Error(v.report(t))
			}
		})
	}
	if t.Failed() || c.replay != "" {
		return
	}
	t.Logf("%+v", seen)
	for _, short := range seen.below(c.floor) {
		t.Errorf("the histories tried too little to prove anything: %s: give the stack larger bounds, or run more (linear.WithHistories)", short)
	}
}

// Option changes what [Run] asks for.
type Option func(*check)

// WithHistories sets how many histories are run of each scenario; the default is 100. The floor does not change with it.
func WithHistories(n int) Option { return func(c *check) { c.histories = n } }

// WithReplay runs one history alone: the scenario and the seed are in the message of a failure.
func WithReplay(scenario string, seed uint64) Option {
	return func(c *check) { c.replay, c.seed, c.histories = scenario, seed, 1 }
}

// WithBeside adds stacks that stand for other processes over the same base. They are made in each history after the first stack, in
// order; clients are spread over all of them. A stack hears of another's write when that returns: until then it answers with what
// the write replaces. So a read may also equal what the base held before a write through another stack that had not returned
// at the read's begin. Porcupine is not asked then.
func WithBeside(newStack ...func(base store.Store) store.Store) Option {
	return func(c *check) { c.stacks = append(c.stacks, newStack...) }
}

// WithStaleBy says that reads may be older than linearizable by d: each must equal what the base held at some instant between d
// before its begin and its end. Porcupine is not asked then. [store.WithFresh] must still see the base. Clients take their time, so
// that a history lasts a few d.
func WithStaleBy(d time.Duration) Option { return func(c *check) { c.stale = d } }

// WithoutVersions has the base report no thread versions ([driver.ReportVersion]).
func WithoutVersions() Option { return func(c *check) { c.unversioned = true } }

// WithFloor fails the test if the histories of all scenarios together show less than floor: a check of a cache that was never
// hit proves nothing.
func WithFloor(floor Coverage) Option { return func(c *check) { c.floor = floor } }

// Coverage says how much the histories of [Run] tried.
type Coverage struct {
	Histories   int // that were run
	Reads       int // through a stack, answered
	Hits        int // reads during which nobody read the base
	PatchedHits int // hits on what a write had changed since anybody last read the base
	Joined      int // reads that shared another's (chatstore_flights_total, role follower)
	Evictions   int // for want of room (chatstore_cache_evictions_total, reasons entries and bytes)
	Unknown     int // writes whose caller could not know their outcome
	Late        int // of these, those that took effect after their caller had an answer
	Cancelled   int // calls whose caller left
}

func (c *Coverage) add(d Coverage) {
	for i, n := range d.counts() {
		*c.counts()[i].n += *n.n
	}
}

type count struct {
	name string
	n    *int
}

func (c *Coverage) counts() []count {
	return []count{{"Histories", &c.Histories}, {"Reads", &c.Reads}, {"Hits", &c.Hits}, {"PatchedHits", &c.PatchedHits},
		{"Joined", &c.Joined}, {"Evictions", &c.Evictions}, {"Unknown", &c.Unknown}, {"Late", &c.Late}, {"Cancelled", &c.Cancelled}}
}

// below names the counts that are less than floor's.
func (c *Coverage) below(floor Coverage) (short []string) {
	for i, want := range floor.counts() {
		if got := c.counts()[i]; *got.n < *want.n {
			short = append(short, fmt.Sprintf("%s is %d, want at least %d", want.name, *got.n, *want.n))
		}
	}
	return short
}

// check is what the options say.
type check struct {
	stacks      []func(store.Store) store.Store
	histories   int
	replay      string
	seed        uint64
	stale       time.Duration
	unversioned bool
	floor       Coverage
}

// search runs the histories of a scenario until one breaks a promise, which it returns in its shortest form.
func (c *check) search(t *testing.T, s scenario, seen *Coverage) *violation {
	for i := range c.histories {
		seed := c.seed + uint64(i)
		h := c.run(t, s, seed, s.whole())
		if t.Failed() {
			t.Logf("in the history of linear.WithReplay(%q, %d)", s.name, seed)
			return nil
		}
		seen.add(h.coverage())
		if v := h.check(c); v != nil {
			return c.shorten(t, s, seed, v)
		}
	}
	return nil
}

// shorten looks for a part of a failing history that fails as well: of each client, only its first calls.
func (c *check) shorten(t *testing.T, s scenario, seed uint64, v *violation) *violation {
	v.scenario, v.seed = s.name, seed
	if v.undecided {
		return v
	}
	part := s.whole()
	for client := range part {
		for n := range part[client] {
			shorter := slices.Clone(part)
			shorter[client] = n
			if found := c.run(t, s, seed, shorter).check(c); found != nil {
				part, v = shorter, found
				break
			}
		}
	}
	v.scenario, v.seed = s.name, seed
	return v
}

// violation is a history that breaks a promise.
type violation struct {
	scenario  string
	seed      uint64
	history   *history
	event     *event // that cannot be; nil where only the whole cannot
	why       string
	undecided bool
}

func (v *violation) report(t *testing.T) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nThe history, by begin, and what the base did; run it alone with linear.WithReplay(%q, %d).\n", v.why, v.scenario, v.seed)
	commits := v.history.log[1:]
	upTo := func(seq int64) {
		for len(commits) > 0 && commits[0].seq < seq {
			fmt.Fprintf(&b, "  %3d      committed: %s\n", commits[0].seq, commits[0].spec)
			commits = commits[1:]
		}
	}
	for _, e := range v.history.inOrder() {
		upTo(e.call)
		mark := "  "
		if e == v.event {
			mark = "> "
		}
		fmt.Fprintf(&b, "%s%s\n", mark, e)
	}
	upTo(math.MaxInt64)
	if v.event == nil {
		if path := v.history.visualize(t); path != "" {
			fmt.Fprintf(&b, "\nA picture of it is in %s (kept with go test -artifacts).\n", path)
		}
	}
	return report.Printable(b.String())
}
