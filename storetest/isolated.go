package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// Isolated checks that a guarded stack lets nobody learn of what is not theirs, however they ask: noninterference. It plays
// random traces of four principals: ada and bob of one tenant, an ada of another tenant, and root, who has the role "admin" and may
// do everything. What each of the first three observes must be what they observe when the calls of all others are left
// out of the trace, but for those that may change their rows: values, codes, error texts, the edges of pages. Ids are few, and
// everybody asks for everybody's.
//
//	func TestMyPolicyIsolates(t *testing.T) {
//		storetest.Isolated(t, func(base store.Store, g *storetest.Grants) store.Store {
//			return store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"), grants(g))))
//		})
//	}
//
// In mid-trace, owners give others a part in a thread, as viewer or editor, and take it back: g says who has one. What a
// principal observes of a thread while they have a part in it is left out of the comparison: it must then be what the base holds.
//
// Saves under an id that somebody else has used do tell that it is taken. In the traces nobody does that; after each, everybody
// does, and must get ErrConflict and change nothing.
//
// A trace that fails is made shorter, and printed. Sequential calls are all that is checked: what a principal can tell from the
// time that a call takes is not.
func Isolated(t *testing.T, newStack func(base store.Store, g *Grants) store.Store, opts ...IsolatedOption) {
	t.Helper()
	c := newIsolated(newStack, opts)
	for seed := range uint64(c.traces) {
		if !c.check(t, randomTrace(seed)) {
			return
		}
	}
	if c.hostile {
		c.shared = c.traces // are not compared there
	}
	for _, short := range []struct {
		what string
		n    int
	}{
		{"calls compared", c.compared}, {"calls refused as if there were nothing", c.refused},
		{"reads of a thread by somebody who has a part in it", c.shared},
	} {
		if short.n < c.traces/2 {
			t.Errorf("%d traces had %d %s: they prove nothing", c.traces, short.n, short.what)
		}
	}
}

// IsolatedTrace checks one trace, which it reads from data: any data is a trace. It is for fuzz targets.
func IsolatedTrace(t *testing.T, data []byte, newStack func(base store.Store, g *Grants) store.Store, opts ...IsolatedOption) {
	t.Helper()
	newIsolated(newStack, opts).check(t, parseTrace(data))
}

// IsolatedOption changes what [Isolated] asks for.
type IsolatedOption func(*isolated)

// Over sets the base, which is opened anew, and empty, for each play of a trace; the default is a memstore.
func Over(open func() store.Store) IsolatedOption { return func(c *isolated) { c.open = open } }

// OverHostile is [Over] for a base that hands out what was not asked for. A guard then may fail a call with CodeInternal.
func OverHostile(open func() store.Store) IsolatedOption {
	return func(c *isolated) { c.open, c.hostile = open, true }
}

// CountingCalls has the number of calls compared that each call costs the base: for stacks in which nothing is held or shared.
func CountingCalls() IsolatedOption { return func(c *isolated) { c.counting = true } }

// RevokedLate is for stacks that may answer with what a principal was given while they had a part in a thread, such as a cache
// around a guard: what they observe of it afterwards is left out.
func RevokedLate() IsolatedOption { return func(c *isolated) { c.late = true } }

// Traces sets how many traces are played; the default is 200.
func Traces(n int) IsolatedOption { return func(c *isolated) { c.traces = n } }

// Grants says who has a part in whose thread. It is for one goroutine at a time.
type Grants struct{ roles map[grant]string }

type grant struct {
	who    store.Owner
	thread string
}

// Role returns "viewer", "editor", or "" for a principal who has no part in the thread.
func (g *Grants) Role(p store.Principal, threadID string) string {
	return g.roles[grant{p.Owner, threadID}]
}

// The people of the traces.
const (
	ada = iota
	bob
	otherAda
	root
	people
)

var (
	principals = [people]store.Principal{
		{Owner: store.Owner{Tenant: "acme", Subject: "ada"}}, {Owner: store.Owner{Tenant: "acme", Subject: "bob"}},
		{Owner: store.Owner{Tenant: "corp", Subject: "ada"}}, {Owner: store.Owner{Tenant: "acme", Subject: "root"}, Roles: []string{"admin"}},
	}
	peopleNames = [people]string{"ada", "bob", "other ada", "root"}

	// Two threads and an attachment each, but for root.
	traceThreads     = []string{"thr_a1", "thr_a2", "thr_b1", "thr_b2", "thr_o1", "thr_o2"}
	traceAttachments = []string{"atc_a", "atc_b", "atc_o"}
	traceItems       = []string{"msg_1", "msg_2", "msg_3"}
)

// step is one call, or one change of the grants.
type step struct {
	who, thread, item, attachment int
	op                            store.Op // 0: thread's owner gives who role
	role                          string
	mode                          store.SaveMode
	query                         store.ThreadQuery
	n                             int // of the step: what is written
}

const stepBytes = 8

// owner is who the step's thread, or attachment, belongs to; nobody's, for a listing.
func (s step) owner() int {
	switch s.op {
	case store.OpLoadThreads:
		return -1
	case store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment:
		return s.attachment
	}
	return s.thread / 2
}

func (s step) grant() grant { return grant{principals[s.who].Owner, traceThreads[s.thread]} }

func randomTrace(seed uint64) []step {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, (20+r.IntN(60))*stepBytes)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	// Most of the threads are there from the begin.
	for i := range traceThreads {
		if r.IntN(4) > 0 {
			copy(data[i*stepBytes:], []byte{byte(i / 2), byte(i), 0, 0, byte(slices.Index(traceOps, store.OpSaveThread)), 1})
		}
	}
	return parseTrace(data)
}

// traceOps are what a byte of a trace chooses from; 0 is a change of the grants.
var traceOps = append(slices.Clone(store.Ops()), store.OpSaveThread, store.OpAddThreadItem, store.OpAddThreadItem, 0, 0, 0)

// parseTrace makes a trace of any data.
func parseTrace(data []byte) (trace []step) {
	for len(data) >= stepBytes && len(trace) < 100 {
		b := data[:stepBytes]
		data = data[stepBytes:]
		s := step{who: int(b[0]) % people, thread: int(b[1]) % len(traceThreads), item: int(b[2]) % len(traceItems),
			attachment: int(b[3]) % len(traceAttachments), op: traceOps[int(b[4])%len(traceOps)], n: len(trace)}
		if b[5]&1 != 0 && s.who < root { // one's own, half of the time
			s.thread, s.attachment = 2*s.who+s.thread%2, s.who
		}
		s.mode = store.SaveMode(b[5] >> 1 % 4)
		if s.mode > store.UpdateOnly {
			s.mode = store.Upsert
		}
		if s.owner() != s.who { // under another's id: never so that it would take it
			s.mode = store.UpdateOnly
		}
		s.query = traceQuery(b[6], b[7])
		if s.op == 0 {
			s.role = []string{"", "viewer", "editor"}[b[6]%3]
			if s.who == root || s.thread/2 == s.who {
				continue
			}
			trace = append(trace, s)
			s.op, s.n = store.OpLoadThread, len(trace) // at once
		}
		trace = append(trace, s)
	}
	return trace
}

func traceQuery(a, b byte) (q store.ThreadQuery) {
	q.Limit, q.Order = 1+int(a%3), store.Order(a>>2%2)
	if a>>3%4 == 0 {
		cursors := slices.Concat(traceThreads, traceItems, []string{"unknown", "a\nb"})
		q.After = cursors[int(b)%len(cursors)]
	}
	switch b >> 5 {
	case 0, 1, 2:
	case 3:
		q.Owner = store.AnyOwner()
	case 4:
		q.Owner = store.InTenant("acme")
	default:
		q.Owner = store.OwnedBy(principals[int(b)%people].Owner)
	}
	return q
}

// isolated is what the options say, and what was seen.
type isolated struct {
	newStack func(store.Store, *Grants) store.Store
	open     func() store.Store
	hostile  bool
	counting bool
	late     bool
	traces   int

	compared, refused, shared int
}

func newIsolated(newStack func(store.Store, *Grants) store.Store, opts []IsolatedOption) *isolated {
	c := &isolated{newStack: newStack, open: func() store.Store { return memstore.New() }, traces: 200}
	for _, o := range opts {
		o(c)
	}
	return c
}

// check plays a trace, and reports how it shows one principal what is another's. It returns false then.
func (c *isolated) check(t *testing.T, trace []step) bool {
	t.Helper()
	why := c.leak(t, trace)
	if why == "" {
		return true
	}
	for i := 0; i < len(trace); { // leave out what it does not take
		shorter := slices.Delete(slices.Clone(trace), i, i+1)
		if found := c.leak(t, shorter); found != "" {
			trace, why = shorter, found
		} else {
			i++
		}
	}
	t.Errorf("%s\n\nThe whole trace:\n%s", why, traceText(trace, func(step) bool { return true }))
	return false
}

// leak returns what a trace shows to whom it must not, or "".
func (c *isolated) leak(t *testing.T, trace []step) string {
	t.Helper()
	whole := c.play(t, trace)
	if whole.wrong != "" {
		return whole.wrong
	}
	for observer := range root {
		alone := c.play(t, purged(trace, observer))
		seen := observations(whole, observer)
		for i, o := range observations(alone, observer) {
			w := seen[i]
			if w.step.n != o.step.n {
				return "the two plays of the trace went apart"
			}
			if w.excused || c.hostile && w.code == store.CodeInternal {
				continue
			}
			c.compared++
			if w.code == store.CodeNotFound && w.step.owner() != observer {
				c.refused++
			}
			if w.text != o.text || !c.hostile && w.edges != o.edges || c.counting && w.calls != o.calls {
				return fmt.Sprintf("%s can tell what others do, by call %d, %s:\n  with them    %s\n  without them %s",
					peopleNames[observer], w.step.n, w.step, w, o)
			}
		}
	}
	return ""
}

// purged is the trace without what must not matter to the observer: others' calls, but for those that may change the
// observer's rows: root's, and those of whoever has a part in the thread. The observer has no part in others' threads.
func purged(trace []step, observer int) (left []step) {
	roles := map[grant]string{}
	for _, s := range trace {
		mine := s.owner() == observer
		if s.op == 0 {
			if mine {
				roles[s.grant()] = s.role
				left = append(left, s)
			}
			continue
		}
		if s.who == observer || mine && (s.who == root || s.owner() == s.thread/2 && roles[s.grant()] != "" && ofThread(s.op)) {
			left = append(left, s)
		}
	}
	return left
}

func ofThread(op store.Op) bool {
	return op != store.OpLoadThreads && op != store.OpSaveAttachment && op != store.OpLoadAttachment && op != store.OpDeleteAttachment
}

// played is what everybody observed of a trace.
type played struct {
	seen  []observation
	wrong string // what somebody observed who had a part in it, and should not have
}

type observation struct {
	step    step
	text    string // the rows, and the error
	edges   string // of a page: the base's word, which a guard cannot check
	code    store.Code
	calls   int
	excused bool // the observer has a part in it
}

func (o observation) String() string {
	return fmt.Sprintf("%s%s, for %d calls of the base", o.text, o.edges, o.calls)
}

func observations(p played, who int) (seen []observation) {
	for _, o := range p.seen {
		if o.step.who == who {
			seen = append(seen, o)
		}
	}
	return seen
}

// play plays a trace on a new stack.
func (c *isolated) play(t *testing.T, trace []step) (p played) {
	t.Helper()
	base := NewFaulty(c.open())
	g := &Grants{roles: map[grant]string{}}
	s := c.newStack(base, g)
	defer func() {
		if err := store.Close(s); err != nil {
			t.Errorf("closing the stack: %v", err)
		}
	}()
	had := map[grant]bool{}
	for _, st := range trace {
		if st.op == 0 {
			g.roles[st.grant()] = st.role
			had[st.grant()] = true
			continue
		}
		before := base.Total()
		o := st.do(t.Context(), s)
		o.calls = base.Total() - before
		if st.who != root && ofThread(st.op) {
			o.excused = g.roles[st.grant()] != "" || c.late && had[st.grant()]
		}
		if g.roles[st.grant()] != "" && st.op == store.OpLoadThread && st.owner() != st.who && !c.hostile {
			want := st.do(t.Context(), base)
			if want.code == store.CodeOK && (o.text != want.text) || want.code != o.code {
				p.wrong = fmt.Sprintf("%s has a part in the thread of call %d, %s:\n  observed %s\n  base has %s", peopleNames[st.who], st.n, st, o.text, want.text)
				return p
			}
			if want.code == store.CodeOK {
				c.shared++
			}
		}
		p.seen = append(p.seen, o)
	}
	if !c.hostile {
		p.wrong = taken(t.Context(), s, base, had)
	}
	return p
}

// taken has everybody save under the ids of others, but for those who have, or had, a part in them.
func taken(ctx context.Context, s, base store.Store, had map[grant]bool) string {
	for i, id := range traceThreads {
		was, err := base.LoadThread(ctx, id)
		if err != nil {
			continue
		}
		for who := range root {
			if who == i/2 || had[grant{principals[who].Owner, id}] {
				continue
			}
			ctx := store.WithPrincipal(ctx, principals[who])
			for _, named := range []store.Owner{{}, principals[who].Owner} {
				err := s.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), store.Thread{ID: id, Title: "taken", CreatedAt: at(0), Owner: named})
				if now, _ := base.LoadThread(ctx, id); store.CodeOf(err) != store.CodeConflict || !now.Equal(was) || now.Owner != was.Owner {
					return fmt.Sprintf("%s saves under %s, which is %s's: got %v, want ErrConflict and no change", peopleNames[who], id, peopleNames[i/2], err)
				}
			}
		}
	}
	return ""
}

// do makes the call and returns all that can be seen of its answer.
func (s step) do(ctx context.Context, on store.Store) observation {
	ctx = store.WithSaveMode(store.WithPrincipal(ctx, principals[s.who]), s.mode)
	threadID, itemID, attachmentID := traceThreads[s.thread], traceItems[s.item], traceAttachments[s.attachment]
	var (
		answer, edges string
		err           error
	)
	switch s.op {
	case store.OpLoadThread:
		var th store.Thread
		th, err = on.LoadThread(ctx, threadID)
		answer = seenThread(th)
	case store.OpSaveThread:
		err = on.SaveThread(ctx, store.Thread{ID: threadID, Title: fmt.Sprint(s.n), CreatedAt: at(s.n % 3)})
	case store.OpDeleteThread:
		err = on.DeleteThread(ctx, threadID)
	case store.OpLoadThreads:
		var p store.Page[store.Thread]
		p, err = on.LoadThreads(ctx, s.query)
		edges = fmt.Sprintf(", %d, more %v after %q", len(p.Data), p.HasMore, p.After)
		for _, th := range p.Data {
			answer += " " + seenThread(th)
		}
	case store.OpLoadThreadItems:
		var p store.Page[store.Item]
		p, err = on.LoadThreadItems(ctx, threadID, s.query.PageQuery)
		edges = fmt.Sprintf(", %d, more %v after %q", len(p.Data), p.HasMore, p.After)
		for _, it := range p.Data {
			answer += " " + it.JSON().String()
		}
	case store.OpAddThreadItem:
		err = on.AddThreadItem(ctx, threadID, s.newItem())
	case store.OpSaveItem:
		err = on.SaveItem(ctx, threadID, s.newItem())
	case store.OpLoadItem:
		var it store.Item
		it, err = on.LoadItem(ctx, threadID, itemID)
		answer = it.JSON().String()
	case store.OpDeleteThreadItem:
		err = on.DeleteThreadItem(ctx, threadID, itemID)
	case store.OpSaveAttachment:
		var a store.Attachment
		a, err = store.NewAttachment(attachmentID, store.AttachmentBody{Type: "file", Name: fmt.Sprint(s.n), MIMEType: "text/plain"})
		if err == nil {
			err = on.SaveAttachment(ctx, a)
		}
	case store.OpLoadAttachment:
		var a store.Attachment
		a, err = on.LoadAttachment(ctx, attachmentID)
		answer = fmt.Sprintf("%s of %+v", a.JSON(), a.Owner)
	case store.OpDeleteAttachment:
		err = on.DeleteAttachment(ctx, attachmentID)
	}
	if err != nil {
		answer += fmt.Sprintf(" %q", err)
	}
	return observation{step: s, text: answer, edges: edges, code: store.CodeOf(err)}
}

func seenThread(t store.Thread) string { return fmt.Sprintf("%s of %+v", t.JSON(), t.Owner) }

// newItem is a message; the thread's own owner attaches something to it.
func (s step) newItem() store.Item {
	body := store.UserMessage{Content: []store.UserContent{{Text: fmt.Sprint(s.n)}}}
	if s.owner() == s.who && s.n%2 == 0 {
		a, err := store.NewAttachment(traceAttachments[s.attachment], store.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"})
		if err == nil {
			body.Attachments = []store.Attachment{a}
		}
	}
	it, err := store.NewItem(traceItems[s.item], at(s.n%3), body)
	if err != nil {
		panic(err) // only for what is not valid
	}
	return it
}

func (s step) String() string {
	who, thread, item := peopleNames[s.who], traceThreads[s.thread], traceItems[s.item]
	switch s.op {
	case 0:
		return fmt.Sprintf("%s is made %q of %s", who, s.role, thread)
	case store.OpLoadThreads:
		return fmt.Sprintf("%s: %s(%+v, %s)", who, s.op, s.query.PageQuery, filterName(s.query.Owner))
	case store.OpLoadThreadItems:
		return fmt.Sprintf("%s: %s(%s, %+v)", who, s.op, thread, s.query.PageQuery)
	case store.OpLoadThread, store.OpDeleteThread:
		return fmt.Sprintf("%s: %s(%s)", who, s.op, thread)
	case store.OpSaveThread:
		return fmt.Sprintf("%s: %s(%s%s)", who, s.op, thread, modeName(s.mode))
	case store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment:
		return fmt.Sprintf("%s: %s(%s)", who, s.op, traceAttachments[s.attachment])
	}
	return fmt.Sprintf("%s: %s(%s, %s)", who, s.op, thread, item)
}

func traceText(trace []step, which func(step) bool) string {
	var b strings.Builder
	for _, s := range trace {
		if which(s) {
			fmt.Fprintf(&b, "%3d. %s\n", s.n, s)
		}
	}
	return b.String()
}
