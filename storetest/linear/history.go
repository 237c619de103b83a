package linear

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/spec"
)

// history is what clients observed of one thread, and a log of the states of the base. Begins, ends and commits are numbered
// in one sequence.
type history struct {
	start    time.Time
	scenario scenario

	mu     sync.Mutex
	seq    int64
	events []*event
	log    []state
	reads  []int64 // reads of the base
	cover  Coverage
}

// state is the thread in the base from seq on.
type state struct {
	seq  int64
	at   time.Duration
	spec spec.Thread
	by   *event // the call that led to this state; nil for the first state
}

// event is one call of a client.
type event struct {
	client int
	via    int // index of the stack, or pastStacks for the base
	in     call.Call

	call, ret     int64
	callAt, retAt time.Duration
	out           call.Answer
	kind          eventKind
	left          bool   // the caller left before the answer
	panicked      string // text of a panic that did not come from the base
}

const pastStacks = -1

type eventKind uint8

const (
	known   eventKind = iota // has an answer
	unknown                  // a write that may or may not take effect, now or later
	void                     // has no answer and no effect
)

func newHistory(s scenario) *history {
	h := &history{start: time.Now(), scenario: s}
	h.log = []state{{}}
	return h
}

func (h *history) now() time.Duration { return time.Since(h.start) }

// next returns the next number. h.mu must be held.
func (h *history) next() int64 {
	h.seq++
	return h.seq
}

func (h *history) begin(e *event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.call, e.callAt = h.next(), h.now()
	h.events = append(h.events, e)
}

func (h *history) end(e *event, a call.Answer, k eventKind) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.left {
		h.cover.Cancelled++
	}
	e.ret, e.retAt = h.next(), h.now()
	e.out, e.kind = a, k
}

func (h *history) baseRead() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads = append(h.reads, h.next())
}

type eventKey struct{}

// committed logs the effect of a write.
func (h *history) committed(ctx context.Context, c call.Call) {
	by, _ := ctx.Value(eventKey{}).(*event)
	h.mu.Lock()
	defer h.mu.Unlock()
	after, _ := h.log[len(h.log)-1].spec.Play(c)
	h.log = append(h.log, state{seq: h.next(), at: h.now(), spec: after, by: by})
	if by != nil && by.ret != 0 {
		h.cover.Late++
	}
}

func (h *history) inOrder() []*event {
	return slices.SortedFunc(slices.Values(h.events), func(a, b *event) int { return cmp.Compare(a.call, b.call) })
}

// check returns a violation if the history breaks a promise.
func (h *history) check(c *check) *violation {
	for _, e := range h.inOrder() {
		if why := h.wrong(e, c.stale); why != "" {
			return &violation{history: h, event: e, why: why}
		}
	}
	if c.stale > 0 || len(c.stacks) > 1 {
		return nil
	}
	switch porcupine.CheckOperationsTimeout(threadModel, h.operations(), time.Minute) {
	case porcupine.Illegal:
		return &violation{history: h, why: "porcupine reports that the history is not linearizable."}
	case porcupine.Unknown:
		return &violation{history: h, undecided: true, why: "porcupine could not decide within a minute whether the history is linearizable."}
	}
	return nil
}

// wrong returns the fault of one event, regardless of the others, or "".
func (h *history) wrong(e *event, stale time.Duration) string {
	lossy := h.scenario.lostReads > 0 // a guard reads before it writes
	if e.in.Op.IsWrite() {
		lossy = lossy || h.scenario.lostWrites > 0
	}
	switch {
	case e.panicked != "":
		return fmt.Sprintf("A call panicked, but the base did not: %s", e.panicked)
	case e.kind != known && !e.left && !lossy:
		return "A call failed, but its caller had not left and the base had not failed."
	case e.kind != known:
		return ""
	case e.in.Op.IsWrite() && !h.wrote(e, stale):
		return "A write has an answer, but it did not take effect exactly once, between its begin and its end, in a state that allows it."
	case !e.in.Op.IsWrite() && !h.held(e, stale):
		return fmt.Sprintf("A read returned rows that the base did not hold at any time from its begin to its end%s. The base held:\n%s",
			since(stale), h.couldBe(e, stale))
	}
	return ""
}

// wrote reports whether the log agrees with the answer of a write: there is one commit within its interval, or a state that
// the write would not have changed.
func (h *history) wrote(e *event, stale time.Duration) bool {
	commits, within := 0, false
	for i, s := range h.log {
		if s.by == e {
			commits++
			_, want := h.log[i-1].spec.Play(e.in)
			within = s.seq > e.call && s.seq < e.ret && want.Code == store.CodeOK
		}
	}
	if commits > 0 {
		return commits == 1 && within && e.out.Code == store.CodeOK
	}
	for i, s := range h.log {
		if h.overlaps(i, e, stale) {
			_, want := s.spec.Play(e.in)
			if want.Equal(e.out) && (want.Code != store.CodeOK || !s.spec.Changes(e.in)) {
				return true
			}
		}
	}
	return false
}

func since(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(", nor %v before", d)
}

// held reports whether the base would have given the answer of e at some instant between its begin, minus stale, and its
// end.
func (h *history) held(e *event, stale time.Duration) bool {
	for i := range h.log {
		if h.overlaps(i, e, stale) {
			if _, want := h.log[i].spec.Play(e.in); want.Equal(e.out) {
				return true
			}
		}
	}
	return false
}

// overlaps reports whether the answer of e may show the i-th state.
func (h *history) overlaps(i int, e *event, stale time.Duration) bool {
	s := h.log[i]
	if s.seq > e.ret {
		return false
	}
	if i+1 == len(h.log) {
		return true
	}
	end := h.log[i+1]
	if end.seq > e.call || !e.in.Fresh && stale > 0 && end.at >= e.callAt-stale {
		return true
	}
	if e.in.Fresh || e.via == pastStacks {
		return false
	}
	// A stack may miss the writes of other stacks until they return.
	for _, s := range h.log[i+1:] {
		if s.seq > e.call {
			break
		}
		if s.by == nil || s.by.via == e.via || s.by.ret < e.call {
			return false
		}
	}
	return true
}

// couldBe lists the answers that e could have had.
func (h *history) couldBe(e *event, stale time.Duration) string {
	text := ""
	for i := range h.log {
		if h.overlaps(i, e, stale) {
			_, want := h.log[i].spec.Play(e.in)
			text += fmt.Sprintf("  from %d on: %s\n", h.log[i].seq, want)
		}
	}
	return text
}

// threadModel is the contract as a model for porcupine.
var threadModel = porcupine.Model{
	Init: func() any { return spec.Thread{} },
	Step: func(s, in, out any) (bool, any) {
		e := in.(*event)
		after, want := s.(spec.Thread).Play(e.in)
		return e.kind == unknown || want.Equal(e.out), after
	},
	Equal: func(a, b any) bool { return a.(spec.Thread).Equal(b.(spec.Thread)) },
	Hash:  func(s any) uint64 { return s.(spec.Thread).Hash() },
	DescribeOperation: func(in, out any) string {
		return in.(*event).what()
	},
	DescribeState: func(s any) string { return s.(spec.Thread).String() },
}

// operations returns the history for porcupine. A write with an unknown outcome ends at the end of the history: it may take
// effect at any time until then, or after all reads, which equals never.
func (h *history) operations() []porcupine.Operation {
	var ops []porcupine.Operation
	for _, e := range h.events {
		if e.kind == void {
			continue
		}
		op := porcupine.Operation{ClientId: e.client, Input: e, Call: e.call, Output: e.out, Return: e.ret}
		if e.kind == unknown {
			op.Return = h.seq + 1
		}
		ops = append(ops, op)
	}
	return ops
}

func (h *history) visualize(t *testing.T) string {
	_, info := porcupine.CheckOperationsVerbose(threadModel, h.operations(), 5*time.Second)
	path := filepath.Join(t.ArtifactDir(), "history.html")
	if err := porcupine.VisualizePath(threadModel, info, path); err != nil {
		t.Logf("no picture of the history: %v", err)
		return ""
	}
	return path
}

// coverage counts what the history tried.
func (h *history) coverage() Coverage {
	c := h.cover
	c.Histories = 1
	for _, e := range h.events {
		if e.kind == unknown {
			c.Unknown++
		}
		if e.kind == known && e.in.IfThread != "" && e.out.Code == store.CodeOK {
			c.Conditional++
		}
		if e.via == pastStacks || e.in.Op.IsWrite() || e.kind != known {
			continue
		}
		c.Reads++
		i, _ := slices.BinarySearch(h.reads, e.call)
		if i < len(h.reads) && h.reads[i] < e.ret {
			continue
		}
		c.Hits++
		if i > 0 {
			if _, was := h.at(h.reads[i-1]).Play(e.in); !was.Equal(e.out) {
				c.PatchedHits++
			}
		}
	}
	return c
}

// at returns the state at seq.
func (h *history) at(seq int64) spec.Thread {
	i := len(h.log) - 1
	for h.log[i].seq > seq {
		i--
	}
	return h.log[i].spec
}

func (e *event) String() string {
	via := fmt.Sprintf("stack %d", e.via)
	if e.via == pastStacks {
		via = "base"
	}
	return fmt.Sprintf("%3d-%3d  %8v to %8v  client %d, %s: %s", e.call, e.ret, e.callAt.Round(time.Microsecond),
		e.retAt.Round(time.Microsecond), e.client, via, e.what())
}

// what returns the call and its result.
func (e *event) what() string {
	came := e.in.Came(e.out)
	if e.kind == unknown {
		came += ", outcome unknown"
	}
	return fmt.Sprintf("%s -> %s", e.in, came)
}
