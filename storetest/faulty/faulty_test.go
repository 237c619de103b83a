package faulty_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/rows"
)

func TestWithoutFaults(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return faulty.New(memstore.New()) }, storetest.WithVersionsRequired())
}

func titled(title string) chat.Thread {
	return chat.Thread{ID: "thr_1", Title: title, CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
}

// saved returns a Store over a base that has the thread.
func saved(t *testing.T, title string) (*faulty.Store, store.Store) {
	t.Helper()
	base := memstore.New()
	if err := base.SaveThread(t.Context(), titled(title)); err != nil {
		t.Fatal(err)
	}
	return faulty.New(base), base
}

// stored returns the title of the thread in the Store beneath.
func stored(t *testing.T, s store.Store) string {
	t.Helper()
	th, err := s.LoadThread(context.Background(), "thr_1")
	if err != nil {
		return "none"
	}
	return th.Title
}

var errLost = errors.New("connection lost")

// ending runs f in its own goroutine and returns how it ended.
func ending(f func() error) string {
	ended := make(chan string)
	go func() {
		how := "goexit"
		defer func() {
			if v := recover(); v != nil {
				how = fmt.Sprint("panic: ", v)
			}
			ended <- how
		}()
		how = fmt.Sprint("error: ", f())
	}()
	return <-ended
}

// Each fault ends the call as documented, and writes or does not write as documented.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		do     layer.InterceptorFunc
		want   string
		stored string
	}{
		{"Fail", faulty.Fail(errLost), "error: connection lost", "old"},
		{"Fail of nil", faulty.Fail(nil), "error: unavailable", "old"},
		{"FailAfter", faulty.FailAfter(errLost), "error: connection lost", "new"},
		{"FailAfter of nil", faulty.FailAfter(nil), "error: unavailable", "new"},
		{"Panic", faulty.Panic("ouch"), "panic: ouch", "old"},
		{"PanicAfter", faulty.PanicAfter("ouch"), "panic: ouch", "new"},
		{"Goexit", faulty.Goexit(), "goexit", "old"},
		{"GoexitAfter", faulty.GoexitAfter(), "goexit", "new"},
		{"Delay", faulty.Delay(func(context.Context) error { return nil }), "error: <nil>", "new"},
		{"Delay that fails", faulty.Delay(func(context.Context) error { return errLost }), "error: connection lost", "old"},
		{"Late", new(faulty.Late).Hold(nil), "error: unavailable", "old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, base := saved(t, "old")
			f.Inject(faulty.Fault{Op: store.OpSaveThread, Do: c.do})
			if got := ending(func() error { return f.SaveThread(t.Context(), titled("new")) }); got != c.want {
				t.Errorf("SaveThread: got %s, want %s", got, c.want)
			}
			if got := stored(t, base); got != c.stored {
				t.Errorf("stored afterwards: got the %s thread, want the %s one", got, c.stored)
			}
		})
	}
}

// A failed read has no answer, even if the call was made.
func TestAFailedReadHasNoAnswer(t *testing.T) {
	f, _ := saved(t, "old")
	f.Inject(faulty.Fault{Op: store.OpLoadThread, Do: faulty.FailAfter(errLost)})
	if th, err := f.LoadThread(t.Context(), "thr_1"); !errors.Is(err, errLost) || th.ID != "" {
		t.Errorf("LoadThread: got %v, error %v, want no thread and %v", th, err, errLost)
	}
}

// Until ends with the channel or with the context. Then the call fails with the context's error.
func TestUntil(t *testing.T) {
	base := memstore.New()
	f := faulty.New(base)
	release := make(chan struct{})
	f.Inject(faulty.Fault{Op: store.OpSaveThread, Do: faulty.Delay(faulty.Until(release))})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.SaveThread(ctx, titled("cancelled")) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("SaveThread that is cancelled while it is delayed: got error %v, want %v", err, context.Canceled)
	}
	if got := stored(t, base); got != "none" {
		t.Errorf("stored after a cancelled delay: got the %s thread, want none", got)
	}
	go func() { ended <- f.SaveThread(t.Context(), titled("released")) }()
	select {
	case err := <-ended:
		t.Errorf("SaveThread before its release: ended with %v", err)
	case release <- struct{}{}: // only the delayed call receives it
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := stored(t, base); got != "released" {
		t.Errorf("stored after the release: got the %s thread, want the released one", got)
	}
}

// Apply makes a late write once and in order, although its caller's context has ended. The write reports no version to the
// recorder of its caller, and keeps its save mode.
func TestLate(t *testing.T) {
	base := memstore.New()
	f := faulty.New(base)
	var late faulty.Late
	f.Inject(faulty.Fault{Op: store.OpSaveThread, Do: late.Hold(errLost)})
	reports := 0
	ctx, cancel := context.WithCancel(callctx.WithVersionRecorder(t.Context(), func(string, uint64, uint64) { reports++ }))
	for _, title := range []string{"first", "second"} {
		if err := f.SaveThread(ctx, titled(title)); !errors.Is(err, errLost) {
			t.Errorf("SaveThread: got error %v, want %v", err, errLost)
		}
	}
	if err := f.SaveThread(store.WithSaveMode(ctx, store.InsertOnly), titled("third")); !errors.Is(err, errLost) {
		t.Errorf("SaveThread: got error %v, want %v", err, errLost)
	}
	cancel()
	if got := stored(t, base); got != "none" {
		t.Errorf("stored before Apply: got the %s thread, want none", got)
	}
	if err := late.Apply(); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Apply with an InsertOnly save of an existing row: got error %v, want %v", err, store.ErrConflict)
	}
	if got := stored(t, base); got != "second" {
		t.Errorf("stored after Apply: got the %s thread, want the second", got)
	}
	if reports != 0 {
		t.Errorf("versions reported to calls that had ended: got %d, want none", reports)
	}
	if err := base.SaveThread(t.Context(), titled("later")); err != nil {
		t.Fatal(err)
	}
	if err := late.Apply(); err != nil || stored(t, base) != "later" {
		t.Errorf("a second Apply: got error %v and the %s thread, want it to do nothing", err, stored(t, base))
	}
	if got := f.Calls(store.OpSaveThread); got != 3 {
		t.Errorf("calls: got %d, want the 3 that were made", got)
	}
}

// A fault hits the calls that it describes, by their count.
func TestWhichCallsAFaultHits(t *testing.T) {
	var inThread2 = func(c layer.Call) bool { return c.ThreadID == "thr_2" }
	for _, c := range []struct {
		name  string
		fault faulty.Fault
		want  string // of LoadThread thr_1, LoadThread thr_2, LoadItem thr_1, LoadItem thr_2, twice: x is hit
	}{
		{"every call", faulty.Fault{}, "xxxxxxxx"},
		{"an op", faulty.Fault{Op: store.OpLoadItem}, "..xx..xx"},
		{"a predicate", faulty.Fault{When: inThread2}, ".x.x.x.x"},
		{"an op and a predicate", faulty.Fault{Op: store.OpLoadItem, When: inThread2}, "...x...x"},
		{"the first two", faulty.Fault{Times: 2}, "xx......"},
		{"the third", faulty.Fault{Skip: 2, Times: 1}, "..x....."},
		{"all but the first three", faulty.Fault{Skip: 3}, "...xxxxx"},
		{"the second of an op", faulty.Fault{Op: store.OpLoadThread, Skip: 1, Times: 1}, ".x......"},
		{"the second of a predicate", faulty.Fault{When: inThread2, Skip: 1, Times: 1}, "...x...."},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := faulty.New(memstore.New())
			c.fault.Do = faulty.Fail(errLost)
			f.Inject(c.fault)
			got := ""
			hit := func(err error) {
				if errors.Is(err, errLost) {
					got += "x"
				} else {
					got += "."
				}
			}
			for range 2 {
				for _, id := range []string{"thr_1", "thr_2"} {
					_, err := f.LoadThread(t.Context(), id)
					hit(err)
				}
				for _, id := range []string{"thr_1", "thr_2"} {
					_, err := f.LoadItem(t.Context(), id, "msg_1")
					hit(err)
				}
			}
			if got != c.want {
				t.Errorf("calls hit: got %s, want %s", got, c.want)
			}
		})
	}
}

// Of several faults the one injected first acts, and the others count the call as well.
func TestSeveralFaults(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	f := faulty.New(memstore.New())
	f.Inject(faulty.Fault{Times: 1, Do: faulty.Fail(first)})
	f.Inject(faulty.Fault{Times: 2, Do: faulty.Fail(second)})
	for i, want := range []error{first, second, store.ErrNotFound} {
		if _, err := f.LoadThread(t.Context(), "thr_1"); !errors.Is(err, want) {
			t.Errorf("call %d: got error %v, want %v", i+1, err, want)
		}
	}
}

// Every op is counted and can be hit, and predicates get the same Call as with layer.Intercept. The generators are not
// counted.
func TestEveryOp(t *testing.T) {
	for _, op := range store.Ops() {
		t.Run(op.String(), func(t *testing.T) {
			f := faulty.New(memstore.New())
			var outside, inside layer.Call
			f.Inject(faulty.Fault{Op: op, Do: faulty.Fail(errLost), When: func(c layer.Call) bool {
				inside = c
				return true
			}})
			s := store.Wrap(f, layer.Intercept("witness", layer.InterceptorFunc(
				func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
					outside = c
					return next(ctx)
				})))
			q := store.PageQuery{Limit: 7, After: "msg_0", Order: store.OldestFirst}
			c := call.Call{Op: op, Thread: titled("title"), Item: rows.Message("msg_1", rows.At(0), "text"), Attachment: rows.Attachment("atc_1", "a.txt"),
				Query: store.ThreadQuery{PageQuery: q}}
			_ = s.GenerateThreadID(t.Context())
			_ = s.GenerateItemID(t.Context(), chat.KindMessage, chat.Thread{})
			if err := c.Make(t.Context(), s).Err; !errors.Is(err, errLost) {
				t.Errorf("%s: got error %v, want %v", op, err, errLost)
			}
			if inside != outside || inside.Op != op {
				t.Errorf("%s: got %+v, want %+v", op, inside, outside)
			}
			reads, writes := 1, 0
			if op.IsWrite() {
				reads, writes = 0, 1
			}
			if f.Calls(op) != 1 || f.Total() != 1 || f.Reads() != reads || f.Writes() != writes {
				t.Errorf("%s: got %d calls, %d in all, %d reads, %d writes, want 1, 1, %d, %d",
					op, f.Calls(op), f.Total(), f.Reads(), f.Writes(), reads, writes)
			}
		})
	}
}

func TestReset(t *testing.T) {
	f, _ := saved(t, "kept")
	f.Inject(faulty.Fault{Do: faulty.Fail(nil)})
	if _, err := f.LoadThread(t.Context(), "thr_1"); !errors.Is(err, store.ErrUnavailable) || f.Total() != 1 {
		t.Errorf("LoadThread before Reset: got error %v, of %d calls", err, f.Total())
	}
	f.Reset()
	if f.Total() != 0 {
		t.Errorf("calls after Reset: got %d, want 0", f.Total())
	}
	if th, err := f.LoadThread(t.Context(), "thr_1"); err != nil || th.Title != "kept" {
		t.Errorf("LoadThread after Reset: got %v, error %v, want the stored thread and no fault", th, err)
	}
}

// With concurrent calls, a fault hits exactly as many as it says.
func TestConcurrently(t *testing.T) {
	f := faulty.New(memstore.New())
	f.Inject(faulty.Fault{Op: store.OpLoadThread, Skip: 50, Times: 30, Do: faulty.Fail(errLost)})
	var mu sync.Mutex
	var wg sync.WaitGroup
	hit := 0
	for range 10 {
		wg.Go(func() {
			for range 20 {
				if _, err := f.LoadThread(t.Context(), "thr_1"); errors.Is(err, errLost) {
					mu.Lock()
					hit++
					mu.Unlock()
				}
				f.Inject(faulty.Fault{Op: store.OpSaveItem, Do: faulty.Fail(nil)})
			}
		})
	}
	wg.Wait()
	if hit != 30 || f.Calls(store.OpLoadThread) != 200 {
		t.Errorf("got %d of %d calls hit, want 30 of 200", hit, f.Calls(store.OpLoadThread))
	}
}

// unbounded is a Store without capabilities.
type unbounded struct{ store.Store }

func TestLongestWrite(t *testing.T) {
	base := memstore.New()
	for _, c := range []struct {
		what string
		f    *faulty.Store
		want time.Duration
	}{
		{"the base's", faulty.New(base), 0},
		{"an unknown base's", faulty.New(unbounded{base}), time.Minute},
		{"the option's", faulty.New(base, faulty.WithLongestWrite(time.Hour)), time.Hour},
	} {
		if b, ok := store.As[driver.WriteBounder](c.f); !ok || b.LongestWrite() != c.want {
			t.Errorf("LongestWrite, %s: got %v, want %v", c.what, c.f.LongestWrite(), c.want)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	for name, misuse := range map[string]func(){
		"no base":       func() { faulty.New(nil) },
		"no Do":         func() { faulty.New(memstore.New()).Inject(faulty.Fault{}) },
		"negative Skip": func() { faulty.New(memstore.New()).Inject(faulty.Fault{Skip: -1, Do: faulty.Fail(nil)}) },
		"negative Times": func() {
			faulty.New(memstore.New()).Inject(faulty.Fault{Times: -1, Do: faulty.Fail(nil)})
		},
	} {
		if got := ending(func() error { misuse(); return nil }); len(got) < 20 || got[:6] != "panic:" {
			t.Errorf("%s: got %s, want a panic with a sentence", name, got)
		}
	}
}

func ExampleNew() {
	ctx := context.Background()
	f := faulty.New(memstore.New())
	f.Inject(faulty.Fault{Op: store.OpSaveThread, Skip: 1, Times: 1, Do: faulty.FailAfter(store.ErrUnavailable)})

	thread := titled("Night trains")
	fmt.Println(f.SaveThread(ctx, thread))
	thread.Title = "Sleepers"
	fmt.Println(f.SaveThread(ctx, thread), "- but it was applied:")
	thread, err := f.LoadThread(ctx, thread.ID)
	fmt.Println(thread.Title, err, f.Writes(), "writes,", f.Reads(), "read")
	// Output:
	// <nil>
	// unavailable - but it was applied:
	// Sleepers <nil> 2 writes, 1 read
}

// A late write applies only if its thread still has the version that its caller named.
func TestALateWriteKeepsItsCondition(t *testing.T) {
	for _, other := range []bool{false, true} {
		f, base := saved(t, "old")
		var late faulty.Late
		f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: late.Hold(nil)})
		_ = f.SaveThread(store.IfVersion(t.Context(), "thr_1", 1), titled("late"))
		if other {
			if err := f.SaveThread(t.Context(), titled("other")); err != nil {
				t.Fatal(err)
			}
		}
		err := late.Apply()
		if got := stored(t, base); errors.Is(err, store.ErrConflict) != other || (got == "late") == other {
			t.Errorf("another write in between %t: got error %v, and then %q", other, err, got)
		}
	}
}
