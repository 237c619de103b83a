// Package isolate checks that a guarded stack lets no caller learn of what is not theirs, however they ask: noninterference.
// Use it for a guard, its rules, and the layers around it. It does not check what response times tell.
//
//	func TestMyStackIsolates(t *testing.T) {
//		isolate.Run(t, func(base store.Store, g *isolate.Grants) store.Store {
//			return store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"),
//				authz.TenantAdmin("tenant_admin"), authz.Grants(granted(g)))))
//		}, isolate.Options{})
//	}
//
// In random traces six people ask for everybody's few threads, items and attachments, through every op, with valid arguments
// and others:
//
//	ada, bob         of the tenant acme; they own rows
//	another ada      of another tenant; she owns rows too
//	tess             has the role "tenant_admin" in acme
//	root             has the role "admin"
//	nobody           is not known at all
//
// Each trace is played again for each of them, without the calls of the others. What they observe must be the same: values,
// codes, error texts, the edges of pages, versions. Root may see all, and is not compared. The guard under test must implement
// these rules.
package isolate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// Run plays random traces through the stack. newStack puts it over a base, for each play of a trace; Run closes it.
//
// In mid-trace, the owners give others a part in a thread, as viewer or editor, and take it back; g says who has one. It must
// count from the very next call on. Calls that write what the observer may see at that time stay in the trace: their own rows and
// their tenant's. In a second comparison, so do calls on threads that they have a part in at some time. What they observe of
// those before and after must not depend on the threads at all.
//
// Two things tell of others by design. A save under an id that somebody has used is ErrConflict: the first save of such an id
// stays in the trace. After each trace everybody makes such saves, of rows that are there and that are gone, which must conflict
// and change nothing. And what a call costs: see [Counting].
//
// A trace that fails is made shorter and printed, with the data by which [Trace] repeats it. Calls come one after the other, but
// for reads that two make at once: a stack that keeps something of its own needs a lock.
func Run(t *testing.T, newStack func(base store.Store, g *Grants) store.Store, opts Options) {
	t.Helper()
	c := newCheck(newStack, opts)
	if c.Traces < 1 {
		t.Fatalf("%d traces", c.Traces)
	}
	for seed := range uint64(c.Traces) {
		if !c.check(t, randomTrace(seed)) {
			return
		}
	}
	type count struct {
		n, least int // of which least are for every ten traces
		what     string
	}
	counts := []count{{c.compared, 300, "calls compared"}, {c.refused, 50, "calls refused"}}
	if !c.WithoutGrants {
		counts = append(counts, count{c.shared, 10, "reads of a thread by somebody who has a part in it"})
	}
	if !c.WithoutGrants && !c.Hostile {
		counts = append(counts, count{c.edited, 1, "writes by editors"})
	}
	for _, few := range counts {
		if few.n < few.least*c.Traces/10 {
			t.Errorf("%d traces had %d %s: they prove nothing", c.Traces, few.n, few.what)
		}
	}
}

// Trace checks one trace, which it reads from data: any data is a trace. It is for fuzz targets.
func Trace(t *testing.T, data []byte, newStack func(base store.Store, g *Grants) store.Store, opts Options) {
	t.Helper()
	newCheck(newStack, opts).check(t, data)
}

// Options say what [Run] asks for. The zero Options are for a guard that knows owners, administrators and parts in threads.
type Options struct {
	// Traces is how many traces are played; 0 means 100.
	Traces int

	// Base returns the Store beneath; nil means a new memstore. It is called for each play of a trace, of which there are some
	// for each trace, and may return the same Store every time: ids and owners are new in each. Run closes the layers around the
	// base, not the base. Reads of two at once take a base in memory, for virtual time: over any other, and so over any Base
	// that is not Hostile, they are made one after the other.
	Base func() store.Store

	// Hostile says that Base, in memory, hands out what was not asked for. What others do then changes what one observes, if
	// only that a call fails. So traces are not compared: nobody must be shown a row, or an id, that they may not see.
	Hostile bool

	// Counting says of which calls the cost is compared, in calls of the base.
	Counting Counting

	// WithoutGrants is for guards that know owners and administrators only: nobody is given a part in a thread.
	WithoutGrants bool
}

// Counting says of which calls the cost is compared.
type Counting uint8

// The countings.
const (
	CountNone Counting = iota
	CountOwn           // calls on what one may see: for stacks with a cache that keeps principals apart, and is larger than a trace
	CountAll           // all but saves under others' ids: for stacks that hold nothing, as a cache shared by all tells of others by being quick
)

// Grants says who has a part in whose thread. It changes between calls only, and so may be read in any of them.
type Grants struct{ roles map[grant]string }

type grant struct {
	who    chat.Owner
	thread string
}

// Role returns "viewer", "editor", or "" for a principal who has no part in the thread.
func (g *Grants) Role(p store.Principal, threadID string) string {
	return g.roles[grant{p.Owner, threadID}]
}

// check is what the options say, and what was seen.
type check struct {
	Options
	newStack func(store.Store, *Grants) store.Store
	bubbles  bool
	mint     *rows.Mint

	compared, refused, shared, edited int
}

func newCheck(newStack func(store.Store, *Grants) store.Store, opts Options) *check {
	c := &check{Options: opts, newStack: newStack, bubbles: opts.Base == nil || opts.Hostile, mint: rows.NewMint()}
	if c.Base == nil {
		c.Base = func() store.Store { return memstore.New() }
	}
	if c.Traces == 0 {
		c.Traces = 100
	}
	return c
}

// beginning is how many steps fill the store: an object, and an item of a thread, each.
const beginning = objects + 6

func randomTrace(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, (beginning+20+r.IntN(60))*stepBytes)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	// Most of what there can be is there from the begin, half of what follows is about one thread and one guest in it, and once
	// the guest is let in, writes, and is shown out. And an owner adds somebody else's attachment to a message that has one.
	guest, thread := r.IntN(root), r.IntN(len(traceThreads))
	for range 2 { // mostly one who can be let in
		if guest == nobody || owned(guest)[thread] {
			guest = r.IntN(root)
		}
	}
	for i := range len(data) / stepBytes {
		b := data[i*stepBytes:][:stepBytes]
		switch {
		case i < objects && r.IntN(4) > 0:
			copy(b, ownersStep(saveOf(i), i, 0))
		case i >= objects && i < beginning && r.IntN(4) > 0:
			copy(b, ownersStep(store.OpAddThreadItem, i-objects, r.IntN(len(traceItems))))
		case r.IntN(2) > 0:
			b[1], b[5] = byte(thread), b[5]&^1
			if r.IntN(2) > 0 || traceOps[int(b[4])%len(traceOps)] == 0 {
				b[0] = byte(guest)
			}
		}
	}
	read := []store.Op{store.OpLoadThread, store.OpLoadThreadItems, store.OpLoadItem}[r.IntN(3)]
	var visit []byte
	for _, s := range [][2]byte{{opByte(0), 1 + byte(r.IntN(2))}, {opByte(store.OpSaveItem)}, {opByte(read)}, {opByte(0), 0}, {opByte(read)}, {opByte(0), 3}, {opByte(read)}} {
		visit = append(visit, byte(guest), byte(thread), 0, 0, s[0], usual, s[1], 0)
	}
	data = slices.Insert(data, (beginning+r.IntN(20))*stepBytes, visit...)
	own, others := byte(r.IntN(tess)), byte(r.IntN(tess))
	var attach []byte
	for _, attachment := range []byte{own, others} {
		attach = append(attach, own, 2*own, 0, attachment, opByte(store.OpSaveItem), usual, 1, 0)
	}
	return slices.Insert(data, (beginning+r.IntN(20))*stepBytes, attach...)
}

// parse is [parseTrace], without what the guard does not know.
func (c *check) parse(data []byte) []step {
	trace := parseTrace(data)
	if c.WithoutGrants {
		trace = slices.DeleteFunc(trace, func(s step) bool { return s.kind == granting })
	}
	return trace
}

// check plays a trace, and reports how it shows one principal what is another's. It returns false then.
func (c *check) check(t *testing.T, data []byte) bool {
	t.Helper()
	why := c.leak(t, c.parse(data))
	if why == "" {
		return true
	}
	data, why = c.shorten(t, data, why)
	t.Errorf("%s\n\nThe trace, which isolate.Trace repeats from the data %q:\n%s", report.Printable(why), data, report.Printable(traceText(c.parse(data))))
	return false
}

// shorten leaves out of a trace what it does not take to leak: halves first, single steps in the end.
func (c *check) shorten(t *testing.T, data []byte, why string) ([]byte, string) {
	t.Helper()
	data = data[:len(data)/stepBytes*stepBytes]
	for size := len(data) / stepBytes / 2; size > 0; size /= 2 {
		for i := 0; i < len(data); {
			end := min(i+size*stepBytes, len(data))
			shorter := slices.Concat(data[:i], data[end:])
			if found := c.leak(t, c.parse(shorter)); found != "" {
				data, why = shorter, found
			} else {
				i = end
			}
		}
	}
	return data, why
}

// leak returns what a trace shows to whom it must not, or "".
func (c *check) leak(t *testing.T, trace []step) string {
	t.Helper()
	why := c.leakOnce(t, trace)
	if c.Counting == CountOwn { // with other ids, no two share a word of the cache by chance
		for i := 0; i < 2 && why != ""; i++ {
			why = c.leakOnce(t, trace)
		}
	}
	return why
}

func (c *check) leakOnce(t *testing.T, trace []step) string {
	t.Helper()
	whole := c.play(t, trace, true)
	if whole.wrong != "" || c.Hostile {
		return whole.wrong
	}
	for who := range root {
		mine := owned(who)
		see := mine
		for _, s := range trace {
			if s.kind == granting && s.who == who && s.role != "" {
				see[s.thread] = true
			}
		}
		if why := c.compare(t, whole, trace, who, mine, see); why != "" {
			return why
		}
		if see != mine {
			if why := c.compare(t, whole, trace, who, see, see); why != "" {
				return why
			}
		}
	}
	return ""
}

// compare returns what who can tell from the whole trace that they cannot from one with what they see only, which is either what
// they may always see, or all that they ever may. What they have a part in at the time of a call is compared only then.
func (c *check) compare(t *testing.T, whole played, trace []step, who int, see, ever objectSet) string {
	t.Helper()
	alone := c.play(t, purged(trace, who, see), false).of(who)
	for i, w := range whole.of(who) {
		if i >= len(alone) || alone[i].step != w.step {
			return "the two plays of the trace went apart"
		}
		a := alone[i]
		if w.part && see != ever {
			continue
		}
		c.compared++
		if w.code == store.CodeNotFound && w.step.owner() != who {
			c.refused++
		}
		costs := w.calls == a.calls || w.together || !c.counts(w.step, see == ever)
		same := w.text == a.text && w.edges == a.edges && w.versions == a.versions && costs
		if !same {
			return fmt.Sprintf("%s can tell what others do, by call %d, %s:\n  with them    %s\n  without them %s",
				peopleNames[who], w.step.n, w.step, w, a)
		}
	}
	return ""
}

// counts reports whether the cost of a call is compared, given whether all is there that the caller ever may see: what they
// did with it may still be in their part of a cache.
func (c *check) counts(s step, all bool) bool {
	switch c.Counting {
	case CountAll:
		return !s.takes()
	case CountOwn:
		own := owned(s.who)
		o, ok := s.object()
		a, embeds := s.embedded()
		return all && ok && own[o] && (!embeds || own[len(traceThreads)+a])
	}
	return false
}

// purged is the trace as it must look to who may see these objects only: their own calls, the writes of those who may write what
// is seen, and what the writes take to succeed. The first save of another's id that they try to take stays as well.
func purged(trace []step, who int, see objectSet) (left []step) {
	var taken, fed objectSet
	for _, s := range trace {
		if o, ok := s.object(); ok && s.who == who && s.takes() {
			taken[o] = true
		}
	}
	keeps := func(s step, roles map[part]string) bool {
		if s.kind == calling && (s.who == who || s.with == who) {
			return true
		}
		o, ok := s.object()
		if !ok {
			return false
		}
		if s.kind == granting {
			return see[o]
		}
		return (see[o] || fed[o]) && s.op.IsWrite() && (owned(s.who)[o] || roles[s.part()] == "editor") || taken[o] && s.claims
	}
	each := func(f func(step)) {
		roles := map[part]string{}
		for _, s := range trace {
			if keeps(s, roles) {
				f(s)
			}
			if s.kind == granting {
				roles[s.part()] = s.role
			}
		}
	}
	each(func(s step) {
		if a, ok := s.embedded(); ok && s.who != who {
			fed[len(traceThreads)+a] = true
		}
	})
	each(func(s step) {
		if s.with == who {
			s = s.by(who)
		}
		left = append(left, s.by(s.who))
	})
	return left
}

// played is what everybody observed of a trace.
type played struct {
	seen  []observation
	wrong string // what is wrong whatever it is compared with
}

// observation is all that can be seen of a call's answer.
type observation struct {
	step     step
	text     string // the rows, and the error
	causes   string // of the error, which nobody is shown: for whoever reads of a failure
	edges    string // of a page
	versions string
	code     store.Code
	calls    int  // of the base
	together bool // with another's
	part     bool // they had a part in it
}

func (o observation) String() string {
	text := fmt.Sprintf("%s %s%s, for %d calls of the base", o.text, o.edges, o.versions, o.calls)
	if o.causes != "" {
		text += ", error " + o.causes
	}
	if o.together {
		text += ", made at once with another's"
	}
	return text
}

func (p played) of(who int) (seen []observation) {
	for _, o := range p.seen {
		if o.step.who == who {
			seen = append(seen, o)
		}
	}
	return seen
}

// keptOpen hides that a base can be closed: it may be used for the next play.
type keptOpen struct{ store.Store }

// play plays a trace on a new stack. If all, it is everybody's, and what is true of every trace is checked.
func (c *check) play(t *testing.T, trace []step, all bool) (p played) {
	t.Helper()
	if !c.bubbles {
		return c.playHere(t, trace, all)
	}
	synctest.Test(t, func(t *testing.T) { p = c.playHere(t, trace, all) })
	return p
}

func (c *check) playHere(t *testing.T, trace []step, all bool) (p played) {
	t.Helper()
	play := &play{c: c, stage: newStage(c.mint.ID("")), base: faulty.New(keptOpen{c.Base()}),
		grants: &Grants{roles: map[grant]string{}}, saved: map[int]int{}}
	play.stack = c.newStack(play.base, play.grants)
	defer func() {
		if err := store.Close(play.stack); err != nil {
			t.Errorf("closing the stack: %s", report.Error(err))
		}
	}()
	for _, st := range trace {
		switch st.kind {
		case granting:
			play.grants.roles[play.grant(st)] = st.role
		case calling:
			had := play.attached(t.Context(), st)
			for _, o := range play.make(t.Context(), st) {
				o.part = play.role(o.step) != ""
				play.note(o)
				if all {
					if a, embeds := st.embedded(); embeds && o.code == store.CodeOK && !had && !play.owned(st.who)[len(traceThreads)+a] {
						p.wrong = fmt.Sprintf("%s must not attach what they may not read, by call %d, %s:\n  %s", peopleNames[st.who], st.n, st, o)
						return p
					}
					if p.wrong = play.wrong(t.Context(), o); p.wrong != "" {
						return p
					}
				}
				p.seen = append(p.seen, o)
			}
		}
	}
	if all && !c.Hostile {
		p.wrong = play.taken(t.Context(), play.stack, play.base, trace, play.grants)
	}
	return p
}

// play is one play of a trace.
type play struct {
	*stage
	c      *check
	base   *faulty.Store
	stack  store.Store
	grants *Grants
	saved  map[int]int // whose each object became when it was first saved: a hostile base may let somebody have another's id
}

// owned is [owned], but of what there is.
func (p *play) owned(who int) (own objectSet) {
	for o, owner := range p.saved {
		own[o] = mayAll(who, owner)
	}
	return own
}

// note says what is known of the rows after o.
func (p *play) note(o observation) {
	st := o.step
	if o.code != store.CodeOK || st.op != store.OpSaveThread && st.op != store.OpSaveAttachment {
		return
	}
	if about, ok := st.object(); ok {
		if _, ok := p.saved[about]; !ok {
			p.saved[about] = st.who
			if st.odd == namingOther { // which administrators may
				p.saved[about] = st.other()
			}
		}
	}
}

// role is the part that the caller has in the thread of the step.
func (p *play) role(s step) string {
	if s.kind == granting || s.ofThread() {
		return p.grants.roles[p.grant(s)]
	}
	return ""
}

// make makes the call, or both, while the base waits for the second.
func (p *play) make(ctx context.Context, s step) []observation {
	before := p.base.Total()
	if s.with == s.who {
		o := p.do(ctx, p.stack, s)
		o.calls = p.base.Total() - before
		return []observation{o}
	}
	if !p.c.bubbles {
		return append(p.make(ctx, s.by(s.who)), p.make(ctx, s.by(s.with))...)
	}
	both := make(chan struct{})
	p.base.Inject(faulty.Fault{Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		<-both
		return next(ctx)
	}})
	seen := make([]observation, 2)
	var wg sync.WaitGroup
	for i, who := range []int{s.who, s.with} {
		wg.Go(func() { seen[i] = p.do(ctx, p.stack, s.by(who)) })
		synctest.Wait()
	}
	close(both)
	wg.Wait()
	p.base.Reset()
	for i := range seen {
		seen[i].together = true
	}
	return seen
}

// attached reports whether the item has the attachment already that the call adds.
func (p *play) attached(ctx context.Context, s step) bool {
	a, embeds := s.embedded()
	if !embeds {
		return false
	}
	s.op = store.OpLoadItem
	return strings.Contains(p.do(ctx, p.base, s).text, traceAttachments[a])
}

// wrong returns what is wrong with o, whatever it is compared with.
func (p *play) wrong(ctx context.Context, o observation) string {
	st := o.step
	role := p.role(st)
	switch {
	case st.who == nobody:
		if o.code != store.CodeUnauthenticated && o.code != store.CodeInvalid {
			return fmt.Sprintf("nobody is known to make call %d, %s:\n  %s", st.n, st, o)
		}
	case p.c.Hostile:
		may := p.owned(st.who)
		for i := range traceThreads {
			of := step{kind: granting, thread: i}.by(st.who)
			may[i] = may[i] || p.role(of) != ""
		}
		return p.c.shows(o, may)
	case role != "":
		return p.c.honours(role, o, p.do(ctx, p.base, st.read()))
	}
	return ""
}

// shows returns what o shows of rows that its caller may not see.
func (c *check) shows(o observation, may objectSet) string {
	st := o.step
	c.compared++
	if o.code == store.CodeNotFound || o.code == store.CodeInternal {
		c.refused++
	}
	if st.isRead() && o.part {
		c.shared++
	}
	about, isAbout := st.object()
	for i, name := range slices.Concat(traceThreads, traceAttachments) {
		named := isAbout && i == about || st.query.After == name
		_, embeds := st.embedded()
		ofItem := i >= len(traceThreads) && (embeds || st.op == store.OpLoadThreadItems || st.op == store.OpLoadItem) // messages say what is attached
		if !may[i] && !named && !ofItem && strings.Contains(o.text+o.edges, name) {
			return fmt.Sprintf("%s is shown %s, by call %d, %s:\n  %s", peopleNames[st.who], name, st.n, st, o)
		}
	}
	if o.code == store.CodeOK && isAbout && !may[about] && o.text != "" {
		return fmt.Sprintf("%s is shown what is not theirs, by call %d, %s:\n  %s", peopleNames[st.who], st.n, st, o)
	}
	return ""
}

// honours returns how o is not what one may do who has a part in the thread, of which the base says truth.
func (c *check) honours(role string, o, truth observation) string {
	st := o.step
	if st.odd == badThreadID || st.odd == badItemID {
		return ""
	}
	wrong := ""
	switch {
	case st.isRead():
		if o.code != truth.code || o.code == store.CodeOK && (o.text != truth.text || o.edges != truth.edges) {
			wrong = "it should be what the base has"
		}
		c.shared++
	case truth.code == store.CodeNotFound: // there is no thread
	case role == "viewer" || st.op == store.OpDeleteThread:
		if o.code != store.CodeDenied && o.code != store.CodeInvalid {
			wrong = "it should be denied"
		}
	case o.code == store.CodeDenied:
		wrong = "it should not be denied"
	case st.mode == store.Upsert && st.odd == oddities && !st.embeds && (st.op == store.OpSaveThread || st.op == store.OpSaveItem):
		c.edited++
		if o.code != store.CodeOK {
			wrong = "it should be done"
		}
	}
	if wrong == "" {
		return ""
	}
	return fmt.Sprintf("%s, now %s of the thread, makes call %d, %s; %s:\n  observed %s\n  the base %s",
		peopleNames[st.who], role, st.n, st, wrong, o, truth)
}

func traceText(trace []step) string {
	var b strings.Builder
	for _, s := range trace {
		fmt.Fprintf(&b, "%3d. %s\n", s.n, s)
	}
	return b.String()
}
