package storetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/chatstore/chatstore/store"
)

// Random makes random calls, one after the other, on the Store that open returns, and on a model of the contract that is as
// simple as it can be said, and compares every answer: the values, byte for byte, the class of the error, the page's edges,
// and the thread versions, if the Store reports any.
//
//	func TestRandomCalls(t *testing.T) {
//		storetest.Random(t, func(t *testing.T) store.Store { return mystore.New() })
//	}
//
// Where [Run] checks one promise after the other, Random finds what goes wrong only between them. open is called for each
// sequence of calls, some hundred of them, and may return the same Store every time: ids and owners are new in each. But only
// in an empty one are listings of everybody's threads, and of nobody's, checked as well. Random closes nothing.
//
// A sequence that fails is shrunk, and printed call by call, last and after what rapid has to say. How many are tried is a matter of flags, those of
// pgregory.net/rapid: -rapid.checks=1000 tries 1,000 (the default is 100), -rapid.seed repeats one.
func Random(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	random(t, func() store.Store { return open(t) })
}

func random(t rapid.TB, open func() store.Store) {
	t.Helper()
	m := newMint()
	rapid.Check(t, func(rt *rapid.T) {
		newSequence(rt, open(), m).run(rt)
	})
}

// sequence is one sequence of calls.
type sequence struct {
	s           store.Store
	guarded     bool
	empty       bool // at the begin: so listings of all are ours
	threadIDs   []string
	itemIDs     []string
	attachments []string
	owners      []store.Owner
	names       *strings.Replacer // of the ids, which are others in each run: rapid takes that for another failure
	log         []string          // the calls so far

	threads map[string]*modelThread
	stored  map[string]modelAttachment
	seq     int
}

type modelThread struct {
	threadSpec
	seq     int // of its insertion
	version uint64
}

type modelAttachment struct {
	exists, used bool
	owner        store.Owner
	row          store.Attachment
}

func newSequence(rt *rapid.T, s store.Store, m *mint) *sequence {
	q := &sequence{s: s, guarded: store.Guarded(s), threads: map[string]*modelThread{}, stored: map[string]modelAttachment{}}
	var names []string
	id := func(prefix, name string) string {
		id := m.id(prefix)
		names = append(names, id, name)
		return id
	}
	for i := range 3 {
		q.threadIDs = append(q.threadIDs, id("thr", fmt.Sprint("thread", i+1)))
		q.attachments = append(q.attachments, id("atc", fmt.Sprint("attachment", i+1)))
	}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		q.itemIDs = append(q.itemIDs, id("msg", name))
	}
	tenant := id("tenant", "acme")
	ada, bob, cleo := id("ada", "ada"), id("bob", "bob"), id("cleo", "cleo")
	q.names = strings.NewReplacer(names...)
	q.owners = []store.Owner{{Tenant: tenant, Subject: ada}, {Tenant: tenant, Subject: bob}}
	if !q.guarded {
		q.owners = append(q.owners, store.Owner{Subject: cleo}, store.Owner{})
		p, err := s.LoadThreads(rt.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
		q.empty = err == nil && len(p.Data) == 0
	}
	return q
}

func (q *sequence) run(rt *rapid.T) {
	q.begin(rt)
	rt.Repeat(map[string]func(*rapid.T){"call": func(rt *rapid.T) {
		switch rapid.IntRange(0, 9).Draw(rt, "kind") {
		case 8:
			q.listing(rt)
		case 9:
			q.attachment(rt)
		default:
			q.thread(rt)
		}
	}})
}

// did notes a call, and what came of it.
func (q *sequence) did(what, came any) {
	q.log = append(q.log, q.names.Replace(fmt.Sprintf("%3d. %v -> %v", len(q.log)+1, what, came)))
}

// fail ends the sequence at its last call.
func (q *sequence) fail(rt *rapid.T, format string, args ...any) {
	rt.Helper()
	rt.Fatalf("%s\n\nThe calls:\n%s\n", q.names.Replace(fmt.Sprintf(format, args...)), strings.Join(q.log, "\n"))
}

// begin makes some threads with items: from nothing, random calls take long to get anywhere.
func (q *sequence) begin(rt *rapid.T) {
	for i := range rapid.IntRange(0, 3).Draw(rt, "threads") {
		id := q.threadIDs[i]
		owner := q.ownerFor(rt, id, q.threadIDs)
		q.make(rt, command{op: store.OpSaveThread, thread: q.newThread(rt, id, owner)}, owner)
		for j := range rapid.IntRange(0, 6).Draw(rt, "items") {
			it := q.newItem(rt, id)
			it.ID, it.ThreadID = q.itemIDs[j], ""
			q.make(rt, command{op: store.OpAddThreadItem, thread: store.Thread{ID: id}, item: it}, owner)
		}
	}
}

func pick[T any](rt *rapid.T, label string, from []T) T {
	return rapid.SampledFrom(from).Draw(rt, label)
}

func chance(rt *rapid.T, label string, n int) bool { return rapid.IntRange(1, n).Draw(rt, label) == n }

// impossibleIDs are ids that there cannot be.
var impossibleIDs = []string{"", "a\nb", strings.Repeat("x", 257), "\xff"}

func (q *sequence) id(rt *rapid.T, label string, from []string) string {
	if chance(rt, label+" is bad", 40) {
		return pick(rt, label, impossibleIDs)
	}
	return pick(rt, label, from)
}

// as returns a context for a call by the owner, which is cancelled every now and then.
func (q *sequence) as(rt *rapid.T, o store.Owner) (ctx context.Context, cancelled bool) {
	ctx = rt.Context()
	if !o.IsZero() {
		ctx = store.WithPrincipal(ctx, store.Principal{Owner: o})
	}
	if !chance(rt, "cancelled", 30) {
		return ctx, false
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx, true
}

// ownerFor returns who makes a call on a row: under a guard, always the same one, as what others may is the guard's to say.
func (q *sequence) ownerFor(rt *rapid.T, id string, of []string) store.Owner {
	if q.guarded {
		return q.owners[max(0, slices.Index(of, id))%len(q.owners)]
	}
	return pick(rt, "owner", q.owners)
}

// listener hears of versions.
type listener struct{ reports [][2]uint64 }

func (l *listener) on(ctx context.Context, threadID string) context.Context {
	return store.WithVersionRecorder(ctx, func(id string, before, after uint64) {
		if id == threadID {
			l.reports = append(l.reports, [2]uint64{before, after})
		}
	})
}

var (
	randomOps = []store.Op{store.OpLoadThread, store.OpLoadThreadItems, store.OpLoadThreadItems, store.OpLoadThreadItems, store.OpLoadItem,
		store.OpSaveThread, store.OpSaveThread, store.OpDeleteThread, store.OpAddThreadItem, store.OpAddThreadItem, store.OpAddThreadItem,
		store.OpSaveItem, store.OpSaveItem, store.OpDeleteThreadItem}
	randomLimits = []int{0, 1, 2, 3, 3, 20, 1000, 1001, -1}
	randomModes  = []store.SaveMode{store.Upsert, store.Upsert, store.Upsert, store.InsertOnly, store.UpdateOnly, store.UpdateOnly, store.InsertOnly, store.UpdateOnly + 1}
)

// thread makes a call on one thread.
func (q *sequence) thread(rt *rapid.T) {
	in := command{op: pick(rt, "op", randomOps), mode: store.Upsert}
	id := q.id(rt, "thread", q.threadIDs)
	owner := q.ownerFor(rt, id, q.threadIDs)
	in.thread.ID = id
	switch in.op {
	case store.OpSaveThread:
		in.thread, in.mode = q.newThread(rt, id, owner), pick(rt, "mode", randomModes)
	case store.OpAddThreadItem:
		in.item = q.newItem(rt, id)
	case store.OpSaveItem:
		in.item, in.mode = q.newItem(rt, id), pick(rt, "mode", randomModes)
	case store.OpLoadItem, store.OpDeleteThreadItem:
		in.item.ID = q.id(rt, "item", q.itemIDs)
	case store.OpLoadThreadItems:
		in.query = q.page(rt, q.itemIDs)
	}
	q.make(rt, in, owner)
}

// make makes a call on one thread, on the Store and on the model.
func (q *sequence) make(rt *rapid.T, in command, owner store.Owner) {
	id := in.thread.ID
	t := q.threads[id]
	if t == nil {
		t = new(modelThread)
	}
	if q.guarded && t.used {
		owner = t.owner
	}
	ctx, cancelled := q.as(rt, owner)
	told := in
	told.thread.Owner = q.owning(t.used, in.thread.Owner, owner)
	after, want := told.expected(t.threadSpec, cancelled)

	var heard listener
	got, err := in.call(heard.on(ctx, id), q.s)
	what := fmt.Sprintf("%s, %s", in, abridgedID(id))
	if !owner.IsZero() {
		what += ", by " + owner.Subject
	}
	came := got.String()
	if in.op.IsWrite() {
		came = got.code.String()
	}
	q.did(what, came)
	q.compare(rt, what, got, want, err)

	version := t.version
	if want.code == store.CodeOK && in.op.IsWrite() {
		if in.changes(t.threadSpec) {
			version++
		}
		if after.exists && !t.exists {
			q.seq++
			t.seq = q.seq
		}
		t.threadSpec = after
		q.threads[id] = t
	}
	for _, r := range heard.reports {
		if r[1] != version || r[0] != t.version && r[0] != r[1] {
			q.fail(rt, "%s reported the versions %d before and %d after, want %d and %d", what, r[0], r[1], t.version, version)
		}
	}
	t.version = version
}

// owning is the owner that a save names: under a guard, of an insert that names none, the caller.
func (q *sequence) owning(used bool, named, caller store.Owner) store.Owner {
	if q.guarded && !used && named.IsZero() {
		return caller
	}
	return named
}

// expected returns what the contract says of a call: arguments first, then the context, then the rows.
func (c command) expected(s threadSpec, cancelled bool) (after threadSpec, want answer) {
	norm, err := c.normalized()
	switch {
	case err != nil:
		return s, answer{code: store.CodeOf(err)}
	case cancelled:
		return s, answer{code: store.CodeCanceled}
	}
	return norm.on(s)
}

// normalized is the command as the contract takes it, or ErrInvalid.
func (c command) normalized() (command, error) {
	err := store.CheckID(c.op, store.KindOfThread, c.thread.ID)
	if err != nil {
		return c, err
	}
	switch c.op {
	case store.OpSaveThread:
		c.thread, err = store.NormalizeThread(c.op, c.thread)
	case store.OpAddThreadItem, store.OpSaveItem:
		c.item, err = store.NormalizeItem(c.op, c.thread.ID, c.item)
	case store.OpLoadThreadItems:
		c.query, err = store.NormalizeQuery(c.op, store.KindOfItem, c.query)
	case store.OpLoadItem, store.OpDeleteThreadItem:
		err = store.CheckID(c.op, store.KindOfItem, c.item.ID)
	}
	if err == nil && c.mode > store.UpdateOnly {
		err = store.ErrInvalid
	}
	return c, err
}

// changes reports whether a write that succeeds on s changes it.
func (c command) changes(s threadSpec) bool {
	switch c.op {
	case store.OpDeleteThread:
		return s.exists
	case store.OpDeleteThreadItem:
		return s.find(c.item.ID) >= 0
	}
	return true
}

func (q *sequence) compare(rt *rapid.T, what string, got, want answer, err error) {
	if !got.equal(want) {
		q.fail(rt, "%s:\n got %s (error %v)\nwant %s", what, got, err, want)
	}
	if g, w := got.text(), want.text(); g != w {
		q.fail(rt, "%s came back with other bytes than were saved:\n got %s\nwant %s", what, g, w)
	}
}

// text is the JSON of all that is in the answer.
func (a answer) text() string {
	var b strings.Builder
	b.WriteString(a.thread.JSON().String())
	b.WriteString(a.item.JSON().String())
	for _, it := range a.page.Data {
		b.WriteString(it.JSON().String())
	}
	return b.String()
}

func (q *sequence) page(rt *rapid.T, cursors []string) store.PageQuery {
	p := store.PageQuery{Limit: pick(rt, "limit", randomLimits), Order: store.Order(rapid.IntRange(0, 1).Draw(rt, "order"))}
	if chance(rt, "after", 3) {
		p.After = q.id(rt, "cursor", cursors)
	}
	return p
}

// oddThreads are texts that a Store must keep as they are.
var oddThreads = []string{`{}`, pythonThread, nodeThread, ` { "status" : {"type":"locked","more":1} , "new":[1.0,12345678901234567890] } `}

func (q *sequence) newThread(rt *rapid.T, id string, owner store.Owner) store.Thread {
	t, err := store.ParseThread(pick(rt, "thread's text", oddThreads))
	if err != nil {
		rt.Fatalf("package store refuses a text of the check: %v", err)
	}
	t.ID, t.Owner = id, owner
	t.Title = pick(rt, "title", []string{"", "a", "b\u2028\"\\"})
	t.CreatedAt = at(rapid.IntRange(0, 2).Draw(rt, "second"))
	if chance(rt, "zero owner", 5) {
		t.Owner = store.Owner{}
	}
	return t
}

func (q *sequence) newItem(rt *rapid.T, threadID string) store.Item {
	texts := append(slices.Clone(variants), pythonItem, nodeItem, ` {"type":"new.kind", "x":[1.0,null]}`)
	if q.guarded { // which attachments a message may have is the guard's to say
		texts = slices.DeleteFunc(texts, func(text string) bool { return strings.Contains(text, "ATTACHMENT") })
	}
	text := strings.ReplaceAll(pick(rt, "item's text", texts), "ATTACHMENT", "atc_1")
	it, err := store.ParseItem(text)
	if err != nil {
		rt.Fatalf("package store refuses a text of the check: %v", err)
	}
	it.ID, it.ThreadID = q.id(rt, "item", q.itemIDs), ""
	it.CreatedAt = at(rapid.IntRange(0, 3).Draw(rt, "second")).Add(999) // nanoseconds, which are cut off
	switch rapid.IntRange(0, 19).Draw(rt, "thread_id") {
	case 0:
		it.ThreadID = pick(rt, "thread_id", q.threadIDs)
	case 1, 2:
		it.ThreadID = threadID
	}
	return it
}

// listing lists threads.
func (q *sequence) listing(rt *rapid.T) {
	by := pick(rt, "caller", q.owners)
	filters := []store.OwnerFilter{store.OwnedBy(by)}
	if q.guarded {
		filters = append(filters, store.OwnerFilter{}) // the caller's own
	} else {
		filters = append(filters, store.InTenant(q.owners[0].Tenant))
		if q.empty {
			filters = append(filters, store.OwnerFilter{}, store.AnyOwner())
		} else if by.IsZero() {
			by = q.owners[0]
			filters[0] = store.OwnedBy(by)
		}
	}
	in := listThreads{by, store.ThreadQuery{PageQuery: q.page(rt, q.threadIDs), Owner: pick(rt, "filter", filters)}}
	ctx, cancelled := q.as(rt, by)

	var want store.Page[store.Thread]
	norm, err := store.NormalizeThreadQuery(in.q)
	switch {
	case err != nil:
	case cancelled:
		err = context.Canceled
	default:
		if q.guarded && norm.Owner == (store.OwnerFilter{}) {
			norm.Owner = store.OwnedBy(by)
		}
		want, err = q.list(norm)
	}
	code := store.CodeOf(err)

	got, err := q.s.LoadThreads(ctx, in.q)
	q.did(in, threadsName(got))
	same := store.CodeOf(err) == code && got.HasMore == want.HasMore && got.After == want.After && len(got.Data) == len(want.Data)
	for i := range want.Data {
		same = same && got.Data[i].Equal(want.Data[i]) && got.Data[i].Owner == want.Data[i].Owner && got.Data[i].JSON() == want.Data[i].JSON()
	}
	if !same {
		q.fail(rt, "%s:\n got %s (error %v)\nwant %s (%s)", in, threadsName(got), err, threadsName(want), code)
	}
}

// list is what the contract says of a listing.
func (q *sequence) list(in store.ThreadQuery) (store.Page[store.Thread], error) {
	var rows []specRow[store.Thread]
	for id, t := range q.threads {
		if t.exists && in.Owner.Match(t.owner) {
			rows = append(rows, specRow[store.Thread]{id: id, at: t.threadSpec.thread.CreatedAt, seq: t.seq, row: t.threadSpec.thread})
		}
	}
	slices.SortFunc(rows, bySpec)
	return specPage(rows, in.PageQuery)
}

type listThreads struct {
	by store.Owner
	q  store.ThreadQuery
}

func (l listThreads) String() string {
	return fmt.Sprintf("load_threads(%s, %+v) as %+v", filterName(l.q.Owner), l.q.PageQuery, l.by)
}

func threadsName(p store.Page[store.Thread]) string {
	return fmt.Sprintf("%v more %v after %q", threadIDs(p.Data), p.HasMore, p.After)
}

// attachment makes a call on one attachment.
func (q *sequence) attachment(rt *rapid.T) {
	id := q.id(rt, "attachment", q.attachments)
	owner := q.ownerFor(rt, id, q.attachments)
	mode := store.Upsert
	op := pick(rt, "attachment's op", []store.Op{store.OpSaveAttachment, store.OpSaveAttachment, store.OpLoadAttachment, store.OpDeleteAttachment})
	var row store.Attachment
	if op == store.OpSaveAttachment {
		row, mode = q.newAttachment(rt, id, owner), pick(rt, "mode", randomModes)
	}
	m := q.stored[id]
	ctx, cancelled := q.as(rt, owner)

	after, want, err := m, store.Attachment{}, store.CheckID(op, store.KindOfAttachment, id)
	if err == nil && op == store.OpSaveAttachment {
		if row2, invalid := store.NormalizeAttachment(op, row); invalid != nil || mode > store.UpdateOnly {
			err = store.ErrInvalid
		} else {
			after.row = row2
			after.row.Owner = q.owning(m.used, row.Owner, owner)
		}
	}
	switch {
	case err != nil:
	case cancelled:
		err = context.Canceled
	case op == store.OpLoadAttachment && !m.exists:
		err = store.ErrNotFound
	case op == store.OpLoadAttachment:
		want = m.row
	case op == store.OpDeleteAttachment:
		after.exists = false
	default:
		if err = specMode(mode, m.exists); err == nil {
			after.owner, err = specOwner(m.used, m.owner, after.row.Owner)
			after.exists, after.used, after.row.Owner = true, true, after.owner
		}
	}
	code := store.CodeOf(err)

	var got store.Attachment
	switch op {
	case store.OpLoadAttachment:
		got, err = q.s.LoadAttachment(ctx, id)
	case store.OpDeleteAttachment:
		err = q.s.DeleteAttachment(ctx, id)
	default:
		err = q.s.SaveAttachment(store.WithSaveMode(ctx, mode), row)
	}
	what := fmt.Sprintf("%s(%q, by %+v%s)", op, abridgedID(id), owner, modeName(mode))
	q.did(what, store.CodeOf(err))
	if store.CodeOf(err) != code || !got.Equal(want) || got.Owner != want.Owner || got.JSON() != want.JSON() {
		q.fail(rt, "%s:\n got %v (error %v)\nwant %v (%s)", what, view(got), err, view(want), code)
	}
	if code == store.CodeOK {
		q.stored[id] = after
	}
}

func (q *sequence) newAttachment(rt *rapid.T, id string, owner store.Owner) store.Attachment {
	a, err := store.ParseAttachment(pick(rt, "attachment's text", []string{pythonAttachment, nodeAttachment, ` {"type":"file", "x":1.0}`}))
	if err != nil {
		rt.Fatalf("package store refuses a text of the check: %v", err)
	}
	a.ID, a.Owner = id, owner
	a.ThreadID = pick(rt, "thread_id", append([]string{""}, q.threadIDs...))
	if chance(rt, "zero owner", 5) {
		a.Owner = store.Owner{}
	}
	return a
}
