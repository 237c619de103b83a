// Package outcomes tests what an adapter reports when its database fails or when the caller's context ends during a call.
package outcomes

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

// Commit is the name of the step that makes a write take effect.
const Commit = "commit"

// Step does a step of a call, such as a statement, or fails in its place.
type Step func(name string, do func() error) error

// Test makes each step of each call fail, one after the other. open returns an empty store that takes its steps by step.
func Test(t *testing.T, open func(t *testing.T, step Step) store.Store) {
	for _, c := range calls {
		for _, f := range faults {
			t.Run(c.name+"/"+f.name, func(t *testing.T) {
				n := 0
				for try(t, open, c, f, n) {
					n++
				}
				if n == 0 {
					t.Error("the call has no step")
				}
			})
		}
	}
}

var errDown = errors.New("the database is down")

type fault struct {
	name    string
	ctx     bool // the context ends, and the database works
	applied bool // the step was done
	strike  func(cancel func(), do func() error) error
}

var faults = []fault{
	{"the step fails", false, false, func(_ func(), _ func() error) error { return errDown }},
	{"the answer is lost", false, true, func(_ func(), do func() error) error { return errors.Join(do(), errDown) }},
	{"the context ends", true, true, func(cancel func(), do func() error) error {
		cancel()
		time.Sleep(2 * time.Millisecond) // for goroutines that wait for this
		return do()
	}},
}

type call struct {
	name     string
	threadID string // "": the call reports no version
	read     bool
	make     func(ctx context.Context, s store.Store) error
}

var calls = []call{
	{"SaveThread", "thr_1", false, func(ctx context.Context, s store.Store) error { return s.SaveThread(ctx, thread("thr_1", "B")) }},
	{"SaveThread of a new thread", "thr_2", false, func(ctx context.Context, s store.Store) error {
		return s.SaveThread(ctx, thread("thr_2", "B"))
	}},
	{"DeleteThread", "thr_1", false, func(ctx context.Context, s store.Store) error { return s.DeleteThread(ctx, "thr_1") }},
	{"AddThreadItem", "thr_1", false, func(ctx context.Context, s store.Store) error {
		return s.AddThreadItem(ctx, "thr_1", item("msg_2", "B"))
	}},
	{"SaveItem", "thr_1", false, func(ctx context.Context, s store.Store) error {
		return s.SaveItem(ctx, "thr_1", item("msg_1", "B"))
	}},
	{"SaveItem under a version", "thr_1", false, func(ctx context.Context, s store.Store) error {
		return s.SaveItem(store.IfVersion(ctx, "thr_1", 2), "thr_1", item("msg_1", "B"))
	}},
	{"DeleteThreadItem", "thr_1", false, func(ctx context.Context, s store.Store) error {
		return s.DeleteThreadItem(ctx, "thr_1", "msg_1")
	}},
	{"SaveAttachment", "", false, func(ctx context.Context, s store.Store) error { return s.SaveAttachment(ctx, attachment("B")) }},
	{"DeleteAttachment", "", false, func(ctx context.Context, s store.Store) error { return s.DeleteAttachment(ctx, "atc_1") }},
	{"LoadThread", "thr_1", true, func(ctx context.Context, s store.Store) error { return only(s.LoadThread(ctx, "thr_1")) }},
	{"LoadThreads", "", true, func(ctx context.Context, s store.Store) error { return only(s.LoadThreads(ctx, store.ThreadQuery{})) }},
	{"LoadThreadItems", "thr_1", true, func(ctx context.Context, s store.Store) error {
		return only(s.LoadThreadItems(ctx, "thr_1", store.PageQuery{}))
	}},
	{"LoadThreads behind a thread", "", true, func(ctx context.Context, s store.Store) error {
		q := store.ThreadQuery{PageQuery: store.PageQuery{After: "thr_1"}, Owner: store.OwnedBy(owner)}
		return only(s.LoadThreads(ctx, q))
	}},
	{"LoadThreadItems behind an item", "thr_1", true, func(ctx context.Context, s store.Store) error {
		return only(s.LoadThreadItems(ctx, "thr_1", store.PageQuery{After: "msg_1"}))
	}},
	{"LoadItem", "thr_1", true, func(ctx context.Context, s store.Store) error { return only(s.LoadItem(ctx, "thr_1", "msg_1")) }},
	{"LoadAttachment", "", true, func(ctx context.Context, s store.Store) error { return only(s.LoadAttachment(ctx, "atc_1")) }},
}

func only[T any](_ T, err error) error { return err }

var owner = chat.Owner{Tenant: "acme", Subject: "ada"}

func thread(id, title string) chat.Thread {
	return chat.Thread{ID: id, Title: title, CreatedAt: time.Unix(1_700_000_000, 0), Owner: owner}
}

func item(id, text string) chat.Item {
	body := chat.UserMessage{Content: []chat.UserContent{{Text: text}}}
	return testenv.OrPanic(chat.NewItem(id, time.Unix(1_700_000_001, 0), body))
}

func attachment(name string) chat.Attachment {
	a := testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: name}))
	a.Owner = owner
	return a
}

// try makes the call with a fault in its nth step, and reports whether it has so many steps.
func try(t *testing.T, open func(*testing.T, Step) store.Store, c call, f fault, n int) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var (
		mu      sync.Mutex // package database/sql takes some steps in goroutines of its own
		calling bool
		steps   int
		commits int
		struck  string
	)
	s := open(t, func(name string, do func() error) error {
		mu.Lock()
		strike := calling && steps == n
		if calling {
			steps++
			if name == Commit {
				commits++
			}
		}
		if strike {
			struck = name
		}
		mu.Unlock()
		if strike {
			return f.strike(cancel, do)
		}
		return do()
	})
	during := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		calling = on
	}
	testenv.Must(t, s.SaveThread(t.Context(), thread("thr_1", "A")))
	testenv.Must(t, s.AddThreadItem(t.Context(), "thr_1", item("msg_1", "A")))
	testenv.Must(t, s.SaveAttachment(t.Context(), attachment("A")))
	before, rows := version(t, s, c.threadID), look(t, s)

	var reported []uint64
	during(true)
	err := c.make(callctx.WithVersionRecorder(ctx, func(_ string, b, a uint64) { reported = append(reported, b, a) }), s)
	during(false)
	if struck == "" {
		return false
	}
	after, changed := version(t, s, c.threadID), look(t, s) != rows

	outcome := func(code store.Code, notApplied, definite, changed bool) string {
		return fmt.Sprintf("code %v, ErrNotApplied %t, definite %t, changed %t", code, notApplied, definite, changed)
	}
	got, want := outcome(store.CodeOf(err), errors.Is(err, store.ErrNotApplied), store.IsDefinite(err), changed), ""
	switch atCommit := struck == Commit; {
	case f.ctx && (err == nil || atCommit), c.read && atCommit:
		want = outcome(store.CodeOK, false, true, !c.read)
	case f.ctx:
		want = outcome(store.CodeCanceled, true, true, false)
	case !atCommit:
		want = outcome(store.CodeUnavailable, true, true, false)
	default:
		want = outcome(store.CodeUnavailable, false, false, f.applied)
	}
	if got != want {
		t.Errorf("step %d, %s: got %s, want %s; the error is %v", n, struck, got, want, err)
	}
	if commits > 1 {
		t.Errorf("step %d, %s: %d commits, want one at most", n, struck, commits)
	}
	counted := before
	if changed {
		counted++
	}
	if c.threadID != "" && after != counted {
		t.Errorf("step %d, %s: the version is %d, then %d, want %d", n, struck, before, after, counted)
	}
	switch {
	case (err != nil || c.threadID == "") && reported != nil:
		t.Errorf("step %d, %s: the versions %d are reported with the error %v, want none", n, struck, reported, err)
	case err == nil && c.threadID != "" && fmt.Sprint(reported) != fmt.Sprint([]uint64{before, counted}):
		t.Errorf("step %d, %s: the versions %d are reported, want %d and %d", n, struck, reported, before, counted)
	}
	return true
}

// version returns a thread's version.
func version(t *testing.T, s store.Store, threadID string) (v uint64) {
	t.Helper()
	if threadID == "" {
		return 0
	}
	ctx := callctx.WithVersionRecorder(t.Context(), func(_ string, _, after uint64) { v = after })
	testenv.Must(t, only(s.LoadThreadItems(ctx, threadID, store.PageQuery{})))
	return v
}

// look returns all rows as text.
func look(t *testing.T, s store.Store) string {
	t.Helper()
	var b strings.Builder
	threads := testenv.Value(s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()}))(t)
	for _, th := range threads.Data {
		fmt.Fprintln(&b, th.JSON())
		for _, it := range testenv.Value(s.LoadThreadItems(t.Context(), th.ID, store.PageQuery{}))(t).Data {
			fmt.Fprintln(&b, it.JSON())
		}
	}
	a, err := s.LoadAttachment(t.Context(), "atc_1")
	fmt.Fprintln(&b, a.JSON(), store.CodeOf(err))
	return b.String()
}
