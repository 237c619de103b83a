package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

var (
	morning = time.Date(2026, 1, 2, 9, 0, 0, 0, time.UTC)
	eve     = chat.Owner{Tenant: "acme", Subject: "eve"}
	dan     = chat.Owner{Tenant: "acme", Subject: "dan"}
)

func saveThread(t testing.TB, s store.Store, id string, o chat.Owner, items ...string) {
	t.Helper()
	testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: morning, Owner: o}))
	for _, item := range items {
		testenv.Must(t, s.AddThreadItem(t.Context(), id, testenv.OrPanic(chat.NewItem(item, morning, chat.EndOfTurn{}))))
	}
}

func saveFile(t testing.TB, s store.Store, id, name string, o chat.Owner) {
	t.Helper()
	a := testenv.OrPanic(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"}))
	a.Owner = o
	testenv.Must(t, s.SaveAttachment(t.Context(), a))
}

// estate returns a source with a few of everything.
func estate(t testing.TB) sharing.Store {
	s := sharing.New(memstore.New())
	for i := range 5 {
		saveThread(t, s, fmt.Sprint("thr_", i), eve, "msg_1", "msg_2")
		saveFile(t, s, fmt.Sprint("atc_", i), "a", eve)
	}
	testenv.Must(t, s.Grant(t.Context(), sharing.Grant{ThreadID: "thr_1", To: sharing.Grantee{Tenant: "acme", Subject: "zoe"}, Role: sharing.Viewer, By: eve}))
	for _, o := range []chat.Owner{eve, dan} {
		saveThread(t, s, "thr_of_"+o.Subject, o)
		saveFile(t, s, "atc_of_"+o.Subject, "a", o)
	}
	testenv.Must(t, s.DeleteThread(t.Context(), "thr_of_eve"))
	testenv.Must(t, s.DeleteAttachment(t.Context(), "atc_of_eve"))
	testenv.Value(s.(driver.Eraser).EraseOwner(t.Context(), dan))(t)
	return s
}

// equal wants the target to be as the source.
func equal(t testing.TB, to, from store.Store) {
	t.Helper()
	if d := cmp.Diff(contents(t, from), contents(t, to)); d != "" {
		t.Errorf("(-source +target):\n%s", d)
	}
}

func copied(t testing.TB, to, from store.Store, opts ...Option) Copied {
	t.Helper()
	return testenv.Value(Copy(t.Context(), to, from, opts...))(t)
}

func TestCopyCountsRows(t *testing.T) {
	from, to := estate(t), sharing.New(memstore.New())
	saveThread(t, to, "thr_0", eve, "msg_1", "msg_old")
	var looked Counts
	calls := 0
	c := copied(t, to, from, WithProgress(func(n Counts) {
		calls++
		if n.Threads < looked.Threads || n.Items < looked.Items || n.Attachments < looked.Attachments {
			t.Errorf("after %+v the progress is %+v", looked, n)
		}
		looked = n
	}))
	equal(t, to, from)
	want := Copied{Saved: Counts{Threads: 4, Items: 9, Attachments: 5}, Same: Counts{Threads: 1, Items: 1}, Deleted: Counts{Items: 1}}
	if c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
	if looked != (Counts{Threads: 5, Items: 10, Attachments: 5}) || calls < 6 {
		t.Errorf("%d calls, the last with %+v", calls, looked)
	}
	if c, want := copied(t, to, from), (Copied{Same: Counts{Threads: 5, Items: 10, Attachments: 5}}); c != want {
		t.Errorf("the second time: got %+v, want %+v", c, want)
	}
	equal(t, to, from)
}

func TestAJournalledThreadIsSkippedUntilItChanges(t *testing.T) {
	journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
	from, to := estate(t), sharing.New(memstore.New())
	copied(t, to, from, journal)
	saveThread(t, from, "thr_3", eve, "msg_3")
	testenv.Must(t, from.DeleteThread(t.Context(), "thr_4"))
	reads := faulty.New(from)
	c := copied(t, to, reads, journal)
	equal(t, to, from)
	if n := reads.Calls(store.OpLoadThreadItems); n != 1 {
		t.Errorf("%d reads of items, want 1: of the thread that changed", n)
	}
	if want := (Copied{Saved: Counts{Items: 1}, Same: Counts{Threads: 4, Items: 2, Attachments: 5}, Deleted: Counts{Threads: 1}}); c != want {
		t.Errorf("got %+v, want %+v", c, want)
	}
}

// A message at the begin of a long thread is edited.
func TestAChangedItemIsSavedInItsPlace(t *testing.T) {
	from, to := estate(t), sharing.New(memstore.New())
	for i := range 10 {
		saveThread(t, from, "thr_0", eve, fmt.Sprint("msg_more", i))
	}
	copied(t, to, from)
	testenv.Must(t, from.SaveItem(t.Context(), "thr_0", testenv.OrPanic(chat.NewItem("msg_2", morning, chat.SDKHiddenContext{Content: "new"}))))
	if c := copied(t, to, from); c.Saved.Items != 1 || c.Deleted.Items != 0 {
		t.Errorf("got %+v", c)
	}
	equal(t, to, from)
}

func TestADeletionIsCarriedByTheJournalAlone(t *testing.T) {
	journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
	base, to := memstore.New(), memstore.New()
	from := struct {
		store.Store
		driver.VersionReader
		driver.AttachmentLister
	}{base, base, base} // no tombstones
	saveThread(t, base, "thr_1", eve)
	saveThread(t, to, "thr_only_there", eve)
	copied(t, to, from, journal)
	testenv.Must(t, base.DeleteThread(t.Context(), "thr_1"))
	copied(t, to, from, journal)
	if got := strings.Join(contents(t, to), "\n"); strings.Contains(got, "thread {\"id\":\"thr_1\"") || !strings.Contains(got, "thr_only_there") {
		t.Errorf("the target has\n%s", got)
	}
}

func TestATornJournalLineIsLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	from, to := estate(t), sharing.New(memstore.New())
	copied(t, to, from, WithJournal(path))
	whole := testenv.Value(os.ReadFile(path))(t)
	for n := range whole {
		testenv.Must(t, os.WriteFile(path, whole[:n], 0o600))
		copied(t, to, from, WithJournal(path))
		for i, line := range slices.Collect(strings.Lines(string(testenv.Value(os.ReadFile(path))(t)))) {
			if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") || strings.Count(line, "{") != 1 {
				t.Fatalf("line %d after a cut at %d: %q", i+1, n, line)
			}
		}
	}
	equal(t, to, from)
}

func TestAnotherFileIsNotTakenForAJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	for _, text := range []string{`{"chatstore_export":1}` + "\n", "x", `{"chatstore_journal":2}` + "\n", `{"chatstore_journal":1}` + "\nx\n{}\n"} {
		testenv.Must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := Copy(t.Context(), memstore.New(), estate(t), WithJournal(path)); err == nil {
			t.Errorf("%q is a journal", text)
		}
		if got := string(testenv.Value(os.ReadFile(path))(t)); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// epochs is a store whose versions have an epoch to choose.
type epochs struct {
	sharing.Store
	driver.AttachmentLister
	driver.Tombstones
	versions driver.VersionReader
	epoch    func() string
	mu       sync.RWMutex // of Store and versions, for a test that changes them
}

func (e *epochs) ThreadVersions(ctx context.Context, ids []string) (string, []uint64, error) {
	_, vs, err := e.versions.ThreadVersions(ctx, ids)
	return e.epoch(), vs, err
}

func (e *epochs) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.Store.LoadThread(ctx, id)
}

func (e *epochs) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.Store.LoadThreadItems(ctx, id, q)
}

func (e *epochs) Grantees(ctx context.Context, id, after string, limit int) (store.Page[sharing.Grant], error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.Store.Grantees(ctx, id, after, limit)
}

func (e *epochs) Unwrap() store.Store { return e.Store }

func withEpoch(s sharing.Store, epoch func() string) *epochs {
	return &epochs{Store: s, AttachmentLister: as[driver.AttachmentLister](s), Tombstones: as[driver.Tombstones](s), versions: as[driver.VersionReader](s), epoch: epoch}
}

// A source is restored from a backup. Then other writes bring its threads to the versions that the journal knows.
func TestAJournalOfAnotherEpochIsEmpty(t *testing.T) {
	journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
	from, restored, to := estate(t), sharing.New(memstore.New()), sharing.New(memstore.New())
	copied(t, to, withEpoch(from, func() string { return "1" }), journal)
	for i := range 5 {
		saveThread(t, restored, fmt.Sprint("thr_", i), eve, "msg_1", "msg_other")
	}
	copied(t, to, withEpoch(restored, func() string { return "2" }), journal)
	for i := range 5 {
		id := fmt.Sprint("thr_", i)
		if got, want := rowsOf(t, to, id), rowsOf(t, restored, id); got != want {
			t.Errorf("the target has\n%s\nthe source has\n%s", got, want)
		}
	}
}

func TestAnEpochThatEndsInAPassBeginsItAgain(t *testing.T) {
	from, restored, to := estate(t), estate(t), sharing.New(memstore.New())
	for i := range 5 {
		saveThread(t, restored, fmt.Sprint("thr_", i), eve, "msg_other")
		saveThread(t, from, fmt.Sprint("thr_", i), eve, "msg_3")
	}
	s := withEpoch(from, nil)
	fenced, calls := false, 0
	s.epoch = func() string {
		if fenced {
			calls++
		}
		if calls < 2 { // the first call of the last pass is for the epoch alone
			return "1"
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Store, s.versions = restored, as[driver.VersionReader](restored)
		return "2"
	}
	copied(t, to, s, WithFence(func(context.Context) error { fenced = true; return nil }))
	equal(t, to, restored)
}

func TestARunBehindOneWithoutACleanEndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
		from, base := estate(t), sharing.New(memstore.New())
		to := faulty.New(base, faulty.WithLongestWrite(time.Hour))
		took := func(opts ...Option) (time.Duration, error) {
			begin := time.Now()
			_, err := Copy(t.Context(), to, from, append(opts, journal)...)
			return time.Since(begin), err
		}
		if d, err := took(); err != nil || d >= time.Hour {
			t.Errorf("the first run took %v: %v", d, err)
		}
		saveThread(t, from, "thr_2", eve, "msg_3")
		// The copier is killed while it writes. Its write takes effect when the next has looked.
		var late faulty.Late
		ctx, kill := context.WithCancel(t.Context())
		to.Inject(faulty.Fault{Op: store.OpAddThreadItem, Times: 1, Do: func(c context.Context, call layer.Call, next func(context.Context) error) error {
			kill()
			return late.Hold(context.Canceled)(c, call, next)
		}})
		if _, err := Copy(ctx, to, from, journal); !errors.Is(err, context.Canceled) {
			t.Errorf("a killed run: %v", err)
		}
		testenv.Must(t, from.DeleteThreadItem(t.Context(), "thr_2", "msg_3"))
		time.AfterFunc(59*time.Minute, func() { testenv.Must(t, late.Apply()) })
		if d, err := took(); err != nil || d < time.Hour {
			t.Errorf("the run after a killed one took %v: %v", d, err)
		}
		time.Sleep(time.Hour)
		equal(t, base, from)
		if d, err := took(WithFence(func(context.Context) error { return store.ErrDenied })); !errors.Is(err, store.ErrDenied) || d >= time.Hour {
			t.Errorf("a run whose fence failed took %v: %v", d, err)
		}
		if d, err := took(); err != nil || d >= time.Hour {
			t.Errorf("the run after a failed fence took %v: %v", d, err)
		}
	})
}

func TestADeletedIDKeepsItsOwnerAndPlace(t *testing.T) {
	from, to := memstore.New(), memstore.New()
	for i, id := range []string{"thr_1", "thr_2", "thr_3"} {
		testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: morning.Add(time.Duration(i)), Owner: eve}))
	}
	testenv.Must(t, from.DeleteThread(t.Context(), "thr_2"))
	saveFile(t, from, "atc_1", "a", eve)
	testenv.Must(t, from.DeleteAttachment(t.Context(), "atc_1"))
	copied(t, to, from)
	equal(t, to, from)
	for _, s := range []store.Store{from, to} {
		p, err := s.LoadThreads(t.Context(), store.ThreadQuery{Owner: store.OwnedBy(eve), PageQuery: store.PageQuery{After: "thr_2", Order: store.OldestFirst}})
		if err != nil || len(p.Data) != 1 || p.Data[0].ID != "thr_3" {
			t.Errorf("behind a deleted thread: %v, %v", p.Data, err)
		}
		if err := s.SaveThread(t.Context(), chat.Thread{ID: "thr_2", CreatedAt: morning, Owner: dan}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("another owner's save of a deleted id: %v", err)
		}
	}
	testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: "thr_2", CreatedAt: morning, Owner: eve}))
	copied(t, to, from)
	equal(t, to, from)
}

// The target had the rows before the owner was erased.
func TestAnErasureIsCarried(t *testing.T) {
	from, to := memstore.New(), memstore.New()
	for _, o := range []chat.Owner{eve, dan} {
		saveThread(t, from, "thr_"+o.Subject, o, "msg_1")
		saveFile(t, from, "atc_"+o.Subject, "a", o)
	}
	copied(t, to, from)
	testenv.Value(from.EraseOwner(t.Context(), dan))(t)
	copied(t, to, from)
	equal(t, to, from)
	if rows := fmt.Sprint(contents(t, to)); strings.Contains(rows, "dan") && strings.Contains(rows, "{acme dan}") {
		t.Errorf("the target knows the name: %s", rows)
	}
}

// To erase the owner at the target would make ids unusable that the owner uses.
func TestAnOwnerWhoBeganAnewIsNotErased(t *testing.T) {
	for name, anew := range map[string]func(s store.Store){
		"a thread": func(s store.Store) { saveThread(t, s, "thr_new", dan) },
		"a deleted thread": func(s store.Store) {
			saveThread(t, s, "thr_new", dan)
			testenv.Must(t, s.DeleteThread(t.Context(), "thr_new"))
		},
		"an attachment": func(s store.Store) { saveFile(t, s, "atc_new", "a", dan) },
		"a deleted attachment": func(s store.Store) {
			saveFile(t, s, "atc_new", "a", dan)
			testenv.Must(t, s.DeleteAttachment(t.Context(), "atc_new"))
		},
	} {
		from, to := memstore.New(), memstore.New()
		saveThread(t, from, "thr_old", dan)
		copied(t, to, from)
		testenv.Must(t, from.DeleteThread(t.Context(), "thr_old"))
		copied(t, to, from)
		testenv.Value(from.EraseOwner(t.Context(), dan))(t)
		anew(from)
		copied(t, to, from, WithFence(func(context.Context) error { return nil }))
		anew(from) // the id is used again
		testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: "thr_2", CreatedAt: morning, Owner: dan}))
		if _, err := Copy(t.Context(), to, from); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := contents(t, to); !slices.ContainsFunc(got, func(row string) bool { return strings.Contains(row, "_new") && !strings.Contains(row, "true") }) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAttachmentsAreCopiedByContentAndOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, base := memstore.New(), memstore.New()
		for i := range 250 {
			saveFile(t, from, fmt.Sprint("atc_", i), "a", eve)
			if i%3 == 0 {
				saveFile(t, base, fmt.Sprint("atc_", i), "old", eve)
			}
		}
		saveFile(t, base, "atc_only_there", "a", eve)
		saveFile(t, base, "atc_zz", "a", eve)
		saveFile(t, from, "atc_zz", "a", eve)
		testenv.Must(t, from.DeleteAttachment(t.Context(), "atc_zz"))
		to := faulty.New(base, faulty.WithLongestWrite(time.Minute))
		// A write is late. What it writes has changed at the source in between.
		var late faulty.Late
		to.Inject(faulty.Fault{Op: store.OpSaveAttachment, When: func(c layer.Call) bool { return c.AttachmentID == "atc_1" }, Times: 1,
			Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
				time.AfterFunc(59*time.Second, func() { testenv.Must(t, late.Apply()) })
				saveFile(t, from, "atc_1", "new", eve)
				return late.Hold(nil)(ctx, c, next)
			}})
		c := copied(t, to, from)
		time.Sleep(time.Hour)
		if c.Saved.Attachments != 250 || c.Deleted.Attachments != 1 {
			t.Errorf("got %+v", c)
		}
		testenv.Must(t, base.DeleteAttachment(t.Context(), "atc_only_there")) // it was there
		got := slices.DeleteFunc(contents(t, base), func(row string) bool { return strings.Contains(row, "only_there") })
		if d := cmp.Diff(contents(t, from), got); d != "" {
			t.Error(d)
		}
	})
}

func TestWhatCannotBeCopiedIsUnsupported(t *testing.T) {
	base := memstore.New()
	saveThread(t, base, "thr_1", eve)
	guarded := struct{ store.Store }{base}
	for _, s := range [][2]store.Store{{memstore.New(), guarded}, {guarded, memstore.New()}} {
		if _, err := Copy(t.Context(), s[0], s[1]); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a store that cannot list attachments: %v", err)
		}
	}
	if _, ok := store.As[driver.Tombstones](store.Wrap(base, authz.New(authz.OwnerOnly()))); ok {
		t.Error("tombstones are found past a guard")
	}
	to := memstore.New()
	copied(t, to, guarded, WithoutAttachments())
	if got, want := rowsOf(t, to, "thr_1"), rowsOf(t, base, "thr_1"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	copied(t, memstore.New(), sharing.New(base)) // no grant
	if _, err := Copy(t.Context(), memstore.New(), estate(t)); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "thr_1") {
		t.Errorf("a target without grants: %v", err)
	}
}

func TestGrantsAreEqualAndInOrder(t *testing.T) {
	from, to := estate(t), sharing.New(memstore.New())
	synctest.Test(t, func(t *testing.T) {
		grantee := func(i int) sharing.Grantee { return sharing.Grantee{Tenant: "acme", Subject: fmt.Sprint("friend", i)} }
		grant := func(s sharing.Grants, i int, r sharing.Role) {
			testenv.Must(t, s.Grant(t.Context(), sharing.Grant{ThreadID: "thr_2", To: grantee(i), Role: r, By: eve}))
			time.Sleep(2 * time.Microsecond) // two grants have two times
		}
		for _, i := range []int{5, 3, 9, 1, 7} {
			grant(from, i, sharing.Viewer)
		}
		copied(t, to, from)
		equal(t, to, from)
		// A grant does not change its thread: only the pass behind the fence finds it.
		grant(from, 3, sharing.Editor)
		testenv.Must(t, from.Revoke(t.Context(), "thr_2", grantee(9)))
		grant(to, 12, sharing.Viewer)
		journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
		copied(t, to, from, journal, WithFence(func(context.Context) error {
			grant(from, 4, sharing.Viewer)
			return nil
		}))
		equal(t, to, from)
	})
}

// A write that began before the fence takes effect within the source's bound.
func TestTheFenceWaitsForAbandonedWritesOfTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, to := estate(t), sharing.New(memstore.New())
		from := faulty.New(base, faulty.WithLongestWrite(time.Minute))
		copied(t, to, from, WithFence(func(context.Context) error {
			time.AfterFunc(59*time.Second, func() {
				saveThread(t, base, "thr_2", eve, "msg_late")
				saveFile(t, base, "atc_2", "late", eve)
			})
			return nil
		}))
		time.Sleep(time.Hour)
		equal(t, to, base)
	})
}

func TestAFenceThatFailsEndsTheCopy(t *testing.T) {
	from, base := estate(t), sharing.New(memstore.New())
	to := faulty.New(base)
	failed := errors.New("a process does not answer")
	_, err := Copy(t.Context(), to, from, WithFence(func(context.Context) error {
		to.Inject(faulty.Fault{Do: func(_ context.Context, c layer.Call, _ func(context.Context) error) error {
			t.Errorf("%v behind the fence", c)
			return nil
		}})
		return failed
	}))
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

// A thread that never stands still is no reason to give up before the fence. Without a fence, Copy says which thread it is.
func TestABusyThreadIsLeftForTheFence(t *testing.T) {
	base, to := estate(t), sharing.New(memstore.New())
	busy, n := true, 0
	from := faulty.New(base)
	from.Inject(faulty.Fault{Op: store.OpLoadThreadItems, When: func(c layer.Call) bool { return c.ThreadID == "thr_2" },
		Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			if busy {
				n++
				testenv.Must(t, base.SaveItem(ctx, "thr_2", testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", n%3), morning, chat.EndOfTurn{}))))
			}
			return next(ctx)
		}})
	_, err := Copy(t.Context(), to, from)
	if e, ok := errors.AsType[*store.Error](err); !ok || e.Code != store.CodeConflict || e.ID != "thr_2" {
		t.Errorf("got %v", err)
	}
	copied(t, to, from, WithParallel(1), WithFence(func(context.Context) error { busy = false; return nil }))
	equal(t, to, base)
}

func TestAWriteOfAnotherToTheTargetIsNoticed(t *testing.T) {
	from, base := estate(t), sharing.New(memstore.New())
	saveThread(t, base, "thr_2", eve, "msg_1")
	to := faulty.New(base)
	to.Inject(faulty.Fault{Op: store.OpAddThreadItem, When: func(c layer.Call) bool { return c.ThreadID == "thr_2" }, Times: 1,
		Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			saveThread(t, base, "thr_2", eve, "msg_another")
			return next(ctx)
		}})
	copied(t, to, from)
	equal(t, base, from)
}

func TestARowOfAnotherOwnerIsAConflict(t *testing.T) {
	from := memstore.New()
	saveThread(t, from, "thr_1", chat.Owner{})
	for _, o := range []chat.Owner{eve, {}} {
		to := memstore.New()
		saveThread(t, to, "thr_1", o)
		if _, err := Copy(t.Context(), to, from); errors.Is(err, store.ErrConflict) != (o == eve) {
			t.Errorf("the target's owner is %v: %v", o, err)
		}
	}
	from = memstore.New()
	saveFile(t, from, "atc_1", "a", chat.Owner{})
	to := memstore.New()
	saveFile(t, to, "atc_1", "a", eve)
	if _, err := Copy(t.Context(), to, from); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an attachment of another owner: %v", err)
	}
}

// The cache of a stack does not hear of another process's writes.
func TestASourceIsReadPastItsCaches(t *testing.T) {
	base, to := estate(t), sharing.New(memstore.New())
	from := store.Wrap(base, cache.New())
	defer func() { testenv.Must(t, store.Close(from)) }()
	rowsOf(t, from, "thr_1")
	testenv.Value(from.LoadAttachment(t.Context(), "atc_1"))(t)
	saveThread(t, base, "thr_1", eve, "msg_new")
	testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: morning, Title: "new", Owner: eve}))
	saveFile(t, base, "atc_1", "new", eve)
	copied(t, to, from)
	equal(t, to, base)
}

func TestACancelledCopyReturnsAtOnceAndTheNextCompletes(t *testing.T) {
	for n := range 80 {
		synctest.Test(t, func(t *testing.T) { // it also waits for all goroutines
			from, base := estate(t), sharing.New(memstore.New())
			to := faulty.New(base, faulty.WithLongestWrite(time.Hour))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			to.Inject(faulty.Fault{Skip: n, Times: 1, Do: func(ctx context.Context, _ layer.Call, _ func(context.Context) error) error {
				cancel()
				return ctx.Err()
			}})
			begin := time.Now()
			_, err := Copy(ctx, to, from)
			if !errors.Is(err, ctx.Err()) {
				t.Errorf("cancelled in call %d: %v", n, err)
			}
			if d := time.Since(begin); d > time.Second {
				t.Errorf("cancelled in call %d: it took %v", n, d)
			}
			to.Reset()
			copied(t, to, from)
			equal(t, base, from)
		})
	}
}

func TestACopyThatFailsInACallIsFinishedByAnother(t *testing.T) {
	for n := range 70 {
		for _, side := range []string{"source", "target"} {
			synctest.Test(t, func(t *testing.T) {
				base, dst := estate(t), sharing.New(memstore.New())
				from, to := faulty.New(base), faulty.New(dst)
				f := from
				if side == "target" {
					f = to
				}
				f.Inject(faulty.Fault{Skip: n, Do: faulty.Fail(nil)}) // all calls from the nth on
				journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
				if _, err := Copy(t.Context(), to, from, journal); err != nil && !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s, call %d: %v", side, n, err)
				}
				f.Reset()
				copied(t, to, from, journal)
				equal(t, dst, base)
			})
		}
	}
}
