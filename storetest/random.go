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
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
	"github.com/chatstore/chatstore/storetest/internal/rows"
	"github.com/chatstore/chatstore/storetest/internal/spec"
)

// Random makes random calls, one after the other, on the Store that open returns and on a simple model of the contract. It compares
// every answer: the values, byte for byte, the errors, the edges of pages, and the thread versions, if the Store reports any.
//
//	func TestRandomCalls(t *testing.T) {
//		storetest.Random(t, func(t *testing.T) store.Store { return mystore.New() })
//	}
//
// Where [Run] checks one promise after the other, Random finds what goes wrong only between them. open is called for each sequence
// of calls: a hundred, or twenty with -short. It may return the same Store every time: ids and owners are new in each. Only in an
// empty one are listings of everybody's threads, and of nobody's, checked too. Random closes nothing. A guarded Store is called by
// the owner of the row.
//
// A sequence that fails is made shorter, and printed call by call, with the flags that repeat it. Those are of
// [pgregory.net/rapid], as is -rapid.checks=10000, which tries as many sequences, and as are the files below testdata/rapid, which it
// writes for sequences that fail and plays first from then on.
func Random(t *testing.T, open func(t *testing.T) store.Store, opts ...RandomOption) {
	t.Helper()
	random(t, func() store.Store { return open(t) }, opts...)
}

// RandomOption changes what [Random] does.
type RandomOption func(*randomConfig)

type randomConfig struct{ oneIn int }

// WithOneIn has only one in n of the sequences played: for a Store that is slow, or one of many stacks. WithOneIn panics unless n
// is positive.
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
		// Once one has failed, all that follows is about that one.
		was := failed
		failed = true
		newSequence(rt, open(), ids).play(rt)
		failed = was
	})
}

// sequence is one sequence of calls, on a Store and on the model.
type sequence struct {
	s     store.Store
	model *spec.Store
	empty bool // at the begin: so listings of all are ours
	calm  bool // one caller, one thread, few items, short pages: what a layer holds is then used

	threadIDs, itemIDs, attachmentIDs []string
	crowd                             []string // more item ids, for a thread of more than a page
	owners                            []chat.Owner

	names   *strings.Replacer // of the ids, which are others in each run: rapid would take that for another failure
	made    []madeCall
	reports bool // versions
}

// madeCall is a call that was made, and what came of it.
type madeCall struct {
	call.Call
	came call.Answer
}

func newSequence(rt *rapid.T, s store.Store, m *rows.Mint) *sequence {
	q := &sequence{s: s, model: spec.New(layer.Guarded(s))}
	var names []string
	called := func(name, id string) string {
		names = append(names, id, name)
		return id
	}
	// Among the ids are some that a Store could take for one: of two kinds of rows, in another case, with a space, too long.
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

// ownerOf is whose an id is, behind a guard.
func (q *sequence) ownerOf(ids []string, id string) chat.Owner {
	return q.owners[max(0, slices.Index(ids, id))%len(q.owners)]
}

func (q *sequence) play(rt *rapid.T) {
	if once(rt, 8) {
		q.fill(rt)
	}
	step := func(rt *rapid.T) { q.make(rt, q.call().Draw(rt, "call").Call) }
	for range 2 { // of one, half the lengths are below 20
		rt.Repeat(map[string]func(*rapid.T){"a call": step})
	}
	q.end(rt)
}

// fill makes a thread of more items than a page has by default.
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

// end reads everything, by pages: what a call broke, and no other met.
func (q *sequence) end(rt *rapid.T) {
	page := store.PageQuery{Limit: pick(rt, 1000, 3, 2), Order: pick(rt, store.OldestFirst, store.NewestFirst)}
	read := func(op store.Op, by chat.Owner, id string) {
		c := call.Call{Op: op, Thread: chat.Thread{ID: id}, Attachment: chat.Attachment{ID: id}, By: store.Principal{Owner: by}}
		if c.Query.PageQuery = page; op == store.OpLoadThreads {
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
		if !o.IsZero() {
			read(store.OpLoadThreads, o, "")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(q.model.Attachments)) {
		read(store.OpLoadAttachment, q.ownerOf(q.attachmentIDs, id), id)
	}
}

// make makes a call, on the model and on the Store, compares, and returns what the model says.
func (q *sequence) make(rt *rapid.T, c call.Call) call.Answer {
	rt.Helper()
	want, v := q.model.Play(c)
	var heard []spec.Version
	ctx := callctx.WithVersionRecorder(c.Context(rt.Context()), func(id string, before, after uint64) {
		if id == c.Thread.ID {
			heard = append(heard, spec.Version{Before: before, After: after, Due: v.Due})
		}
	})
	got := c.Make(ctx, q.s)
	came := got
	came.Err = nil // its code will do
	came.Items.Data, came.Threads.Data = slices.Clone(got.Items.Data), slices.Clone(got.Threads.Data)
	q.made = append(q.made, madeCall{c, came})

	if !got.Equal(want) {
		d := cmp.Diff(lines(want), lines(got))
		q.fail(rt, "got %s (-want +got):\n%s", report.Error(got.Err), d)
	}
	if got.Err != nil {
		if sentinel := sentinels[want.Code]; !errors.Is(got.Err, sentinel) {
			q.fail(rt, "got %s, in which errors.Is does not find %v", report.Error(got.Err), sentinel)
		}
		q.checkText(rt, got.Err.Error())
	}
	q.reports = q.reports || len(heard) > 0
	switch {
	case len(heard) > 0 && heard[len(heard)-1] != v:
		last := heard[len(heard)-1]
		q.fail(rt, "reported version %d before and %d after, want %d and %d", last.Before, last.After, v.Before, v.After)
	case len(heard) == 0 && v.Due && q.reports:
		q.fail(rt, "reported no version, though others did; want %d before and %d after", v.Before, v.After)
	}
	// What was returned is the caller's.
	clear(got.Items.Data)
	clear(got.Threads.Data)
	return want
}

// sentinels are the errors that errors.Is must find in one of a code.
var sentinels = map[store.Code]error{
	store.CodeNotFound: store.ErrNotFound,
	store.CodeConflict: store.ErrConflict,
	store.CodeInvalid:  store.ErrInvalid,
	store.CodeCanceled: context.Canceled,
	store.CodeTimeout:  context.DeadlineExceeded,
}

func lines(a call.Answer) []string { return append(a.Rows(), a.Code.String(), a.Edges()) }

// checkText wants none of what is saved in an error's text.
func (q *sequence) checkText(rt *rapid.T, text string) {
	rt.Helper()
	secrets := []string{content}
	for _, o := range q.owners {
		secrets = append(secrets, o.Tenant, o.Subject)
	}
	for _, s := range secrets {
		if s != "" && strings.Contains(text, s) {
			q.fail(rt, "the error %q says %q", text, s)
		}
	}
}

// fail ends the sequence at its last call.
func (q *sequence) fail(rt *rapid.T, format string, args ...any) {
	rt.Helper()
	var calls strings.Builder
	for i, m := range q.made {
		fmt.Fprintf(&calls, "%3d. %s: %s\n", i+1, m.Whole(), m.Came(m.came))
	}
	text := calls.String() + fmt.Sprintf(format, args...)
	rt.Fatalf("the last of these calls is wrong:\n%s", report.Printable(q.names.Replace(text)))
}
