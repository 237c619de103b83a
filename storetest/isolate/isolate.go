// Package isolate checks that a guarded stack shows no caller anything about rows of others (noninterference). Use it for a
// guard, its rules, and the layers around it. It does not check response times.
//
//	func TestMyStackIsolates(t *testing.T) {
//		isolate.Run(t, func(base store.Store, g *isolate.Grants) store.Store {
//			return store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"),
//				authz.TenantAdmin("tenant_admin"), authz.Shared(g))))
//		}, isolate.Options{})
//	}
//
// In random traces, seven principals ask for a few threads, items and attachments of each other, through every op, with valid
// and invalid arguments. Some writes are made under a guessed version ([store.IfVersion]). The principals:
//
//	ada, bob         of the tenant acme; they own rows; bob has the role "staff"
//	another ada      of another tenant; she owns rows too, and has the role "staff"
//	tess             has the role "tenant_admin" in acme
//	dan              of no tenant; has the role "staff"
//	root             has the role "admin"
//	nobody           a call without a principal
//
// Each trace is played again for each of them except root, without the calls of the others. What a principal observes must
// be the same in both plays: values, codes, error texts, the edges of pages, versions. The guard under test must implement
// the rules above. Root may see everything, so root's observations are not compared.
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

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

// Run plays random traces through the stack. For each play of a trace it calls newStack with a base, and closes the stack
// afterwards.
//
// During a trace, threads are granted to principals, to the group "staff" of the owner's tenant, and to tenants. The role is viewer
// or editor. Grants are revoked, and end with their thread. [Grants.Access] returns what holds now, which must count from the next
// call on. Attachments name threads: who may read a thread reads its owner's attachments, and those of editors to whom the thread
// is granted themselves.
//
// A replay keeps the observer's calls, and the writes to rows that the observer may always see: their own, and for tess those
// of her tenant. If the trace gives the observer a role in other threads, or shows them an attachment, there are two replays:
//
//   - The first leaves out the writes to those rows. It compares the calls that the observer made without a role that matters.
//     These must not depend on the writes.
//   - The second keeps the writes, and compares all calls of the observer.
//
// Two things reveal other principals by design. The first is a save under a used id, which is ErrConflict. So the first save
// of such an id stays in the trace. After each trace, all principals make such saves, of existing and of deleted rows. These
// must conflict and change nothing. The second is the cost of a call: see [Counting].
//
// A failing trace is shortened and printed, with the data that repeats it in [Trace]. Calls are made one after the other,
// except that two principals sometimes make the same read at once. So a stack with state of its own needs a lock.
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
		n, least int // n must be at least least for every ten traces
		what     string
	}
	counts := []count{{c.compared, 300, "calls compared"}, {c.refused, 50, "calls refused"}}
	if !c.WithoutGrants {
		counts = append(counts, count{c.shared, 10, "reads of a thread by a principal with a role in it"})
	}
	if !c.WithoutGrants && !c.Hostile {
		counts = append(counts, count{c.edited, 1, "writes by editors"}, count{c.byThread, 1, "reads of an attachment by its thread"})
	}
	for _, few := range counts {
		if few.n < few.least*c.Traces/10 {
			t.Errorf("%d traces had only %d %s: too few to prove anything", c.Traces, few.n, few.what)
		}
	}
}

// Trace checks one trace, which it derives from data. Any data is a trace. Use it in fuzz targets.
func Trace(t *testing.T, data []byte, newStack func(base store.Store, g *Grants) store.Store, opts Options) {
	t.Helper()
	newCheck(newStack, opts).check(t, data)
}

// Options configure [Run]. The zero Options are for a guard that knows owners, administrators and roles in threads.
type Options struct {
	// Traces is the number of traces; 0 means 100.
	Traces int

	// Base returns the Store beneath the stack; nil means a new memstore. It is called for each play of a trace, several
	// times per trace. It may return the same Store every time, because ids and owners are new in each play. Run closes the
	// layers around the base, but not the base. Concurrent reads need virtual time, so they are made only over the default
	// memstore or a Hostile Base. Over any other Base they are made one after the other.
	Base func() store.Store

	// Hostile says that Base, which must be in memory, returns rows that were not asked for. Then calls of others change
	// what a principal observes, so traces are not compared. Instead, no caller may be shown a row or an id that they may
	// not see.
	Hostile bool

	// Counting says for which calls the cost is compared. The cost is the number of calls of the base.
	Counting Counting

	// WithoutGrants is for guards that know only owners and administrators: no principal gets a role in a thread, and
	// attachments name no threads.
	WithoutGrants bool
}

// Counting says for which calls the cost is compared.
type Counting uint8

// The zero Counting compares no costs.
const (
	CountNone Counting = iota
	CountOwn           // calls on the caller's own rows (for tess, her tenant's): for a stack whose cache separates principals and can hold a whole trace
	CountAll           // all calls except saves under others' ids: for a stack without a cache, because a shared cache reveals the reads of others
)

// check is the options of a Run, and its counts.
type check struct {
	Options
	newStack func(store.Store, *Grants) store.Store
	bubbles  bool
	mint     *rows.Mint

	compared, refused, shared, edited, byThread int
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

// beginning is the number of steps that fill the store: the objects, and an item in each thread.
const beginning = objects + 6

func randomTrace(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, (beginning+20+r.IntN(60))*stepBytes)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	// Most objects exist from the beginning. Half of the later steps are about one thread and one guest. Once in a trace,
	// the guest gets a role in the thread, writes, and loses the role. And once an owner adds an attachment of another owner
	// to a message that has one.
	guest, thread := r.IntN(root), r.IntN(len(traceThreads))
	for range 4 { // prefer a guest who can get a role
		if guest == nobody || owned(guest)[thread] {
			guest = r.IntN(root)
		}
	}
	for i := range len(data) / stepBytes {
		b := data[i*stepBytes:][:stepBytes]
		switch {
		case i < objects && (i == thread || r.IntN(4) > 0):
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
	owner := ownerOf(thread)
	theirs := guest % tess // the guest's own attachment, if they own one
	var visit []byte
	for _, s := range []struct {
		who, attachment int
		op              byte
		more            byte
	}{
		{owner, owner, opByte(store.OpSaveAttachment), 3}, // in the thread
		{guest, 0, opByte(0), 1 + byte(r.IntN(2))},
		{guest, 0, opByte(store.OpSaveItem), 0},
		{guest, theirs, opByte(store.OpSaveAttachment), 3},
		{guest, 0, opByte(read), 0},
		{guest, owner, opByte(store.OpLoadAttachment), 0},
		{owner, theirs, opByte(store.OpLoadAttachment), 0},
		{guest, 0, opByte(store.OpDeleteThread), 0},
		{guest, 0, opByte(0), 0},
		{guest, 0, opByte(read), 0},
		{guest, 0, opByte(0), 3},
		{guest, 0, opByte(read), 0},
		{guest, owner, opByte(store.OpLoadAttachment), 0},
		{owner, theirs, opByte(store.OpLoadAttachment), 0},
	} {
		visit = append(visit, byte(s.who), byte(thread), 0, byte(s.attachment), s.op, usual, s.more, 0)
	}
	data = slices.Insert(data, (beginning+r.IntN(20))*stepBytes, visit...)
	own, others := byte(r.IntN(tess)), byte(r.IntN(tess))
	var attach []byte
	for _, attachment := range []byte{own, others} {
		attach = append(attach, own, 2*own, 0, attachment, opByte(store.OpSaveItem), usual, 1, 0)
	}
	return slices.Insert(data, (beginning+r.IntN(20))*stepBytes, attach...)
}

// parse is [parseTrace], without grants if the guard does not know them.
func (c *check) parse(data []byte) []step {
	trace := parseTrace(data)
	if c.WithoutGrants {
		trace = slices.DeleteFunc(trace, func(s step) bool { return s.kind == granting })
	}
	for i := range trace { // a hostile base would say what an attachment names
		trace[i].names = trace[i].names && !c.WithoutGrants && !c.Hostile
	}
	return trace
}

// check plays a trace, and reports a leak as a failure of t. Then it returns false.
func (c *check) check(t *testing.T, data []byte) bool {
	t.Helper()
	why := c.leak(t, c.parse(data))
	if why == "" {
		return true
	}
	data, why = c.shorten(t, data, why)
	t.Errorf("%s\n\nThe trace; isolate.Trace repeats it from the data %q:\n%s", report.Printable(why), data, report.Printable(traceText(c.parse(data))))
	return false
}

// shorten removes steps from a trace while it still leaks, first halves of the trace, then single steps.
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

// leak returns a description of what a trace shows to the wrong principal, or "".
func (c *check) leak(t *testing.T, trace []step) string {
	t.Helper()
	why := c.leakOnce(t, trace)
	if c.Counting == CountOwn { // repeat with new ids: two ids may share a generation counter of the cache by chance
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
			if s.kind == granting && covers(s.to, who) && s.role != sharing.NoRole {
				see[s.thread] = true
			}
		}
		for _, s := range trace {
			if s.naming() && see[s.thread] {
				see[len(traceThreads)+s.attachment] = true
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

// compare plays the trace purged to the objects in see. It returns the first difference in the observations of who from the
// whole trace, or "". ever has all objects that who could see at any time. If see is smaller, calls that who made with a role
// in the thread are skipped.
func (c *check) compare(t *testing.T, whole played, trace []step, who int, see, ever objectSet) string {
	t.Helper()
	alone := c.play(t, purged(trace, whole.succeeded(), who, see), false).of(who)
	for i, w := range whole.of(who) {
		if i >= len(alone) || alone[i].step != w.step {
			return "the two plays of the trace have different steps"
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
			return fmt.Sprintf("%s can tell what others do, by call %d, %s:\n  with their calls    %s\n  without their calls %s",
				peopleNames[who], w.step.n, w.step, w, a)
		}
	}
	return ""
}

// counts reports whether the cost of a call is compared. all says that the trace has every object that the caller could ever
// see. Otherwise an earlier call on a missing object may have left an entry in the caller's part of a cache.
func (c *check) counts(s step, all bool) bool {
	switch c.Counting {
	case CountAll:
		return !s.takes()
	case CountOwn:
		own := owned(s.who)
		o, ok := s.object()
		a, embeds := s.embedded()
		return all && ok && own[o] && (!embeds || own[len(traceThreads)+a]) && (!s.naming() || own[s.thread])
	}
	return false
}

// purged returns the trace as who must observe it if only the objects in see exist. It keeps the calls of who, the permitted
// writes to these objects, and the writes that those depend on. If who tries to take another's id, the first save of that id
// stays too. done has the steps that succeeded in the whole trace.
func purged(trace []step, done map[int]bool, who int, see objectSet) (left []step) {
	var taken, fed objectSet
	for _, s := range trace {
		if o, ok := s.object(); ok && s.who == who && s.takes() {
			taken[o] = true
		}
	}
	keeps := func(s step, roles map[part]sharing.Role) bool {
		if s.kind == calling && (s.who == who || s.with == who) {
			return true
		}
		o, ok := s.object()
		if !ok {
			return false
		}
		if s.kind == granting {
			return see[o] || fed[o]
		}
		if s.naming() && !done[s.n] { // the thread may have been missing; here it may be taken
			return false
		}
		return (see[o] || fed[o]) && s.op.IsWrite() && (owned(s.who)[o] || s.ofThread() && edits(roles, s.who, s.thread)) || taken[o] && s.claims
	}
	each := func(f func(step)) {
		roles := map[part]sharing.Role{}
		for _, s := range trace {
			if keeps(s, roles) {
				f(s)
			}
			if s.kind == granting {
				roles[s.part()] = s.role
			}
		}
	}
	for was := (objectSet{true}); was != fed; { // an attachment needs the thread that it names, which needs others in turn
		was = fed
		each(func(s step) {
			if a, ok := s.embedded(); ok && (s.who != who || done[s.n]) {
				fed[len(traceThreads)+a] = true
			}
			if s.naming() && done[s.n] {
				fed[s.thread] = true
			}
		})
	}
	each(func(s step) {
		if s.with == who {
			s = s.by(who)
		}
		left = append(left, s.by(s.who))
	})
	return left
}

// played is what all principals observed of a trace.
type played struct {
	seen  []observation
	wrong string // a fault that shows without a comparison
}

// observation is everything that a caller can see of a call's answer.
type observation struct {
	step     step
	text     string // the rows and the error
	causes   string // of the error; no caller sees them, they are for the failure message
	edges    string // the edges of a page
	versions string
	code     store.Code
	calls    int          // calls of the base
	together bool         // made at the same time as another principal's
	part     bool         // the answer can depend on a grant
	role     sharing.Role // the caller's role in the thread
}

func (o observation) String() string {
	text := fmt.Sprintf("%s %s%s, for %d calls of the base", o.text, o.edges, o.versions, o.calls)
	if o.causes != "" {
		text += ", error " + o.causes
	}
	if o.together {
		text += ", made at the same time as another principal's call"
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

// succeeded returns the numbers of the steps that succeeded.
func (p played) succeeded() map[int]bool {
	done := map[int]bool{}
	for _, o := range p.seen {
		done[o.step.n] = done[o.step.n] || o.code == store.CodeOK
	}
	return done
}

// keptOpen hides the base's Close, because the base may be used for the next play.
type keptOpen struct{ store.Store }

// play plays a trace on a new stack. all says that it is the whole trace; then it also checks what must hold for every
// trace.
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
		grants: &Grants{given: map[string]map[sharing.Grantee]sharing.Access{}}, saved: map[int]int{}}
	play.stack = c.newStack(play.base, play.grants)
	defer func() {
		if err := store.Close(play.stack); err != nil {
			t.Errorf("closing the stack: %s", report.Error(err))
		}
	}()
	for _, st := range trace {
		switch st.kind {
		case granting:
			if err := play.change(t.Context(), st); err != nil {
				t.Errorf("%s: %s", st, report.Error(err))
			}
		case calling:
			had := play.attached(t.Context(), st)
			roles := map[int]sharing.Role{}
			parts := map[int]bool{}
			for _, who := range []int{st.who, st.with} { // before the call, which can end the grants
				roles[who], parts[who] = play.role(st.by(who)), play.part(t.Context(), st.by(who))
			}
			for _, o := range play.make(t.Context(), st) {
				o.role, o.part = roles[o.step.who], parts[o.step.who]
				play.note(o)
				if st.op == store.OpDeleteThread {
					play.end(t.Context(), st)
				}
				if all {
					if a, embeds := st.embedded(); embeds && o.code == store.CodeOK && !had && !play.owned(st.who)[len(traceThreads)+a] &&
						!play.byThread(t.Context(), st.who, a) {
						p.wrong = fmt.Sprintf("%s must not attach a file that they may not read, by call %d, %s:\n  %s", peopleNames[st.who], st.n, st, o)
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
		p.wrong = play.taken(t.Context(), trace)
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
	saved  map[int]int // the owner of each object since its first save: a hostile base may let a principal take another's id
}

// owned is like the function [owned], for the saved objects.
func (p *play) owned(who int) (own objectSet) {
	for o, owner := range p.saved {
		own[o] = mayAll(who, owner)
	}
	return own
}

// note records the owner of a row that o saved first.
func (p *play) note(o observation) {
	st := o.step
	if o.code != store.CodeOK || st.op != store.OpSaveThread && st.op != store.OpSaveAttachment {
		return
	}
	if about, ok := st.object(); ok {
		if _, ok := p.saved[about]; !ok {
			p.saved[about] = st.who
			if st.odd == namingOther { // only administrators may
				p.saved[about] = st.other()
			}
		}
	}
}

// make makes the call of a step. If two principals make it at once, the base waits until both calls have arrived or wait in
// the stack.
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

// attached reports whether the item already has the attachment that the call adds.
func (p *play) attached(ctx context.Context, s step) bool {
	a, embeds := s.embedded()
	if !embeds {
		return false
	}
	s.op = store.OpLoadItem
	return strings.Contains(p.do(ctx, p.base, s).text, traceAttachments[a])
}

// wrong returns a fault of o that shows without a comparison, or "".
func (p *play) wrong(ctx context.Context, o observation) string {
	st := o.step
	role := o.role
	if role == sharing.NoRole && !st.ofThread() && o.part && !st.naming() {
		role = sharing.Viewer // of the attachment
	}
	switch {
	case st.who == nobody:
		if o.code != store.CodeUnauthenticated && o.code != store.CodeInvalid {
			return fmt.Sprintf("a call without a principal must be ErrUnauthenticated: call %d, %s:\n  %s", st.n, st, o)
		}
	case p.c.Hostile:
		may := p.owned(st.who)
		for i := range traceThreads {
			a, _ := p.grants.Access(ctx, p.principals[st.who], p.threadID(i))
			may[i] = may[i] || a.Role != sharing.NoRole
		}
		return p.c.shows(o, may)
	case role != sharing.NoRole:
		return p.c.honours(role, o, p.do(ctx, p.base, st.read()))
	}
	return ""
}

// shows returns what o shows of rows that its caller may not see, or "".
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
		ofItem := i >= len(traceThreads) && (embeds || st.op == store.OpLoadThreadItems || st.op == store.OpLoadItem) // messages name their attachments
		if !may[i] && !named && !ofItem && strings.Contains(o.text+o.edges, name) {
			return fmt.Sprintf("%s must not see %s, but does by call %d, %s:\n  %s", peopleNames[st.who], name, st.n, st, o)
		}
	}
	if o.code == store.CodeOK && isAbout && !may[about] && o.text != "" {
		return fmt.Sprintf("%s must not see rows of others, but does by call %d, %s:\n  %s", peopleNames[st.who], st.n, st, o)
	}
	return ""
}

// honours returns how o differs from what the caller's role in the thread allows, or "". truth is the answer of the base.
func (c *check) honours(role sharing.Role, o, truth observation) string {
	st := o.step
	if st.odd == badThreadID || st.odd == badItemID {
		return ""
	}
	wrong := ""
	switch {
	case st.isRead():
		if o.code != truth.code || o.code == store.CodeOK && (o.text != truth.text || o.edges != truth.edges) {
			wrong = "it should be the answer of the base"
		}
		c.shared++
		if st.op == store.OpLoadAttachment && o.code == store.CodeOK {
			c.byThread++
		}
	case truth.code == store.CodeNotFound && st.op != store.OpDeleteThread: // the thread is missing
	case role == sharing.Viewer || st.op == store.OpDeleteThread:
		if o.code != store.CodeDenied && o.code != store.CodeInvalid {
			wrong = "it should be denied"
		}
	case o.code == store.CodeDenied:
		wrong = "it should not be denied"
	case st.mode == store.Upsert && st.odd == oddities && !st.embeds && !st.conditional && (st.op == store.OpSaveThread || st.op == store.OpSaveItem):
		c.edited++
		if o.code != store.CodeOK {
			wrong = "it should succeed"
		}
	}
	if wrong == "" {
		return ""
	}
	return fmt.Sprintf("%s has the role %s in the thread and makes call %d, %s; %s:\n  observed %s\n  the base %s",
		peopleNames[st.who], roleNames[role], st.n, st, wrong, o, truth)
}

func traceText(trace []step) string {
	var b strings.Builder
	for _, s := range trace {
		fmt.Fprintf(&b, "%3d. %s\n", s.n, s)
	}
	return b.String()
}
