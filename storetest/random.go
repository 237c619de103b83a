package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
	"github.com/chatstore/chatstore/storetest/internal/spec"
)

// Random makes random calls, one at a time, on the Store that open returns and on a simple model of the contract. It
// compares every answer: values byte for byte, errors, the edges of pages, and thread versions if the Store reports any.
//
//	func TestRandomCalls(t *testing.T) {
//		storetest.Random(t, func(t *testing.T) store.Store { return mystore.New() })
//	}
//
// [Run] checks one promise at a time. Random finds faults that only a combination of calls shows. It plays a hundred
// sequences of calls, or twenty with -short. Each sequence calls open, which may return the same Store every time: ids and
// owners are new in each sequence. Listings of all threads, and of threads without an owner, are checked only if the
// Store is empty at the start. Random closes no Store. If the Store is guarded, every call is made as the owner of the row.
//
// If [store.As] finds a driver.Eraser, owners are erased too.
//
// A failing sequence is shortened and printed call by call, with the flags that repeat it. The flags are those of
// [pgregory.net/rapid]; -rapid.checks=10000, for example, plays 10,000 sequences. Package rapid also saves failing
// sequences in files below testdata/rapid, and plays those first in later runs.
func Random(t *testing.T, open func(t *testing.T) store.Store, opts ...RandomOption) {
	t.Helper()
	random(t, func() store.Store { return open(t) }, opts...)
}

// RandomOption changes what [Random] does.
type RandomOption func(*randomConfig)

type randomConfig struct{ oneIn int }

// WithOneIn plays only one in n of the sequences, for a slow Store or for one of many stacks. It panics unless n is
// positive.
func WithOneIn(n int) RandomOption {
	if n <= 0 {
		panic("storetest.WithOneIn: the number must be positive")
	}
	return func(c *randomConfig) { c.oneIn = n }
}

func random(t rapid.TB, open func() store.Store, opts ...RandomOption) {
	t.Helper()
	cfg := randomConfig{oneIn: 1}
	for _, o := range opts {
		o(&cfg)
	}
	ids := rows.NewMint()
	tried, failed := 0, false
	rapid.Check(t, func(rt *rapid.T) {
		tried++
		if !failed && (tried-1)%cfg.oneIn != 0 {
			return
		}
		// After a failure, rapid shortens that sequence: all further calls belong to it.
		was := failed
		failed = true
		newSequence(rt, open(), ids).play(rt)
		failed = was
	})
}

// sequence is one sequence of calls, made on a Store and on the model.
type sequence struct {
	s      store.Store
	eraser driver.Eraser // nil if s has none
	model  *spec.Store
	empty  bool // the Store was empty at the start, so a listing of all threads has only ours
	calm   bool // one caller, one thread, few items, short pages: so that a cache is hit

	threadIDs, itemIDs, attachmentIDs []string
	crowd                             []string // more item ids, for a thread longer than a page
	owners                            []chat.Owner

	names   *strings.Replacer // names for the ids: with new ids in a message, rapid would see another failure
	made    []madeCall
	reports bool // the Store reports versions
	silent  bool // it reported none for a write
}

// madeCall is a call that was made, and its answer.
type madeCall struct {
	call.Call
	came call.Answer
	text string // of a call of another kind
}

func newSequence(rt *rapid.T, s store.Store, m *rows.Mint) *sequence {
	q := &sequence{s: s, model: spec.New(layer.Guarded(s))}
	q.eraser, _ = store.As[driver.Eraser](s)
	var names []string
	called := func(name, id string) string {
		names = append(names, id, name)
		return id
	}
	// Some ids could be confused by a Store: one id for two kinds of rows, ids that differ in case or by a space, and a very
	// long id.
	for i := range 3 {
		q.threadIDs = append(q.threadIDs, m.ID("thr"))
		called(fmt.Sprint("thread", i+1), q.threadIDs[i])
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		q.itemIDs = append(q.itemIDs, called(name, m.ID("msg")))
	}
	q.itemIDs = append(q.itemIDs, called("A", strings.ToUpper(q.itemIDs[0])), q.threadIDs[0])
	for i := range store.DefaultLimit + 1 {
		q.crowd = append(q.crowd, called(fmt.Sprint("crowd", i+1), m.ID("msg")))
	}
	long := m.ID("atc") + strings.Repeat("x", chat.MaxIDBytes)
	q.attachmentIDs = []string{called("file", m.ID("atc")), q.threadIDs[0], called("long", long[:chat.MaxIDBytes])}
	q.attachmentIDs = append(q.attachmentIDs, called("FILE", strings.ToUpper(q.attachmentIDs[0])))
	acme, corp, ada := called("acme", m.ID("acme")), called("corp", m.ID("corp")), called("ada", m.ID("ada"))
	q.owners = []chat.Owner{{Tenant: acme, Subject: ada}, {Tenant: acme, Subject: ada + " "}, {Tenant: corp, Subject: ada}}
	if !q.model.Guarded {
		q.owners = append(q.owners, chat.Owner{Subject: ada}, chat.Owner{})
		p, err := s.LoadThreads(rt.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
		q.empty = err == nil && len(p.Data) == 0
	}
	q.names = strings.NewReplacer(names...)
	if q.calm = once(rt, 2); q.calm {
		q.threadIDs, q.itemIDs, q.owners = q.threadIDs[:1], q.itemIDs[:4], q.owners[:1]
	}
	return q
}

// ownerOf returns the owner of an id, behind a guard.
func (q *sequence) ownerOf(ids []string, id string) chat.Owner {
	return q.owners[max(0, slices.Index(ids, id))%len(q.owners)]
}

func (q *sequence) play(rt *rapid.T) {
	if once(rt, 8) {
		q.fill(rt)
	}
	step := func(rt *rapid.T) {
		if q.eraser != nil && once(rt, 40) {
			q.erase(rt)
			return
		}
		q.make(rt, q.call().Draw(rt, "call").Call)
	}
	for range 2 { // after one Repeat, half of the sequences would have fewer than 20 calls
		rt.Repeat(map[string]func(*rapid.T){"a call": step})
	}
	q.end(rt)
}

// fill makes a thread with more items than a page has by default.
func (q *sequence) fill(rt *rapid.T) {
	id := q.threadIDs[0]
	by := q.ownerOf(q.threadIDs, id)
	c := call.Call{Op: store.OpSaveThread, Thread: chat.Thread{ID: id, CreatedAt: rows.At(0), Owner: by}, By: store.Principal{Owner: by}}
	q.make(rt, c)
	c.Op, c.Thread = store.OpAddThreadItem, chat.Thread{ID: id}
	for _, item := range q.crowd {
		c.Item = rows.Item(item, rows.At(rapid.IntRange(0, 3).Draw(rt, "second")), chat.EndOfTurn{})
		q.make(rt, c)
	}
}

// erase erases an owner at the base, and then deletes its rows through the Store, so that caches drop them.
func (q *sequence) erase(rt *rapid.T) {
	rt.Helper()
	o := pick(rt, q.owners...)
	if o.IsZero() {
		return
	}
	want := q.model.Erase(o)
	got, err := q.eraser.EraseOwner(rt.Context(), o)
	q.made = append(q.made, madeCall{text: "EraseOwner(" + call.Owner(o) + ")"})
	got.Threads, got.Attachments = sortedIDs(got.Threads), sortedIDs(got.Attachments)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		q.fail(rt, "got error %s (-want +got):\n%s", report.Error(err), d)
	}
	for _, id := range want.Threads {
		q.make(rt, call.Call{Op: store.OpDeleteThread, Thread: chat.Thread{ID: id}})
	}
	for _, id := range want.Attachments {
		q.make(rt, call.Call{Op: store.OpDeleteAttachment, Attachment: chat.Attachment{ID: id}})
	}
}

// end reads every row, page by page, to find damage that no call of the sequence has shown.
func (q *sequence) end(rt *rapid.T) {
	page := store.PageQuery{Limit: pick(rt, 1000, 50, 3, 2), Order: pick(rt, store.OldestFirst, store.NewestFirst)}
	read := func(op store.Op, by chat.Owner, id string) {
		c := call.Call{Op: op, Thread: chat.Thread{ID: id}, Attachment: chat.Attachment{ID: id}, By: store.Principal{Owner: by}}
		if c.Query.PageQuery = page; op == store.OpLoadThreads && by.IsZero() {
			c.Query.Owner = store.AnyOwner()
		} else if op == store.OpLoadThreads {
			c.Query.Owner = store.OwnedBy(by)
		}
		for {
			r := q.make(rt, c)
			if c.Query.After = r.Items.After + r.Threads.After; c.Query.After == "" {
				return
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(q.model.Threads)) {
		read(store.OpLoadThread, q.ownerOf(q.threadIDs, id), id)
		read(store.OpLoadThreadItems, q.ownerOf(q.threadIDs, id), id)
	}
	for _, o := range q.owners {
		if !o.IsZero() || q.empty {
			read(store.OpLoadThreads, o, "")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(q.model.Attachments)) {
		read(store.OpLoadAttachment, q.ownerOf(q.attachmentIDs, id), id)
	}
}

// make makes a call on the model and on the Store, compares the answers, and returns the model's.
func (q *sequence) make(rt *rapid.T, c call.Call) call.Answer {
	rt.Helper()
	q.model.Versions = q.reports
	want, v := q.model.Play(c)
	var heard []spec.Version
	ctx := callctx.WithVersionRecorder(c.Context(rt.Context()), func(id string, before, after uint64) {
		if id == c.Thread.ID {
			heard = append(heard, spec.Version{Before: before, After: after, Due: v.Due})
		}
	})
	got := c.Make(ctx, q.s)
	came := got
	came.Err = nil // the code is enough
	came.Items.Data, came.Threads.Data = slices.Clone(got.Items.Data), slices.Clone(got.Threads.Data)
	q.made = append(q.made, madeCall{Call: c, came: came})

	if !got.Equal(want) {
		d := cmp.Diff(lines(want), lines(got))
		q.fail(rt, "got %s (-want +got):\n%s", report.Error(got.Err), d)
	}
	// A guard does not say why it refuses the save of a thread that it cannot see.
	if got.Field != want.Field && !q.model.Guarded {
		q.fail(rt, "got an error with the Field %q, want %q", got.Field, want.Field)
	}
	if got.Err != nil {
		if sentinel := sentinels[want.Code]; !errors.Is(got.Err, sentinel) {
			q.fail(rt, "got %s, want an error for which errors.Is finds %v", report.Error(got.Err), sentinel)
		}
		q.checkText(rt, got.Err.Error())
	}
	q.reports = q.reports || len(heard) > 0
	q.silent = q.silent || len(heard) == 0 && c.Op.IsWrite() && v.Due
	switch {
	case len(heard) > 0 && heard[len(heard)-1] != v:
		last := heard[len(heard)-1]
		q.fail(rt, "reported version %d before and %d after, want %d and %d", last.Before, last.After, v.Before, v.After)
	case len(heard) == 0 && v.Due && q.reports:
		q.fail(rt, "reported no version, though earlier calls did; want %d before and %d after", v.Before, v.After)
	}
	// The caller may change returned pages.
	clear(got.Items.Data)
	clear(got.Threads.Data)
	return want
}

// sentinels has the error that errors.Is must find, by code.
var sentinels = map[store.Code]error{
	store.CodeNotFound: store.ErrNotFound,
	store.CodeConflict: store.ErrConflict,
	store.CodeInvalid:  store.ErrInvalid,
	store.CodeCanceled: context.Canceled,
	store.CodeTimeout:  context.DeadlineExceeded,
}

func lines(a call.Answer) []string { return append(a.Rows(), a.Code.String(), a.Edges()) }

// checkText wants no content and no owner in an error's text.
func (q *sequence) checkText(rt *rapid.T, text string) {
	rt.Helper()
	secrets := []string{content}
	for _, o := range q.owners {
		secrets = append(secrets, o.Tenant, o.Subject)
	}
	for _, s := range secrets {
		if s != "" && strings.Contains(text, s) {
			q.fail(rt, "the error %q contains %q, which it must not", text, s)
		}
	}
}

// fail ends the sequence. Its last call is wrong.
func (q *sequence) fail(rt *rapid.T, format string, args ...any) {
	rt.Helper()
	var calls strings.Builder
	for i, m := range q.made {
		if m.text == "" {
			m.text = m.Whole() + ": " + m.Came(m.came)
		}
		fmt.Fprintf(&calls, "%3d. %s\n", i+1, m.text)
	}
	text := calls.String() + fmt.Sprintf(format, args...)
	rt.Fatalf("the last of these calls is wrong:\n%s", report.Printable(q.names.Replace(text)))
}
