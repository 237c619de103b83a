package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New() }, storetest.WithVersionsRequired(),
		storetest.WithCapabilitiesRequired())
}

var (
	ada = chat.Owner{Tenant: "acme", Subject: "ada"}
	bob = chat.Owner{Tenant: "acme", Subject: "bob"}
)

func at(n int) time.Time {
	return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(n) * time.Second)
}

func thread(id string, owner chat.Owner) chat.Thread {
	return chat.Thread{ID: id, CreatedAt: at(0), Owner: owner}
}

func item(t testing.TB, id string, sec int) chat.Item {
	t.Helper()
	return testenv.Value(chat.NewItem(id, at(sec), chat.EndOfTurn{}))(t)
}

func attachment(t testing.TB, id string, owner chat.Owner) chat.Attachment {
	t.Helper()
	a := testenv.Value(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: "a.txt", MIMEType: "text/plain"}))(t)
	a.Owner = owner
	return a
}

var must = testenv.Must

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// owned is threads or attachments, which treat owners alike.
type owned struct {
	save  func(ctx context.Context, owner chat.Owner) error
	del   func() error
	owner func() (chat.Owner, error)
}

func eachOwned(t *testing.T, f func(t *testing.T, k owned)) {
	ctx := t.Context()
	t.Run("threads", func(t *testing.T) {
		s := memstore.New()
		f(t, owned{
			func(ctx context.Context, o chat.Owner) error { return s.SaveThread(ctx, thread("thr_1", o)) },
			func() error { return s.DeleteThread(ctx, "thr_1") },
			func() (chat.Owner, error) { th, err := s.LoadThread(ctx, "thr_1"); return th.Owner, err },
		})
	})
	t.Run("attachments", func(t *testing.T) {
		s := memstore.New()
		f(t, owned{
			func(ctx context.Context, o chat.Owner) error {
				return s.SaveAttachment(ctx, attachment(t, "atc_1", o))
			},
			func() error { return s.DeleteAttachment(ctx, "atc_1") },
			func() (chat.Owner, error) { a, err := s.LoadAttachment(ctx, "atc_1"); return a.Owner, err },
		})
	})
}

// Saving a deleted id with a zero Owner restores its previous owner.
func TestZeroOwnerRevivesADeletedIDAsItsOwners(t *testing.T) {
	eachOwned(t, func(t *testing.T, k owned) {
		must(t, k.save(t.Context(), ada))
		must(t, k.del())
		must(t, k.save(t.Context(), chat.Owner{}))
		if o, err := k.owner(); o != ada || err != nil {
			t.Errorf("the revived row: got owner %+v, error %v, want %+v", o, err, ada)
		}
		wantErr(t, "bob's save of the revived row", k.save(t.Context(), bob), store.ErrConflict)
	})
}

func TestADeletedIDOfNobodyStaysNobodys(t *testing.T) {
	eachOwned(t, func(t *testing.T, k owned) {
		must(t, k.save(t.Context(), chat.Owner{}))
		must(t, k.del())
		wantErr(t, "a save that claims the id", k.save(t.Context(), ada), store.ErrConflict)
		must(t, k.save(t.Context(), chat.Owner{}))
	})
}

// A refused save of an unused id does not claim it: another owner can save it.
func TestARefusedSaveLeavesTheIDFree(t *testing.T) {
	eachOwned(t, func(t *testing.T, k owned) {
		wantErr(t, "an update of nothing", k.save(store.WithSaveMode(t.Context(), store.UpdateOnly), ada), store.ErrNotFound)
		must(t, k.save(t.Context(), bob))
	})
}

func TestAnUnknownSaveModeIsInvalid(t *testing.T) {
	s := memstore.New()
	must(t, s.SaveThread(t.Context(), thread("thr_1", ada)))
	ctx := store.WithSaveMode(t.Context(), store.UpdateOnly+1)
	wantErr(t, "SaveThread", s.SaveThread(ctx, thread("thr_1", ada)), store.ErrInvalid)
	wantErr(t, "SaveItem", s.SaveItem(ctx, "thr_1", item(t, "msg_1", 1)), store.ErrInvalid)
	wantErr(t, "SaveAttachment", s.SaveAttachment(ctx, attachment(t, "atc_1", ada)), store.ErrInvalid)
	must(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_1", 1))) // ignores the mode
}

// Every error names the call, the kind of row and the caller's own id.
func TestErrorsNameTheRow(t *testing.T) {
	s, ctx := memstore.New(), t.Context()
	must(t, s.SaveThread(ctx, thread("thr_1", ada)))
	must(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_1", 1)))
	must(t, s.SaveAttachment(ctx, attachment(t, "atc_1", ada)))
	insert, update := store.WithSaveMode(ctx, store.InsertOnly), store.WithSaveMode(ctx, store.UpdateOnly)
	page := func(after string) store.PageQuery { return store.PageQuery{After: after} }
	second := func(_ any, err error) error { return err }
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(s.LoadThread(ctx, "thr_9")), `load_thread: not found: thread "thr_9"`},
		{s.SaveThread(update, thread("thr_9", ada)), `save_thread: not found: thread "thr_9"`},
		{s.SaveThread(insert, thread("thr_1", ada)), `save_thread: conflict: thread "thr_1"`},
		{s.SaveThread(ctx, thread("thr_1", bob)), `save_thread: conflict: thread "thr_1"`},
		{second(s.LoadThreads(ctx, store.ThreadQuery{PageQuery: page("thr_9")})), `load_threads: not found: thread "thr_9"`},
		{second(s.LoadThreads(ctx, store.ThreadQuery{PageQuery: page("thr_1"), Owner: store.OwnedBy(bob)})),
			`load_threads: not found: thread "thr_1"`},
		{second(s.LoadThreadItems(ctx, "thr_1", page("msg_9"))), `load_thread_items: not found: item "msg_9"`},
		{second(s.LoadThreadItems(ctx, "thr_9", page("msg_1"))), `load_thread_items: not found: item "msg_1"`},
		{s.AddThreadItem(ctx, "thr_9", item(t, "msg_1", 1)), `add_thread_item: not found: thread "thr_9"`},
		{s.AddThreadItem(ctx, "thr_1", item(t, "msg_1", 1)), `add_thread_item: conflict: item "msg_1"`},
		{s.SaveItem(ctx, "thr_9", item(t, "msg_1", 1)), `save_item: not found: thread "thr_9"`},
		{s.SaveItem(update, "thr_1", item(t, "msg_9", 1)), `save_item: not found: item "msg_9"`},
		{s.SaveItem(insert, "thr_1", item(t, "msg_1", 1)), `save_item: conflict: item "msg_1"`},
		{second(s.LoadItem(ctx, "thr_1", "msg_9")), `load_item: not found: item "msg_9"`},
		{second(s.LoadItem(ctx, "thr_9", "msg_1")), `load_item: not found: item "msg_1"`},
		{second(s.LoadAttachment(ctx, "atc_9")), `load_attachment: not found: attachment "atc_9"`},
		{s.SaveAttachment(ctx, attachment(t, "atc_1", bob)), `save_attachment: conflict: attachment "atc_1"`},
		{s.SaveAttachment(update, attachment(t, "atc_9", bob)), `save_attachment: not found: attachment "atc_9"`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got error %v, want %s", c.err, c.want)
		}
	}
}

// report is one version report.
type report struct {
	thread        string
	before, after uint64
}

// Every valid call on one thread reports the thread's version. A refused write, or a delete of a missing row, reports the
// same version before and after.
func TestVersionsOfCallsThatChangeNothing(t *testing.T) {
	s := memstore.New()
	var got []report
	ctx := callctx.WithVersionRecorder(t.Context(), func(id string, before, after uint64) {
		got = append(got, report{id, before, after})
	})
	want := func(what string, r report) {
		t.Helper()
		if len(got) != 1 || got[0] != r {
			t.Errorf("%s: got reports %+v, want %+v", what, got, r)
		}
		got = nil
	}
	_, _ = s.LoadThread(ctx, "thr_1")
	want("LoadThread of an unused id", report{"thr_1", 0, 0})
	must(t, s.DeleteThread(ctx, "thr_1"))
	want("DeleteThread of an unused id", report{"thr_1", 0, 0})
	_ = s.AddThreadItem(ctx, "thr_1", item(t, "msg_1", 1))
	want("AddThreadItem to an unused id", report{"thr_1", 0, 0})
	must(t, s.SaveThread(ctx, thread("thr_1", ada)))
	want("SaveThread of a new thread", report{"thr_1", 0, 1})
	must(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_1", 1)))
	want("AddThreadItem", report{"thr_1", 1, 2})
	_ = s.AddThreadItem(ctx, "thr_1", item(t, "msg_1", 1))
	want("AddThreadItem of an existing id", report{"thr_1", 2, 2})
	_ = s.SaveThread(ctx, thread("thr_1", bob))
	want("SaveThread of another owner", report{"thr_1", 2, 2})
	must(t, s.DeleteThreadItem(ctx, "thr_1", "msg_9"))
	want("DeleteThreadItem of a missing item", report{"thr_1", 2, 2})
	must(t, s.DeleteThread(ctx, "thr_1"))
	want("DeleteThread", report{"thr_1", 2, 3})
	must(t, s.DeleteThread(ctx, "thr_1"))
	want("DeleteThread again", report{"thr_1", 3, 3})
	_, _ = s.LoadItem(ctx, "thr_1", "msg_1")
	want("LoadItem of a deleted thread", report{"thr_1", 3, 3})
	must(t, s.SaveThread(ctx, thread("thr_1", ada)))
	want("SaveThread of a deleted id", report{"thr_1", 3, 4})
}

// A recorder is user code. It may call the Store, even for the reported thread.
func TestRecordersRunUnderNoLock(t *testing.T) {
	s := memstore.New()
	must(t, s.SaveThread(t.Context(), thread("thr_1", ada)))
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1", 1)))
	n := 0
	ctx := callctx.WithVersionRecorder(t.Context(), func(id string, _, _ uint64) {
		n++
		must(t, s.SaveThread(t.Context(), thread(id, ada)))
		_, err := s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.AnyOwner()})
		must(t, err)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.LoadThread(ctx, "thr_1")
		_, _ = s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
		_, _ = s.LoadItem(ctx, "thr_1", "msg_1")
		_ = s.SaveThread(ctx, thread("thr_1", ada))
		_ = s.SaveItem(ctx, "thr_1", item(t, "msg_1", 2))
		_ = s.AddThreadItem(ctx, "thr_1", item(t, "msg_2", 2))
		_ = s.DeleteThreadItem(ctx, "thr_1", "msg_2")
		_ = s.DeleteThread(ctx, "thr_1")
	}()
	select {
	case <-done:
	case <-time.After(time.Minute): // only when it hangs
		t.Fatal("a recorder that calls the Store waits for a lock that the reported call holds")
	}
	if n != 8 {
		t.Errorf("recorded calls: got %d, want 8", n)
	}
}

// Readers and writers of threads, listings and attachments run at once, for the race detector. Each page is in order, and
// each listing matches its filter.
func TestEverythingAtOnce(t *testing.T) {
	s, ctx := memstore.New(), t.Context()
	const rounds = 200
	must(t, s.SaveThread(ctx, thread("thr_0", ada)))
	var wg sync.WaitGroup
	run := func(f func(i int)) {
		wg.Go(func() {
			for i := range rounds {
				f(i)
			}
		})
	}
	run(func(i int) { // moves a thread, and sometimes deletes it with its items
		th := thread("thr_0", ada)
		th.CreatedAt = at(i % 7)
		_ = s.SaveThread(ctx, th)
		if i%10 == 9 {
			_ = s.DeleteThread(ctx, "thr_0")
		}
	})
	for w := range 2 {
		run(func(i int) {
			a, b := fmt.Sprintf("a_%d_%d", w, i), fmt.Sprintf("b_%d_%d", w, i)
			_ = s.AddThreadItem(ctx, "thr_0", item(t, a, i))
			_ = s.SaveItem(ctx, "thr_0", item(t, b, i))
			_ = s.SaveItem(ctx, "thr_0", item(t, a, -i))
			_ = s.DeleteThreadItem(ctx, "thr_0", b)
		})
		run(func(i int) {
			id := fmt.Sprintf("thr_%d_%d", w, i)
			_ = s.SaveThread(ctx, thread(id, bob))
			_ = s.SaveAttachment(ctx, attachment(t, "atc_1", ada))
			_ = s.DeleteThread(ctx, id)
			_ = s.DeleteAttachment(ctx, "atc_1")
		})
	}
	run(func(i int) {
		p, err := s.LoadThreadItems(ctx, "thr_0", store.PageQuery{Limit: 1000, Order: store.OldestFirst})
		if err != nil {
			t.Error(err)
		}
		for j := 1; j < len(p.Data); j++ {
			if p.Data[j].CreatedAt.Before(p.Data[j-1].CreatedAt) {
				t.Errorf("a page of %d items is out of order at %d", len(p.Data), j)
			}
		}
		_, _ = s.LoadThread(ctx, "thr_0")
		_, _ = s.LoadItem(ctx, "thr_0", "a_0_0")
		_, _ = s.LoadAttachment(ctx, "atc_1")
	})
	run(func(i int) {
		for _, f := range []store.OwnerFilter{store.AnyOwner(), store.InTenant("acme"), store.OwnedBy(bob), {}} {
			p, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: f})
			if err != nil {
				t.Error(err)
			}
			for _, th := range p.Data {
				if !f.Match(th.Owner) {
					t.Errorf("a listing has thread %q of %+v, which its filter does not match", th.ID, th.Owner)
				}
			}
		}
	})
	wg.Wait()
}

func TestWithIDs(t *testing.T) {
	short, long := memstore.New(), memstore.New(memstore.WithIDs(store.LongIDs{}))
	if got := len(short.GenerateThreadID(t.Context())); got != len("thr_")+8 {
		t.Errorf("default thread id: got %d bytes, want %d", got, len("thr_")+8)
	}
	if got := len(long.GenerateThreadID(t.Context())); got != len("thr_")+32 {
		t.Errorf("long thread id: got %d bytes, want %d", got, len("thr_")+32)
	}
	if got := len(long.GenerateItemID(t.Context(), chat.KindTask, chat.Thread{})); got != len("tsk_")+32 {
		t.Errorf("long item id: got %d bytes, want %d", got, len("tsk_")+32)
	}
}

func TestCapabilities(t *testing.T) {
	s := memstore.New()
	if b, ok := store.As[driver.WriteBounder](s); !ok || b.LongestWrite() != 0 {
		t.Errorf("WriteBounder: got %v, want one that says 0", b)
	}
	if h, ok := store.As[store.HealthChecker](s); !ok || h.CheckHealth(t.Context()) != nil {
		t.Errorf("HealthChecker: got %v, want one that returns nil", h)
	}
	if got := store.Layers(s); len(got) != 1 || got[0] != "memstore" {
		t.Errorf("Layers: got %v, want memstore", got)
	}
}
