package storetest

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

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

// Which of the stores that break a promise random calls find: all but those that do it to others at the same time, to
// cancelled contexts in particular places, or to what no random call has.
func TestRandomCallsFindWhatIsBroken(t *testing.T) {
	for name, value := range map[string]string{"rapid.nofailfile": "true"} {
		f := flag.Lookup(name)
		was := f.Value.String()
		if err := f.Value.Set(value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Value.Set(was) })
	}
	found := map[string]bool{}
	for _, b := range allBroken() {
		q := tried(t, func() store.Store {
			base := memstore.New()
			s := newTwist(base)
			b.twist(s, base)
			return s
		})
		found[b.promise] = q.failed
		if q.failed && len(found) == 1 {
			t.Log(q.text.String())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		t.Log(found[name], name)
	}
}
