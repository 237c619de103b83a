package lifecycle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

var noWriters = WithFence(func(context.Context) error { return nil })

// The target was made anew, or restored from a backup, since the journal was written.
func TestAJournalOfAnotherTargetSkipsNothing(t *testing.T) {
	journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
	from, backup := estate(t), sharing.New(memstore.New())
	copied(t, sharing.New(memstore.New()), from, journal)
	copied(t, backup, from)
	saveThread(t, from, "thr_1", eve, "msg_3")
	copied(t, sharing.New(memstore.New()), from, journal)
	for name, to := range map[string]sharing.Store{"new": sharing.New(memstore.New()), "restored": backup} {
		if c := copied(t, to, from, journal, noWriters); c.Saved.Items == 0 {
			t.Errorf("%s: copied %+v", name, c)
		}
		equal(t, to, from)
	}
}

// The source has a tombstone of dan's. The target has eve's row under the same id.
func TestACarriedDeletionSparesTheRowOfAnother(t *testing.T) {
	for kind, save := range map[string]func(s store.Store, o chat.Owner){
		store.RowThread:     func(s store.Store, o chat.Owner) { saveThread(t, s, "x", o, "msg_1") },
		store.RowAttachment: func(s store.Store, o chat.Owner) { saveFile(t, s, "x", "a", o) },
	} {
		from, to := memstore.New(), memstore.New()
		save(from, dan)
		testenv.Must(t, from.DeleteThread(t.Context(), "x"))
		testenv.Must(t, from.DeleteAttachment(t.Context(), "x"))
		save(to, eve)
		before := contents(t, to)
		plain := struct { // a target that cannot list tombstones
			store.Store
			driver.AttachmentLister
		}{to, to}
		for _, target := range []store.Store{to, plain} {
			if _, err := Copy(t.Context(), target, from); !errors.Is(err, store.ErrConflict) || !strings.Contains(err.Error(), kind) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if after := contents(t, to); !slices.Equal(before, after) {
			t.Errorf("%s: the target has %v, had %v", kind, after, before)
		}
	}
}

// A save without an owner revives a deleted id for its last owner. A copy must not give that owner the source's row.
func TestNobodysRowIsNotGivenToTheOwnerOfADeletedID(t *testing.T) {
	for kind, save := range map[string]func(s store.Store, o chat.Owner){
		store.RowThread:     func(s store.Store, o chat.Owner) { saveThread(t, s, "x", o, "msg_1") },
		store.RowAttachment: func(s store.Store, o chat.Owner) { saveFile(t, s, "x", "secret", o) },
	} {
		from, to := memstore.New(), memstore.New()
		save(from, chat.Owner{})
		save(to, eve)
		testenv.Must(t, to.DeleteThread(t.Context(), "x"))
		testenv.Must(t, to.DeleteAttachment(t.Context(), "x"))
		if _, err := Copy(t.Context(), to, from, noWriters); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := to.LoadThread(t.Context(), "x"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: eve has the thread: %v", kind, err)
		}
		if _, err := to.LoadAttachment(t.Context(), "x"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s: eve has the attachment: %v", kind, err)
		}
	}
}

// A replica that lagged takes over. It has never had one of the threads, so it has no tombstone of it.
func TestAThreadThatTheSourceLostIsDeleted(t *testing.T) {
	journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
	from, behind, to := estate(t), estate(t), sharing.New(memstore.New())
	saveThread(t, from, "thr_lost", eve, "msg_1")
	copied(t, to, withEpoch(from, func() string { return "1" }), journal)
	copied(t, to, withEpoch(behind, func() string { return "2" }), journal, noWriters)
	if _, err := to.LoadThread(t.Context(), "thr_lost"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the target still has it: %v", err)
	}
}

// A disk that is full for a moment leaves half a line. Another line behind it would make the file unreadable.
func TestNothingIsWrittenBehindATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := testenv.Value(openJournal(path))(t)
	testenv.Must(t, j.begin("e"))
	good := j.file
	j.file = testenv.Value(os.Open(os.DevNull))(t) // refuses writes
	if err := j.note("thr_1", 1, 1); err == nil {
		t.Error("the first note was written")
	}
	testenv.Must(t, j.close())
	j.file = good
	if err := j.note("thr_2", 1, 1); err == nil {
		t.Error("the second note was written")
	}
	testenv.Must(t, j.close())
}

// A copy that was interrupted, but knows the outcomes of its writes, does not make the next one wait.
func TestAnInterruptedCopyEndsItsJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		journal := WithJournal(filepath.Join(t.TempDir(), "journal"))
		from := estate(t)
		base := sharing.New(memstore.New())
		to := faulty.New(base, faulty.WithLongestWrite(time.Hour))
		ctx, interrupt := context.WithCancel(t.Context())
		to.Inject(faulty.Fault{Op: store.OpAddThreadItem, Skip: 3, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			interrupt()
			return next(ctx) // which finds the context done
		}})
		if _, err := Copy(ctx, to, from, journal); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
		begun := time.Now()
		if _, err := Copy(t.Context(), to, from, journal); err != nil || time.Since(begun) >= time.Hour {
			t.Errorf("the next copy took %v: %v", time.Since(begun), err)
		}
		equal(t, base, from)
	})
}

// silent is a store whose pages of items report no version.
type silent struct {
	store.Store
	driver.AttachmentLister
}

func (s silent) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	return s.Store.LoadThreadItems(layer.Own(ctx), id, q)
}

func TestACopyWithoutVersionsIsRefused(t *testing.T) {
	base := estate(t)
	mute := silent{base, as[driver.AttachmentLister](base)}
	if c, err := Copy(t.Context(), sharing.New(memstore.New()), mute); !errors.Is(err, store.ErrConflict) || c.Saved.Items > 0 {
		t.Errorf("pages without versions: %+v, %v", c, err)
	}
	unversioned := silent{store.Wrap(base, noVersions), as[driver.AttachmentLister](base)}
	for name, stores := range map[string][2]store.Store{"target": {unversioned, base}, "source": {base, unversioned}} {
		if _, err := Copy(t.Context(), stores[0], stores[1]); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("a %s without versions: %v", name, err)
		}
	}
}

// noVersions is a layer that reports no versions.
var noVersions = layer.Intercept("mute", layer.InterceptorFunc(
	func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		return next(layer.Own(ctx))
	}))

// The service stands still only for what has changed since the pass before.
func TestTheLastPassReadsOnlyWhatChanged(t *testing.T) {
	base, to := estate(t), sharing.New(memstore.New())
	from := faulty.New(base)
	var pages atomic.Int64
	first := int64(0)
	from.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		pages.Add(1)
		return next(ctx)
	}})
	copied(t, to, from, WithFence(func(context.Context) error {
		saveThread(t, base, "thr_2", eve, "msg_9")
		first = pages.Swap(0)
		return nil
	}))
	if last := pages.Load(); first < 5 || last != 1 {
		t.Errorf("%d pages of items before the fence, %d behind it", first, last)
	}
	equal(t, to, base)
}

// An erased id is no cursor for its old owner or tenant.
func TestAWalkGoesOnBehindAnErasedCursor(t *testing.T) {
	base := memstore.New()
	for i := range 250 {
		at := morning.Add(time.Duration(i) * time.Second)
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_" + string(rune('a'+i/26)) + string(rune('a'+i%26)), CreatedAt: at, Owner: []chat.Owner{dan, eve}[i%2]}))
	}
	n := map[chat.Owner]int{}
	for th, err := range Threads(t.Context(), base, store.InTenant("acme")) {
		testenv.Must(t, err)
		if n[th.Owner]++; n[eve] == 25 { // the hundredth, which is the first page's cursor, is eve's
			testenv.Value(base.EraseOwner(t.Context(), eve))(t)
		}
	}
	if n[dan] != 125 || n[eve] != 50 {
		t.Errorf("the walk found %d of dan's 125 threads, and %d of the 50 of eve's that were in the first page", n[dan], n[eve])
	}
	if _, err := Export(t.Context(), new(strings.Builder), base, store.InTenant("acme")); err != nil {
		t.Error(err)
	}
}

func TestTwoErasesOfOneOwnerSucceed(t *testing.T) {
	base := memstore.New()
	for i := range 250 {
		saveThread(t, base, "thr_"+string(rune('a'+i/26))+string(rune('a'+i%26)), eve)
	}
	s := faulty.New(base)
	s.Inject(faulty.Fault{Op: store.OpDeleteThread, Skip: 50, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		testenv.Value(Erase(t.Context(), base, eve))(t)
		return next(ctx)
	}})
	if _, err := Erase(t.Context(), s, eve); err != nil {
		t.Error(err)
	}
}

// The thread was moved before its owner was erased, so its tombstone has another place than the target's row.
func TestAnErasureOfAMovedThreadIsCarriedAtOnce(t *testing.T) {
	from, to := memstore.New(), memstore.New()
	saveThread(t, from, "thr_1", eve)
	copied(t, to, from)
	testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: morning.Add(time.Hour), Owner: eve}))
	testenv.Value(from.EraseOwner(t.Context(), eve))(t)
	copied(t, to, from)
	p := testenv.Value(to.ListTombstones(t.Context(), store.RowThread, store.PageQuery{Order: store.OldestFirst}))(t)
	if len(p.Data) != 1 || !p.Data[0].Erased {
		t.Errorf("the target has %+v", p.Data)
	}
}

// Each thread waits until four are being copied, so a serial copy would wait for ever.
func TestThreadsAreCopiedInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := memstore.New(), faulty.New(memstore.New())
		for _, id := range []string{"thr_1", "thr_2", "thr_3", "thr_4"} {
			saveThread(t, from, id, eve)
		}
		var four sync.WaitGroup
		four.Add(4)
		to.Inject(faulty.Fault{Op: store.OpSaveThread, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			four.Done()
			four.Wait()
			return next(ctx)
		}})
		copied(t, to, from, WithParallel(4))
	})
}

// A cursor of a deleted thread goes on where the thread stood last at the source.
func TestTheTombstoneOfAMovedThreadHasItsLastPlace(t *testing.T) {
	from, to := memstore.New(), memstore.New()
	saveThread(t, from, "thr_1", eve)
	copied(t, to, from)
	for n := range 2 { // first over a live row of the target, then over a tombstone
		moved := morning.Add(time.Duration(n+1) * time.Hour)
		testenv.Must(t, from.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: moved, Owner: eve}))
		testenv.Must(t, from.DeleteThread(t.Context(), "thr_1"))
		copied(t, to, from)
		p := testenv.Value(to.ListTombstones(t.Context(), store.RowThread, store.PageQuery{Order: store.OldestFirst}))(t)
		if len(p.Data) != 1 || !p.Data[0].CreatedAt.Equal(moved) || p.Data[0].Owner != eve {
			t.Errorf("%d: the target has %+v, want the place %v", n, p.Data, moved)
		}
	}
}
