package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/mirror"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	ada  = chat.Owner{Tenant: "acme", Subject: "ada"}
	bob  = chat.Owner{Tenant: "acme", Subject: "bob"}
	must = testenv.Must
)

func thread(id, title string) chat.Thread {
	return chat.Thread{ID: id, Title: title, CreatedAt: noon, Owner: ada}
}

func item(id string) chat.Item {
	return testenv.OrPanic(chat.NewItem(id, noon, chat.SDKHiddenContext{Content: id}))
}

func file(name string) chat.Attachment {
	a := testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"}))
	a.Owner = ada
	return a
}

// reports collects divergences.
type reports struct {
	mu  sync.Mutex
	all []mirror.Divergence
}

func (r *reports) add(d mirror.Divergence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, d)
}

func (r *reports) take() []mirror.Divergence {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// counts returns the numbers of calls that are not zero, such as "read equal".
func counts(s store.Store) map[string]int {
	n := map[string]int{}
	for _, st := range testenv.OrPanic(reporter(s)).AppendStats(nil) {
		if st.Name == "chatstore_mirror_calls_total" && st.Value > 0 {
			n[st.Labels[0].Value+" "+st.Labels[1].Value] = int(st.Value)
		}
	}
	return n
}

func reporter(s store.Store) (layer.StatsReporter, error) {
	if r, ok := store.As[layer.StatsReporter](s); ok {
		return r, nil
	}
	return nil, errors.New("no StatsReporter")
}

func wantCounts(t *testing.T, s store.Store, want map[string]int) {
	t.Helper()
	if d := cmp.Diff(want, counts(s)); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}

// rig is a mirror of a first store on a second one, in a synctest bubble. Both stores have the same rows.
type rig struct {
	s             store.Store
	first, second *faulty.Store
	base, other   *memstore.Store // of the first and the second
	reports       reports
}

// bubble runs f in a synctest bubble.
func bubble(t *testing.T, f func(*testing.T, *rig), opts ...mirror.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{base: memstore.New(), other: memstore.New()}
		r.first, r.second = faulty.New(r.base), faulty.New(r.other)
		for _, s := range []store.Store{r.base, r.other} {
			must(t, s.SaveThread(t.Context(), thread("thr_1", "old")))
			for i := range 3 {
				must(t, s.AddThreadItem(t.Context(), "thr_1", item(fmt.Sprint("msg_", i+1))))
			}
			must(t, s.SaveAttachment(t.Context(), file("notes.txt")))
		}
		r.s = mirror.New(r.second, append([]mirror.Option{mirror.WithReport(r.reports.add)}, opts...)...)(r.first)
		f(t, r)
		must(t, store.Close(r.s))
	})
}

// rows returns the rows of s as text.
func rows(t *testing.T, s store.Store) string {
	t.Helper()
	var b strings.Builder
	threads, err := s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
	must(t, err)
	for _, th := range threads.Data {
		items, err := s.LoadThreadItems(t.Context(), th.ID, store.PageQuery{Limit: store.MaxLimit})
		must(t, err)
		fmt.Fprintln(&b, th.JSON(), th.Owner, len(items.Data))
		for _, it := range items.Data {
			fmt.Fprintln(&b, it.JSON())
		}
	}
	a, err := s.LoadAttachment(t.Context(), "atc_1")
	fmt.Fprintln(&b, a.JSON(), a.Owner, store.CodeOf(err))
	return b.String()
}

// reads makes a read of each op.
func reads(ctx context.Context, s store.Store) error {
	_, err1 := s.LoadThread(ctx, "thr_1")
	_, err2 := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada)})
	_, err3 := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Order: store.OldestFirst})
	_, err4 := s.LoadItem(ctx, "thr_1", "msg_1")
	_, err5 := s.LoadAttachment(ctx, "atc_1")
	return errors.Join(err1, err2, err3, err4, err5)
}

// writes makes a write of each op.
func writes(ctx context.Context, s store.Store) error {
	return errors.Join(
		s.SaveThread(ctx, thread("thr_2", "new")),
		s.AddThreadItem(ctx, "thr_2", item("msg_1")),
		s.SaveItem(ctx, "thr_1", item("msg_2")),
		s.DeleteThreadItem(ctx, "thr_1", "msg_3"),
		s.SaveAttachment(ctx, file("notes.md")),
		s.DeleteThread(ctx, "thr_2"),
		s.DeleteAttachment(ctx, "atc_1"))
}

// bare hides the capabilities of a base: a mirror of an Eraser refuses EraseOwner.
type bare struct{ store.Store }

// A healthy or broken second store changes nothing for callers of the first.
func TestTheFirstStoreKeepsTheContract(t *testing.T) {
	for name, fault := range map[string]layer.InterceptorFunc{
		"healthy": nil, "failing": faulty.Fail(nil), "losing answers": faulty.FailAfter(nil), "hanging": faulty.Delay(faulty.Until(nil)),
		"panicking": faulty.Panic("boom"), "exiting": faulty.Goexit(),
	} {
		t.Run(name, func(t *testing.T) {
			sum := map[string]int{}
			storetest.Run(t, func(t *testing.T) store.Store {
				second, opts := faulty.New(memstore.New()), []mirror.Option{mirror.WithTimeLimit(time.Millisecond)}
				if fault != nil {
					second.Inject(faulty.Fault{Do: fault})
				} else {
					opts = nil
				}
				s := store.Wrap(bare{memstore.New()}, mirror.New(second, opts...))
				t.Cleanup(func() {
					must(t, store.Close(s))
					for result, n := range counts(s) {
						sum[result] += n
					}
				})
				return s
			})
			for _, kind := range []string{"read ", "write "} {
				if healthy := fault == nil; healthy != (sum[kind+"equal"] > 0) || healthy != (sum[kind+"failed"] == 0) {
					t.Errorf("counts: %v", sum)
				}
			}
		})
	}
}

// Random calls, one at a time, leave two healthy stores equal.
func TestRandomCallsHaveNoDivergence(t *testing.T) {
	storetest.Random(t, func(t *testing.T) store.Store {
		var r reports
		s := mirror.New(memstore.New(), mirror.WithQueue(1<<14), mirror.WithReport(r.add))(bare{memstore.New()})
		t.Cleanup(func() {
			must(t, store.Close(s))
			if all := r.take(); len(all) > 0 {
				t.Errorf("divergences: %+v", all)
			}
		})
		return s
	}, storetest.WithOneIn(2))
}

func TestASequentialRunIsEqual(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for _, calls := range []func(context.Context, store.Store) error{reads, writes} {
			must(t, calls(t.Context(), r.s))
			synctest.Wait()
		}
		_, err := r.s.LoadThread(t.Context(), "thr_9")
		if store.CodeOf(err) != store.CodeNotFound {
			t.Error(err)
		}
		synctest.Wait()
		wantCounts(t, r.s, map[string]int{"read equal": 6, "write equal": 7})
		if d := cmp.Diff(rows(t, r.base), rows(t, r.other)); d != "" {
			t.Errorf("the stores differ (-first +second):\n%s", d)
		}
	})
}

// Two writers save a thread at once. The first store commits old, then new, but the answers return in the other order, and so
// the trials are made. The second store ends with other rows: dual writing does not move a store. The mirror notices.
func TestDualWritingDoesNotMoveAStore(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		answer := make(chan struct{})
		r.first.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1,
			Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				err := next(ctx)
				<-answer
				return err
			}})
		var writers sync.WaitGroup
		writers.Go(func() { must(t, r.s.SaveThread(t.Context(), thread("thr_1", "A"))) })
		synctest.Wait()
		writers.Go(func() { must(t, r.s.SaveThread(t.Context(), thread("thr_1", "B"))) })
		synctest.Wait()
		close(answer)
		writers.Wait()
		synctest.Wait()
		if rows(t, r.base) == rows(t, r.other) {
			t.Fatal("the stores are equal, so this is no counter-example")
		}
		if _, err := r.s.LoadThread(t.Context(), "thr_1"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantCounts(t, r.s, map[string]int{"write equal": 2, "read different": 1})
		want := []mirror.Divergence{{Call: layer.Call{Op: store.OpLoadThread, ThreadID: "thr_1"}, Field: "title"}}
		if d := cmp.Diff(want, r.reports.take()); d != "" {
			t.Errorf("reports (-want +got):\n%s", d)
		}
	})
}

// Each bug of a second store is found and named, with ids and without content.
func TestABugOfTheSecondStoreIsNamed(t *testing.T) {
	rewrite := func(pattern, by string) func(*testing.T, *rig) {
		return func(t *testing.T, r *rig) {
			th := testenv.Value(r.other.LoadThread(t.Context(), "thr_1"))(t)
			th = testenv.Value(chat.ParseThread(strings.Replace(th.JSON().String(), pattern, by, 1)))(t)
			must(t, r.other.SaveThread(t.Context(), th))
		}
	}
	items := store.OpLoadThreadItems
	for name, c := range map[string]struct {
		bug           func(*testing.T, *rig)
		op            store.Op
		field         string
		first, second store.Code
	}{
		"title":         {rewrite(`"old"`, `"new"`), store.OpLoadThread, "title", 0, 0},
		"metadata":      {rewrite(`"metadata":{}`, `"metadata":{"a":1}`), store.OpLoadThread, "metadata", 0, 0},
		"created_at":    {rewrite("12:00:00", "12:00:01"), store.OpLoadThread, "created_at", 0, 0},
		"lost member":   {rewrite(`{`, `{"extra":1,`), store.OpLoadThread, "json", 0, 0},
		"in a list":     {rewrite(`"old"`, `"new"`), store.OpLoadThreads, "data[0].title", 0, 0},
		"missing item":  {func(t *testing.T, r *rig) { must(t, r.other.DeleteThreadItem(t.Context(), "thr_1", "msg_3")) }, items, "data", 0, 0},
		"not found":     {func(t *testing.T, r *rig) { must(t, r.other.DeleteThread(t.Context(), "thr_1")) }, store.OpLoadThread, "code", 0, store.CodeNotFound},
		"found":         {func(t *testing.T, r *rig) { must(t, r.base.DeleteThread(t.Context(), "thr_1")) }, store.OpLoadThread, "code", store.CodeNotFound, 0},
		"file":          {func(t *testing.T, r *rig) { must(t, r.other.SaveAttachment(t.Context(), file("x"))) }, store.OpLoadAttachment, "json", 0, 0},
		"item's text":   {func(t *testing.T, r *rig) { must(t, r.other.SaveItem(t.Context(), "thr_1", retold("msg_1"))) }, store.OpLoadItem, "content", 0, 0},
		"content":       {func(t *testing.T, r *rig) { must(t, r.other.SaveItem(t.Context(), "thr_1", retold("msg_2"))) }, items, "data[1].content", 0, 0},
		"missing write": {func(t *testing.T, r *rig) { must(t, r.other.DeleteThread(t.Context(), "thr_1")) }, store.OpAddThreadItem, "code", 0, store.CodeNotFound},
		"order": {func(t *testing.T, r *rig) {
			must(t, r.other.DeleteThreadItem(t.Context(), "thr_1", "msg_2"))
			must(t, r.other.AddThreadItem(t.Context(), "thr_1", item("msg_2")))
		}, items, "data[1].id", 0, 0},
		"owner": {func(t *testing.T, r *rig) {
			th := thread("thr_2", "x")
			must(t, r.base.SaveThread(t.Context(), th))
			th.Owner = bob
			must(t, r.other.SaveThread(t.Context(), th))
		}, store.OpLoadThread, "owner", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				c.bug(t, r)
				call := layer.Call{Op: c.op}
				switch id := "thr_1"; c.op {
				case store.OpLoadThread:
					if call.ThreadID = id; name == "owner" {
						call.ThreadID = "thr_2"
					}
					_, _ = r.s.LoadThread(t.Context(), call.ThreadID)
				case store.OpLoadThreads:
					_, _ = r.s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
				case items:
					call.ThreadID, call.Order, call.Limit = id, store.OldestFirst, 3
					_, _ = r.s.LoadThreadItems(t.Context(), id, store.PageQuery{Limit: 3, Order: store.OldestFirst})
				case store.OpLoadItem:
					call.ThreadID, call.ItemID = id, "msg_1"
					_, _ = r.s.LoadItem(t.Context(), id, "msg_1")
				case store.OpLoadAttachment:
					call.AttachmentID = "atc_1"
					_, _ = r.s.LoadAttachment(t.Context(), "atc_1")
				case store.OpAddThreadItem:
					call.ThreadID, call.ItemID, call.ItemType = id, "msg_9", item("msg_9").Type()
					must(t, r.s.AddThreadItem(t.Context(), id, item("msg_9")))
				default:
					_, _ = r.s.LoadThreadItems(t.Context(), id, store.PageQuery{})
				}
				synctest.Wait()
				var want []mirror.Divergence
				if c.field != "" {
					want = []mirror.Divergence{{Call: call, First: c.first, Second: c.second, Field: c.field}}
				}
				if d := cmp.Diff(want, r.reports.take()); d != "" {
					t.Errorf("reports (-want +got):\n%s", d)
				}
			})
		})
	}
}

func retold(id string) chat.Item {
	return testenv.OrPanic(chat.NewItem(id, noon, chat.SDKHiddenContext{Content: "another text"}))
}

// lastPage is a store whose pages have the same rows, but other ends.
type lastPage struct{ store.Store }

func (s lastPage) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	p, err := s.Store.LoadThreadItems(ctx, id, q)
	if q.Limit == 1 {
		p.HasMore = false
	} else {
		p.After = "msg_9"
	}
	return p, err
}

func TestTheEndsOfPagesAreCompared(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		s := mirror.New(lastPage{r.other}, mirror.WithReport(r.reports.add))(r.base)
		for _, limit := range []int{1, 2} {
			_, err := s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{Limit: limit})
			must(t, err)
			synctest.Wait()
		}
		must(t, store.Close(s))
		var fields []string
		for _, d := range r.reports.take() {
			fields = append(fields, d.Field)
		}
		if want := []string{"has_more", "after"}; !slices.Equal(fields, want) {
			t.Errorf("fields %v, want %v", fields, want)
		}
	})
}

// writing begins a write that the first store has made, and whose answer waits until end is called.
func (r *rig) writing(t *testing.T) (end func()) {
	release, done := make(chan struct{}), make(chan struct{})
	r.first.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		err := next(ctx)
		<-release
		return err
	}})
	go func() {
		defer close(done)
		must(t, r.s.SaveThread(t.Context(), thread("thr_1", "new")))
	}()
	synctest.Wait()
	return func() { close(release); <-done }
}

// A read that differs only because a write is on its way to the second store is no divergence.
func TestADifferenceDuringAWriteIsNoDivergence(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		end := r.writing(t)
		for range 3 {
			_, err1 := r.s.LoadThread(t.Context(), "thr_1")
			_, err2 := r.s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.OwnedBy(ada)})
			must(t, errors.Join(err1, err2))
		}
		time.Sleep(10 * time.Millisecond)
		end()
		time.Sleep(time.Minute)
		wantCounts(t, r.s, map[string]int{"read equal": 6, "write equal": 1})
		if all := r.reports.take(); len(all) > 0 {
			t.Errorf("false alarms: %+v", all)
		}
	})
}

// A deletion on its way makes a listing doubtful, too.
func TestAListingDuringADeletionIsNoDivergence(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.second.Inject(faulty.Fault{Op: store.OpDeleteThread, Do: faulty.Delay(func(context.Context) error {
			time.Sleep(10 * time.Millisecond)
			return nil
		})})
		for i := range 20 { // on most workers
			must(t, r.s.SaveThread(t.Context(), thread(fmt.Sprint("thr_", i), "new")))
			time.Sleep(time.Minute)
			must(t, r.s.DeleteThread(t.Context(), fmt.Sprint("thr_", i)))
			_, err := r.s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.OwnedBy(ada)})
			must(t, err)
			time.Sleep(time.Minute)
		}
		wantCounts(t, r.s, map[string]int{"read equal": 20, "write equal": 40})
	})
}

// During writes that never pause, a read that differs is skipped: it is neither equal nor a divergence.
func TestADifferenceThatCannotBeConfirmedIsSkipped(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		end := r.writing(t)
		_, err := r.s.LoadThread(t.Context(), "thr_1")
		must(t, err)
		time.Sleep(time.Second)
		wantCounts(t, r.s, map[string]int{"read skipped": 1})
		end()
	})
}

// A write that begins while a difference is confirmed makes it doubtful, too.
func TestAWriteDuringTheConfirmationIsNoticed(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		must(t, r.other.SaveThread(t.Context(), thread("thr_1", "new")))
		writing := func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			err := next(ctx) // the first store answers "old", and then gets the title of the second
			must(t, r.s.SaveThread(t.Context(), thread("thr_1", "new")))
			return err
		}
		r.first.Inject(faulty.Fault{Op: store.OpLoadThread, Skip: 1, Times: 1, Do: writing})
		_, err := r.s.LoadThread(t.Context(), "thr_1")
		must(t, err)
		time.Sleep(time.Minute)
		wantCounts(t, r.s, map[string]int{"read equal": 1, "write equal": 1})
	})
}

// If the first store cannot repeat a read that differs, there is nothing to compare.
func TestADifferenceThatTheFirstStoreCannotRepeatIsSkipped(t *testing.T) {
	for _, fault := range []layer.InterceptorFunc{faulty.Fail(nil), faulty.Panic("boom"), faulty.Goexit()} {
		bubble(t, func(t *testing.T, r *rig) {
			must(t, r.other.SaveThread(t.Context(), thread("thr_1", "new")))
			r.first.Inject(faulty.Fault{Op: store.OpLoadThread, Skip: 1, Times: 1, Do: fault})
			for range 2 {
				_, err := r.s.LoadThread(t.Context(), "thr_1")
				must(t, err)
				synctest.Wait()
			}
			wantCounts(t, r.s, map[string]int{"read skipped": 1, "read different": 1})
		})
	}
}

// A read that differs is repeated with store.WithFresh, so that no cache answers.
func TestARepeatedReadIsFresh(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		must(t, r.other.SaveThread(t.Context(), thread("thr_1", "new")))
		var fresh []bool
		note := func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			fresh = append(fresh, layer.HintsFor(ctx, store.OpLoadThread).Fresh())
			return next(ctx)
		}
		r.first.Inject(faulty.Fault{Do: note})
		r.second.Inject(faulty.Fault{Do: note})
		_, err := r.s.LoadThread(t.Context(), "thr_1")
		must(t, err)
		synctest.Wait()
		if want := []bool{false, false, true, true}; !slices.Equal(fresh, want) {
			t.Errorf("fresh: %v, want %v", fresh, want)
		}
	})
}

// A pause before a read is repeated does not count for the time limit.
func TestARepeatedReadHasAllOfItsTime(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		end := r.writing(t)
		_, err := r.s.LoadThread(t.Context(), "thr_1")
		must(t, err)
		synctest.Wait()
		end()
		time.Sleep(time.Second)
		wantCounts(t, r.s, map[string]int{"read equal": 1, "write equal": 1})
	}, mirror.WithTimeLimit(time.Millisecond))
}

func TestWritesOfAThreadKeepTheirOrder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.second.Inject(faulty.Fault{Do: faulty.Delay(func(context.Context) error { time.Sleep(time.Millisecond); return nil })})
		for i := range 100 {
			must(t, r.s.SaveThread(t.Context(), thread("thr_1", fmt.Sprint(i))))
			must(t, r.s.AddThreadItem(t.Context(), "thr_1", item(fmt.Sprint("msg_x", i))))
		}
		time.Sleep(time.Minute)
		wantCounts(t, r.s, map[string]int{"write equal": 200})
		if d := cmp.Diff(rows(t, r.base), rows(t, r.other)); d != "" {
			t.Errorf("the stores differ (-first +second):\n%s", d)
		}
	}, mirror.WithQueue(200))
}

// Only a write that succeeded at the first store is tried. If its outcome is unknown, it is counted as skipped.
func TestOnlySuccessfulWritesAreTried(t *testing.T) {
	for _, o := range spy.Outcomes() {
		for _, op := range store.Ops() {
			synctest.Test(t, func(t *testing.T) {
				second := &spy.Base{}
				var s store.Store
				o.Through(t, func(next store.Store) store.Store {
					s = mirror.New(second)(next)
					return s
				}, op)
				synctest.Wait()
				must(t, store.Close(s))
				kind, tried := "read", o.Code == store.CodeOK
				want := map[string]int{}
				switch answered := o.Code == store.CodeOK || o.Code == store.CodeNotFound || o.Code == store.CodeConflict || o.Code == store.CodeInvalid; {
				case op.IsWrite():
					kind = "write"
					if _, err := spy.Try(t.Context(), &spy.Base{Do: o.Do}, op); o.Code == store.CodePanic || !store.IsDefinite(err) {
						want["write skipped"] = 1
					}
				case o.Code == store.CodePanic:
				case !answered:
					want["read skipped"] = 1
				case o.Code != store.CodeOK:
					want["read different"], tried = 1, true
				}
				if o.Code == store.CodeOK {
					want[kind+" equal"] = 1
				}
				wantCounts(t, s, want)
				if (len(second.Calls()) > 0) != tried {
					t.Errorf("%v, %s: the second store got %d calls", op, o.Name, len(second.Calls()))
				}
			})
		}
	}
}

// However the second store ends a call, the first answers, and the trial is counted and reported.
func TestEveryEndOfATrialIsCounted(t *testing.T) {
	for _, o := range spy.Outcomes() {
		for _, op := range store.Ops() {
			synctest.Test(t, func(t *testing.T) {
				var r reports
				s := mirror.New(&spy.Base{Do: o.Do}, mirror.WithReport(r.add))(&spy.Base{})
				for range 2 { // the second trial needs a worker, too
					if recovered, err := spy.Try(t.Context(), s, op); recovered != nil || err != nil {
						t.Errorf("the first store's caller got %v, %v", recovered, err)
					}
				}
				synctest.Wait()
				must(t, store.Close(s))
				kind, result := "read", "failed"
				if op.IsWrite() {
					kind = "write"
				}
				switch o.Code {
				case store.CodeOK:
					result = "equal"
				case store.CodeNotFound, store.CodeConflict, store.CodeInvalid:
					result = "different"
				}
				wantCounts(t, s, map[string]int{kind + " " + result: 2})
				all := r.take()
				if (len(all) == 2) != (result != "equal") {
					t.Errorf("%v, %s: reports %+v", op, o.Name, all)
				}
				for _, d := range all {
					if d.Call.Op != op || d.First != store.CodeOK || d.Second != o.Code || d.Field != "code" {
						t.Errorf("%v, %s: report %+v", op, o.Name, d)
					}
				}
			})
		}
	}
}

// A second store that hangs slows no caller. When its queue is full, calls are dropped.
func TestAHangingSecondStoreSlowsNobody(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.second.Inject(faulty.Fault{Do: faulty.Delay(faulty.Until(nil))})
		begin := time.Now()
		for range 10 {
			must(t, r.s.SaveThread(t.Context(), thread("thr_1", "new")))
			synctest.Wait()
			must(t, reads(t.Context(), r.s))
		}
		if d := time.Since(begin); d != 0 {
			t.Errorf("the calls took %v", d)
		}
		wantCounts(t, r.s, map[string]int{"read dropped": 48, "write dropped": 9}) // two wait and one runs
		if n := queued(r.s); n != 2 {
			t.Errorf("%d calls are waiting, want 2", n)
		}
		time.Sleep(4 * time.Second)
		wantCounts(t, r.s, map[string]int{"read dropped": 48, "write dropped": 9, "write failed": 1, "read failed": 2})
		if n := queued(r.s); n != 0 {
			t.Errorf("%d calls are waiting", n)
		}
	}, mirror.WithWorkers(1), mirror.WithQueue(2), mirror.WithTimeLimit(time.Second))
}

func queued(s store.Store) (n int) {
	for _, st := range testenv.OrPanic(reporter(s)).AppendStats(nil) {
		if st.Name == "chatstore_mirror_queued" {
			n = int(st.Value)
		}
	}
	return n
}

// A call of the second store that ignores its context occupies one worker. The others go on.
func TestACallThatIgnoresItsContextWedgesOneWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ignored := func(context.Context, layer.Call, func(context.Context) error) error { <-release; return nil }
		second := faulty.New(memstore.New())
		second.Inject(faulty.Fault{Times: 1, Do: ignored})
		s := mirror.New(second)(memstore.New())
		for i := range 100 {
			must(t, s.SaveThread(t.Context(), thread(fmt.Sprint("thr_", i), "new")))
			synctest.Wait()
		}
		if n := counts(s)["write equal"]; n < 50 {
			t.Errorf("%d trials were made while one hangs", n)
		}
		begin := time.Now()
		if err := store.Close(s); err == nil || !strings.Contains(err.Error(), "ignores") {
			t.Errorf("Close returned %v", err)
		}
		if d := time.Since(begin); d != mirror.DefaultTimeLimit+time.Second {
			t.Errorf("Close took %v", d)
		}
		before := second.Total()
		close(release)
		synctest.Wait()
		if n := counts(s); n["write equal"]+n["write dropped"] != 100 {
			t.Errorf("counts: %v", n)
		}
		if n := second.Total() - before; n != 0 {
			t.Errorf("%d trials began after Close", n)
		}
	})
}

func TestCloseWaitsForWhatIsQueued(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.second.Inject(faulty.Fault{Do: faulty.Delay(func(context.Context) error { time.Sleep(time.Second); return nil })})
		must(t, writes(t.Context(), r.s))
		must(t, store.Close(r.s))
		must(t, store.Close(r.s)) // closing it again does nothing
		wantCounts(t, r.s, map[string]int{"write equal": 7})

		// Later calls go to the first store only.
		r.first.Reset()
		r.second.Reset()
		must(t, r.s.SaveThread(t.Context(), thread("thr_3", "late")))
		_, err := r.s.LoadThread(t.Context(), "thr_3")
		must(t, err)
		wantCounts(t, r.s, map[string]int{"write equal": 7, "read dropped": 1, "write dropped": 1})
		if f, s := r.first.Total(), r.second.Total(); f != 2 || s != 0 {
			t.Errorf("after Close, %d calls of the first store and %d of the second", f, s)
		}
		must(t, r.other.SaveThread(t.Context(), thread("thr_3", "late"))) // the second store is still open
	}, mirror.WithWorkers(1))
}

// Calls that are under way during Close start no worker behind its back.
func TestNoTrialBeginsAfterClose(t *testing.T) {
	for range 300 {
		second := faulty.New(memstore.New())
		s := mirror.New(second, mirror.WithWorkers(4))(memstore.New())
		var callers sync.WaitGroup
		for i := range 8 {
			callers.Go(func() {
				for range 20 {
					must(t, s.SaveThread(t.Context(), thread(fmt.Sprint("thr_", i), "new")))
				}
			})
		}
		runtime.Gosched()
		must(t, store.Close(s))
		n := second.Total()
		callers.Wait()
		if later := second.Total(); later != n {
			t.Fatalf("%d trials began after Close", later-n)
		}
	}
}

// Close waits for the time limit, and then drops what is still queued.
func TestCloseDropsWhatIsTooSlow(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.second.Inject(faulty.Fault{Skip: 1, Do: faulty.Delay(func(ctx context.Context) error {
			select {
			case <-time.After(900 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})})
		must(t, writes(t.Context(), r.s))
		synctest.Wait()
		begin := time.Now()
		must(t, store.Close(r.s))
		if d := time.Since(begin); d != time.Second {
			t.Errorf("Close took %v", d)
		}
		wantCounts(t, r.s, map[string]int{"write equal": 2, "write dropped": 5})
	}, mirror.WithWorkers(1), mirror.WithTimeLimit(time.Second))
}

// The second store gets the principal and the save mode. It gets neither the condition, whose version is the first store's,
// nor the recorders, nor the caller's cancellation.
func TestATrialHasAContextOfItsOwn(t *testing.T) {
	for method := range reflect.TypeFor[store.Store]().Methods() {
		synctest.Test(t, func(t *testing.T) {
			who := store.Principal{Owner: ada, Roles: []string{"admin"}}
			ctx, cancel := context.WithCancel(store.WithSaveMode(store.WithPrincipal(t.Context(), who), store.InsertOnly))
			ctx = store.IfVersion(store.WithFresh(ctx), "thr_1", 7)
			ctx, _ = store.WithVersions(spy.WithUnsettledRecorder(ctx, func(<-chan struct{}) {}))
			ctx, _ = layer.WithNotes(ctx, store.OpLoadThread, nil)
			ctx = callctx.With(bus.WithStamp(ctx, bus.Stamp{Origin: "a", Write: 1}), func(d *callctx.Data) { d.Retried = true })
			second := &spy.Base{}
			var s store.Store
			release := make(chan struct{})
			held := faulty.New(second)
			held.Inject(faulty.Fault{Do: faulty.Delay(faulty.Until(release))})
			got := spy.Through(ctx, t, func(next store.Store) store.Store {
				s = mirror.New(held)(next)
				return s
			}, method)
			if callctx.Of(got) != callctx.Of(ctx) {
				t.Error("the first store got another context")
			}
			cancel() // the caller has gone
			close(release)
			synctest.Wait()
			must(t, store.Close(s))
			calls := second.Calls()
			if strings.HasPrefix(method.Name, "Generate") {
				if len(calls) > 0 {
					t.Errorf("the second store got %v", calls)
				}
				return
			}
			if len(calls) != 1 || calls[0].Method != method.Name {
				t.Fatalf("the second store got %v", calls)
			}
			d := callctx.Of(calls[0].Ctx)
			if p, _ := store.PrincipalFrom(calls[0].Ctx); !reflect.DeepEqual(p, who) || store.SaveModeFrom(calls[0].Ctx) != store.InsertOnly || !d.Fresh {
				t.Errorf("%s: the second store got %+v", method.Name, d)
			}
			if d.If.Set || d.Versions != nil || d.Unsettled != nil || d.Notes != nil || d.Stamp != (callctx.Stamp{}) || d.Retried {
				t.Errorf("%s: the second store got %+v", method.Name, d)
			}
		})
	}
}

// Versions are the first store's only.
func TestVersionsAreTheFirstStores(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for range 5 {
			must(t, r.other.SaveThread(t.Context(), thread("thr_1", "old")))
		}
		ctx, read := store.WithVersions(t.Context())
		_, err := r.s.LoadThread(ctx, "thr_1")
		must(t, err)
		synctest.Wait()
		n, ok := read.Of("thr_1")
		if !ok || n != 4 {
			t.Errorf("version %d, %v, want 4 of the first store", n, ok)
		}
		must(t, r.s.SaveThread(store.IfVersion(ctx, "thr_1", n), thread("thr_1", "new")))
		synctest.Wait()
		wantCounts(t, r.s, map[string]int{"read equal": 1, "write equal": 1})
	})
}

// A caller may change the page that it got.
func TestACallersChangeOfItsPageIsNoDivergence(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		release := make(chan struct{})
		r.second.Inject(faulty.Fault{Do: faulty.Delay(faulty.Until(release))})
		items, err := r.s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{})
		must(t, err)
		threads, err := r.s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.OwnedBy(ada)})
		must(t, err)
		slices.Reverse(items.Data)
		threads.Data[0].Title = "changed"
		r.first.Reset()
		close(release)
		synctest.Wait()
		wantCounts(t, r.s, map[string]int{"read equal": 2})
		if n := r.first.Total(); n > 0 {
			t.Errorf("the first store was read %d more times, as if there were a difference", n)
		}
	})
}

func TestSharesOfCalls(t *testing.T) {
	for _, rate := range []float64{0, 0.5, 1} {
		bubble(t, func(t *testing.T, r *rig) {
			for range 1000 {
				_, err := r.s.LoadThread(t.Context(), "thr_1")
				must(t, err)
			}
			synctest.Wait()
			n := counts(r.s)["read equal"]
			if lo, hi := int(1000*rate)-150, int(1000*rate)+150; n < lo || n > hi || rate == 0 && n != 0 || rate == 1 && n != 1000 {
				t.Errorf("at rate %v, %d of 1000 reads were tried", rate, n)
			}
		}, mirror.WithReads(rate), mirror.WithQueue(1000))
	}
	bubble(t, func(t *testing.T, r *rig) {
		must(t, writes(t.Context(), r.s))
		synctest.Wait()
		if n := r.second.Total(); n != 0 {
			t.Errorf("without writes, the second store got %d calls", n)
		}
	}, mirror.WithWrites(false))
}

// An erasure that reached the first store only would break a promise to a person.
func TestAnOwnerIsNotErasedInOneStoreOnly(t *testing.T) {
	first := memstore.New()
	s := mirrorOf(t, first)
	must(t, first.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: time.Now(), Owner: ada}))
	eraser, ok := store.As[driver.Eraser](s)
	if !ok {
		t.Fatal("no Eraser")
	}
	if _, err := eraser.EraseOwner(t.Context(), ada); !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, store.ErrNotApplied) {
		t.Errorf("EraseOwner: %v", err)
	}
	if _, err := first.LoadThread(t.Context(), "thr_1"); err != nil {
		t.Errorf("the thread is gone: %v", err)
	}
	if _, ok := store.As[driver.Eraser](mirrorOf(t, bare{memstore.New()})); ok {
		t.Error("a mirror of a store that is no Eraser is one")
	}
}

func mirrorOf(t *testing.T, first store.Store) store.Store {
	s := mirror.New(memstore.New())(first)
	t.Cleanup(func() { must(t, store.Close(s)) })
	return s
}

// Reports and statistics contain no content.
func TestReportsContainNoContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, leak := range append(spy.Leaks(), nil) {
			var r reports
			first := memstore.New()
			s := mirror.New(&spy.Base{Do: leak}, mirror.WithReport(r.add), mirror.WithQueue(1000))(first)
			spy.Conversation(t.Context(), t, s, first)
			time.Sleep(time.Minute) // until reads that differed during writes have been repeated
			must(t, store.Close(s))
			all := r.take()
			if len(all) == 0 {
				t.Error("no reports")
			}
			if text := fmt.Sprintf("%+v %v", all, testenv.OrPanic(reporter(s)).AppendStats(nil)); strings.Contains(text, spy.Canary) {
				t.Error("the reports contain content: ", text)
			}
		}
	})
}

// A report that panics or ends its goroutine stops no trial.
func TestABrokenReportStopsNothing(t *testing.T) {
	for _, broken := range []func(mirror.Divergence){
		func(mirror.Divergence) { panic("boom") },
		func(mirror.Divergence) { _ = faulty.Goexit()(nil, layer.Call{}, nil) },
	} {
		synctest.Test(t, func(t *testing.T) {
			s := mirror.New(memstore.New(), mirror.WithReport(broken), mirror.WithWorkers(1))(&spy.Base{})
			for range 3 {
				_, err := s.LoadThread(t.Context(), "thr_1")
				must(t, err)
			}
			must(t, store.Close(s))
			wantCounts(t, s, map[string]int{"read different": 3})
		})
	}
}

func TestProgrammingErrorsPanic(t *testing.T) {
	testenv.Panics(t, "mirror.New: the second store is nil", func() { mirror.New(nil) })
	testenv.Panics(t, "mirror.WithReads: ", func() { mirror.WithReads(-0.1) })
	testenv.Panics(t, "mirror.WithReads: ", func() { mirror.WithReads(1.1) })
	testenv.Panics(t, "mirror.WithWorkers: ", func() { mirror.WithWorkers(0) })
	testenv.Panics(t, "mirror.WithQueue: ", func() { mirror.WithQueue(0) })
	testenv.Panics(t, "mirror.WithTimeLimit: ", func() { mirror.WithTimeLimit(0) })
	testenv.Panics(t, "mirror.WithReport: ", func() { mirror.WithReport(nil) })
	// Outside of the guard, the second store would get rows without the owners that the guard sets.
	testenv.Panics(t, "mirror.New: there is a guard", func() {
		store.Wrap(memstore.New(), mirror.New(memstore.New()), authz.New(authz.OwnerOnly()))
	})
}

// The capabilities of the first store are found, and no others.
func TestCapabilitiesAreTheFirstStores(t *testing.T) {
	s := mirrorOf(t, memstore.New())
	if names := store.Layers(s); names[0] != "mirror" {
		t.Errorf("layers: %v", names)
	}
	if _, ok := store.As[driver.AttachmentLister](s); !ok {
		t.Error("no AttachmentLister")
	}
	if _, ok := store.As[driver.AttachmentLister](mirrorOf(t, bare{memstore.New()})); ok {
		t.Error("the AttachmentLister of the second store is found")
	}
}

// BenchmarkCaller measures what a caller pays for the mirror. In "read tried" the second store answers at once. In "read dropped"
// it hangs, and the queue is full.
//
//	go test -run '^$' -bench Caller ./decorators/mirror
func BenchmarkCaller(b *testing.B) {
	first := &spy.Base{Forget: true}
	hanging := &spy.Base{Forget: true, Do: func(ctx context.Context, _ store.Op) error { <-ctx.Done(); return ctx.Err() }}
	for _, c := range []struct {
		name string
		s    store.Store
	}{
		{"without a mirror", first},
		{"read not tried", mirror.New(first, mirror.WithReads(0))(first)},
		{"read tried", mirror.New(first)(first)},
		{"read dropped", mirror.New(hanging, mirror.WithTimeLimit(time.Second))(first)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := c.s.LoadThreadItems(b.Context(), "thr_1", store.PageQuery{})
				must(b, err)
			}
		})
		must(b, store.Close(c.s))
	}
}
