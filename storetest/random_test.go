package storetest

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

func TestRandomCallsOnMemstore(t *testing.T) {
	Random(t, func(*testing.T) store.Store { return memstore.New() })
}

// quiet is a rapid.TB that records failures instead of reporting them.
type quiet struct {
	name   string
	failed bool
	text   strings.Builder
}

func (q *quiet) Helper()                           {}
func (q *quiet) Name() string                      { return q.name }
func (q *quiet) Logf(format string, args ...any)   { fmt.Fprintf(&q.text, format+"\n", args...) }
func (q *quiet) Log(args ...any)                   { fmt.Fprintln(&q.text, args...) }
func (q *quiet) Skipf(string, ...any)              { q.SkipNow() }
func (q *quiet) Skip(...any)                       { q.SkipNow() }
func (q *quiet) SkipNow()                          { runtime.Goexit() }
func (q *quiet) Errorf(format string, args ...any) { q.Logf(format, args...); q.Fail() }
func (q *quiet) Error(args ...any)                 { q.Log(args...); q.Fail() }
func (q *quiet) Fatalf(format string, args ...any) { q.Errorf(format, args...); q.FailNow() }
func (q *quiet) Fatal(args ...any)                 { q.Error(args...); q.FailNow() }
func (q *quiet) FailNow()                          { q.Fail(); runtime.Goexit() }
func (q *quiet) Fail()                             { q.failed = true }
func (q *quiet) Failed() bool                      { return q.failed }

// tried runs random calls on the Store that open returns.
func tried(t *testing.T, open func() store.Store) *quiet {
	t.Helper()
	q := &quiet{name: t.Name()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		random(q, open)
	}()
	<-done
	return q
}

// set changes flags of rapid for a test.
func set(t *testing.T, flags map[string]string) {
	t.Helper()
	for name, value := range flags {
		f := flag.Lookup(name)
		was := f.Value.String()
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(was) })
	}
}

// unversionedBroken are further broken stores, which report no versions: versions would reveal many faults.
var unversionedBroken = []broken{
	{"a page at the end claims that there is more", on(store.OpLoadThreadItems, func(m *made) {
		if n := len(m.make().Items.Data); n > 0 && n == m.Query.Limit && !m.a.Items.HasMore {
			m.a.Items.HasMore, m.a.Items.After = true, m.a.Items.Data[n-1].ID
		}
	}), nil},
	{"equal times are ordered by id", on(store.OpLoadThreadItems, func(m *made) {
		if m.make(); m.Query.Order == store.OldestFirst && !m.a.Items.HasMore {
			slices.SortStableFunc(m.a.Items.Data, byID)
		}
	}), nil},
	{"a replaced item goes behind its ties", on(store.OpSaveItem, func(m *made) {
		if m.stored().Err == nil && m.Mode == store.Upsert && !m.Item.JSON().IsZero() {
			_ = m.base.DeleteThreadItem(m.ctx, m.Thread.ID, m.Item.ID)
		}
	}), nil},
	{"an unknown cursor is the first page", brokenPages[0].ops, nil},
}

// unseen are broken stores of the suite that sequential random calls do not reveal.
var unseen = []string{
	// These need concurrent calls.
	"AddThreadItem looks, then adds",
	"InsertOnly looks, then inserts",
	"UpdateOnly looks, then saves",
	"a late item outlives its thread",
	"the owner is read, then written",
	"a save updates, then inserts",
	"the version is read after the rows",
	"the version is read before the write",
	"SaveThread looks at the version, then writes",
	"AddThreadItem looks at the version, then writes",
	"SaveItem looks at the version, then writes",
	"DeleteThreadItem looks at the version, then writes",
	"DeleteThread looks at the version, then writes",
	// Random generates no ids.
	"every thread gets the same id",
	"ids of unknown kinds are empty",
	"no id for whoever is cancelled",
	"short ids are refused",
	// The ids of Random are ASCII.
	"threads: ids compare as UTF-16",
	// These need more rows, or larger ones.
	"a long text is cut off in a thread",
	"a long text is cut off in an attachment",
	"a payload has a column's size",
	"an item's type has 32 bytes",
	"items: a limit has no bound",
	"items: a page has one row too many",
	"pages of threads share a slice",
	"threads: the default limit is 50",
	// These need a coincidence that only the suite creates.
	"DeleteThread leaves the thread in listings",
	"SaveThread puts a replaced thread behind its ties",
	"SaveThread puts a thread that is made again behind its ties",
	"items: a deleted row is a cursor at its first place",
}

func TestRandomCallsFindWhatIsBroken(t *testing.T) {
	// The default of a hundred sequences finds all but some fifteen.
	checks := 1000
	if testing.Short() {
		checks *= 5 // rapid then runs a fifth of them
	}
	set(t, map[string]string{"rapid.nofailfile": "true", "rapid.seed": "1", "rapid.shrinktime": "1ms", "rapid.checks": fmt.Sprint(checks)})
	all := allBroken()
	for _, promise := range unseen {
		i := slices.IndexFunc(all, func(b broken) bool { return b.promise == promise })
		if i < 0 {
			t.Fatalf("unknown broken store %q", promise)
		}
		all = slices.Delete(all, i, i+1)
	}
	for i, b := range all {
		if (testenv.Race || testing.Short()) && i%10 != 0 {
			continue
		}
		t.Run(b.promise, func(t *testing.T) {
			t.Parallel()
			if !tried(t, b.open).failed {
				t.Error("no sequence reveals it")
			}
		})
	}
	t.Run("EraseOwner", func(t *testing.T) {
		t.Parallel()
		i := slices.IndexFunc(brokenCapabilities, func(b broken) bool { return b.promise == "EraseOwner only deletes" })
		if !tried(t, brokenCapabilities[i].open).failed {
			t.Error("no sequence reveals that an owner was not erased")
		}
	})
	for _, b := range unversionedBroken {
		t.Run(b.promise, func(t *testing.T) {
			t.Parallel()
			if !tried(t, func() store.Store { return spy.Unversioned(b.open()) }).failed {
				t.Error("no sequence reveals it")
			}
		})
	}
}

// A failure is a list of calls that a person can follow, with the flags that repeat it.
func TestAFailedSequenceIsShrunkToAFewCalls(t *testing.T) {
	set(t, map[string]string{"rapid.nofailfile": "true", "rapid.seed": "1", "rapid.shrinktime": "5m"})
	noDelete := broken{ops: on(store.OpDeleteThreadItem, func(m *made) {
		if _, err := m.base.LoadItem(m.ctx, m.Thread.ID, m.Item.ID); err == nil {
			m.answer(call.Answer{})
		}
	})}
	text := tried(t, noDelete.open).text.String()
	_, text, _ = strings.Cut(text, "the last of these calls is wrong:\n")
	calls, after, _ := strings.Cut(text, "reported version 2 before and 2 after, want 2 and 3\n")
	if n := strings.Count(calls, "\n"); n != 3 || !strings.Contains(calls, "  3. DeleteThreadItem(") || !strings.Contains(after, "-rapid.seed=") {
		t.Errorf("%d calls:\n%s", n, text)
	}
}

func TestOneInTriesFewer(t *testing.T) {
	set(t, map[string]string{"rapid.checks": "100"})
	count := func(opts ...RandomOption) (n int) {
		random(t, func() store.Store { n++; return memstore.New() }, opts...)
		return n
	}
	all, tenth := count(), count(WithOneIn(10))
	if all == 0 || tenth != all/10 {
		t.Errorf("of %d sequences, WithOneIn(10) tried %d", all, tenth)
	}
	for _, n := range []int{0, -1} {
		testenv.Panics(t, "storetest.WithOneIn: ", func() { WithOneIn(n) })
	}
}
