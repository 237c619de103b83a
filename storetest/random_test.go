package storetest

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func TestRandomCallsOnMemstore(t *testing.T) {
	Random(t, func(*testing.T) store.Store { return memstore.New() })
}

// quiet is a rapid.TB that keeps failures to itself.
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

// tried runs random calls on what open returns.
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

// set changes flags of rapid's for a test.
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

// sequentially are stores that break a promise, and the suite's broken ones that one call after the other can show.
var sequentially = []struct {
	promise string
	twist   func(s *twist, base store.Store) // nil: the suite's
}{
	{"a page at the end claims that there is more", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if n := len(p.Data); n > 0 && n == q.Limit && !p.HasMore {
				p.HasMore, p.After = true, p.Data[n-1].ID
			}
			return p, err
		}
	}},
	{"equal times are ordered by id", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if q.Order == store.OldestFirst && !p.HasMore {
				slices.SortStableFunc(p.Data, func(a, b store.Item) int {
					return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
				})
			}
			return p, err
		}
	}},
	{"a replaced item goes behind its ties", func(s *twist, base store.Store) {
		s.saveItem = func(ctx context.Context, threadID string, it store.Item) error {
			quiet := store.WithoutVersionRecorder(ctx)
			if _, err := base.LoadItem(quiet, threadID, it.ID); err == nil && store.SaveModeFrom(ctx) == store.Upsert {
				_ = base.DeleteThreadItem(quiet, threadID, it.ID)
			}
			return base.SaveItem(store.WithoutVersionRecorder(ctx), threadID, it)
		}
	}},
	{"an unknown cursor is the first page", func(s *twist, base store.Store) {
		s.loadItems = func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[store.Item], error) {
			p, err := base.LoadThreadItems(ctx, threadID, q)
			if errors.Is(err, store.ErrNotFound) {
				q.After = ""
				return base.LoadThreadItems(ctx, threadID, q)
			}
			return p, err
		}
	}},
	{"a thread made anew keeps its old place in listings", func(s *twist, base store.Store) {
		hidden := map[string]store.Thread{} // deleted, but only so to say
		s.deleteThread = func(ctx context.Context, id string) error {
			if th, err := base.LoadThread(ctx, id); err == nil && ctx.Err() == nil {
				hidden[id] = th
			}
			return base.DeleteThread(ctx, id)
		}
		s.saveThread = func(ctx context.Context, th store.Thread) error {
			if old, ok := hidden[th.ID]; ok && store.SaveModeFrom(ctx) != store.UpdateOnly && th.CreatedAt.Equal(old.CreatedAt) {
				th.CreatedAt = th.CreatedAt.Add(-time.Microsecond)
			}
			return base.SaveThread(ctx, th)
		}
	}},
	{promise: "AddThreadItem replaces"},
	{promise: "AddThreadItem makes a missing thread"},
	{promise: "AnyOwner omits rows without an owner"},
	{promise: "DeleteThread leaves the items behind"},
	{promise: "InsertOnly is ignored"},
	{promise: "JSON is compacted"},
	{promise: "JSON is escaped for HTML"},
	{promise: "LoadItem ignores the thread"},
	{promise: "LoadThreadItems of a missing thread is ErrNotFound"},
	{promise: "OwnedBy ignores the subject"},
	{promise: "SaveItem does not count"},
	{promise: "SaveThread drops the items"},
	{promise: "SaveThread puts a replaced thread behind its ties"},
	{promise: "UpdateOnly is ignored"},
	{promise: "UpdateOnly never updates"},
	{promise: "a cancelled write is done"},
	{promise: "a row without an owner gets one"},
	{promise: "a save by another owner overwrites"},
	{promise: "an empty thread is ErrNotFound"},
	{promise: "an unowned row can be claimed"},
	{promise: "big integers are floats"},
	{promise: "existence comes before validation"},
	{promise: "names are matched in any case"},
	{promise: "nulls are dropped"},
	{promise: "only the JSON is kept"},
	{promise: "the owner cannot use a deleted id again"},
	{promise: "the zero filter lists everything"},
	{promise: "threads: an unknown cursor is the end"},
	{promise: "threads: another owner's thread is a cursor"},
	{promise: "unknown members of items are dropped"},
}

func TestRandomCallsFindWhatIsBroken(t *testing.T) {
	set(t, map[string]string{"rapid.nofailfile": "true", "rapid.seed": "1", "rapid.shrinktime": "1ms"})
	for _, b := range sequentially {
		t.Run(b.promise, func(t *testing.T) {
			if b.twist == nil {
				i := slices.IndexFunc(allBroken(), func(o broken) bool { return o.promise == b.promise })
				b.twist = allBroken()[i].twist
			}
			q := tried(t, func() store.Store {
				base := memstore.New()
				s := newTwist(base)
				b.twist(s, base)
				return s
			})
			if !q.failed {
				t.Error("no sequence shows it")
			}
		})
	}
}

// A failure is a list of calls that a person can follow.
func TestAFailedSequenceIsShrunkToAFewCalls(t *testing.T) {
	set(t, map[string]string{"rapid.nofailfile": "true", "rapid.seed": "1", "rapid.shrinktime": "2s"})
	q := tried(t, func() store.Store {
		base := memstore.New()
		s := newTwist(base)
		s.deleteItem = func(context.Context, string, string) error { return nil }
		return s
	})
	text := q.text.String()
	calls := text[max(0, strings.LastIndex(text, "The calls:")):]
	if n := strings.Count(calls, " -> "); !q.failed || n == 0 || n > 15 {
		t.Errorf("failed: %v, %d calls:\n%s", q.failed, n, text)
	}
}
