// Package linear checks that reads through a stack of layers are never stale. A read that begins after a write has returned
// must see that write. This holds for every way to read the thread, and next to readers that use the base directly. Every
// read must equal a state of the base at some instant between the read's begin and end. Use it for a layer that caches or
// shares reads. For a store alone, use storetest.Run.
//
//	func TestMyCacheIsLinearizable(t *testing.T) {
//		linear.Run(t, mycache.New(), linear.WithFloor(linear.Coverage{Hits: 1000}))
//	}
//
// In a history, a few clients read and write one thread concurrently: by LoadThread, LoadItem and pages of all shapes, and
// by every write. Some writes are made under [store.IfVersion]. There are several scenarios. With all faults in one
// scenario, caches would hardly ever be hit:
//
//	hot          mostly reads, so that cached entries live long and are patched
//	contended    mostly writes, which overlap
//	unknown      writes that fail or panic, and took effect, take effect later, or never do
//	late         the same, during reads that overlap the effect
//	cancelled    callers that leave or time out
//	crowded      other threads that compete for space in the cache
//	failing      reads of the base that fail or panic
//
// Each history runs in a bubble of [testing/synctest]. All its times are virtual and drawn from one seed. Thousands of
// histories take a minute. A failing history is shortened while it still fails, and is printed as a list of calls.
// [WithReplay] runs it alone. It fails again unless a layer draws random numbers itself, for example for the jitter of a
// TTL.
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

// Run runs histories through the stack. It calls newStack, a [store.Middleware], at the beginning of each history with an
// empty, slow base. At the end it closes the stack with [store.Close]. All calls are made as one principal, who owns the
// thread, so a guarded stack passes as well. The base is a [driver.VersionReader]. A stack that needs random numbers, such as
// one with a bus that loses messages, can take its seed from the base's method Seed() uint64.
//
// Two checkers look at each history. The first compares every read with the log of the base's states. The second gives the
// whole history to porcupine, a linearizability checker, which knows only the clients' calls and answers. It checks them
// across all keys of the thread. A call may fail only if the base failed or the caller left. A write that succeeds must take
// effect exactly once, before it returns; a refused write must not. A write under [store.IfVersion] must take effect at that
// version. For stacks that promise less, see [WithStaleBy] and
// [WithBeside].
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
		t.Errorf("too few calls to prove anything: %s: give the stack larger bounds, or run more histories (linear.WithHistories)", short)
	}
}

// Option configures [Run].
type Option func(*check)

// WithHistories sets the number of histories per scenario; the default is 100. It does not change the floor.
func WithHistories(n int) Option { return func(c *check) { c.histories = n } }

// WithReplay runs one history alone. A failure message has its scenario and seed.
func WithReplay(scenario string, seed uint64) Option {
	return func(c *check) { c.replay, c.seed, c.histories = scenario, seed, 1 }
}

// WithBeside adds stacks that stand for other processes over the same base. Each history makes them after the first stack,
// in order, and spreads its clients over all stacks. A stack may learn of another stack's write only when that write
// returns. So a read may also equal a state of the base before such a write, if the write had not returned when the read
// began. WithBeside turns porcupine off.
func WithBeside(newStack ...func(base store.Store) store.Store) Option {
	return func(c *check) { c.stacks = append(c.stacks, newStack...) }
}

// WithStaleBy allows reads to be stale by up to d: each must equal a state of the base at some instant from d before its
// begin until its end. Reads with [store.WithFresh] must not be stale. Clients make longer pauses, so that a history lasts a
// few d. WithStaleBy turns porcupine off.
func WithStaleBy(d time.Duration) Option { return func(c *check) { c.stale = d } }

// WithoutVersions makes the base report no thread versions ([driver.ReportVersion]).
func WithoutVersions() Option { return func(c *check) { c.unversioned = true } }

// WithFloor fails the test if a count over all scenarios is less than the one in floor. A check of a cache that is never hit
// proves nothing.
func WithFloor(floor Coverage) Option { return func(c *check) { c.floor = floor } }

// Coverage counts what the histories of [Run] tried.
type Coverage struct {
	Histories   int // histories that ran
	Reads       int // reads through a stack that were answered
	Hits        int // reads during which the base was not read
	PatchedHits int // hits on rows that a write changed since the last read of the base
	Joined      int // reads that joined a shared load (chatstore_flights_total, role follower)
	Evictions   int // evictions for lack of space (chatstore_cache_evictions_total, reasons entries and bytes)
	Unknown     int // writes with an unknown outcome
	Late        int // writes among these that took effect after they had returned
	Cancelled   int // calls whose caller left
	Conditional int // writes under store.IfVersion that took effect
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
		{"Joined", &c.Joined}, {"Evictions", &c.Evictions}, {"Unknown", &c.Unknown}, {"Late", &c.Late}, {"Cancelled", &c.Cancelled}, {"Conditional", &c.Conditional}}
}

// below returns the counts that are less than those of floor.
func (c *Coverage) below(floor Coverage) (short []string) {
	for i, want := range floor.counts() {
		if got := c.counts()[i]; *got.n < *want.n {
			short = append(short, fmt.Sprintf("%s is %d, want at least %d", want.name, *got.n, *want.n))
		}
	}
	return short
}

// check is the options of a Run.
type check struct {
	stacks      []func(store.Store) store.Store
	histories   int
	replay      string
	seed        uint64
	stale       time.Duration
	unversioned bool
	floor       Coverage
}

// search runs the histories of a scenario until one breaks a promise. It returns that history, shortened.
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

// shorten looks for a shorter history that still fails. Each client makes only its first calls.
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
	event     *event // the wrong event; nil if only the whole history is wrong
	why       string
	undecided bool
}

func (v *violation) report(t *testing.T) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nThe history in the order of begins, with the commits of the base. Run it alone with linear.WithReplay(%q, %d).\n", v.why, v.scenario, v.seed)
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
			fmt.Fprintf(&b, "\nA picture of the history is in %s (kept with go test -artifacts).\n", path)
		}
	}
	return report.Printable(b.String())
}
