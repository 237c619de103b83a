package lifecycle_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// bad has rows that cannot be read, as kind, thread id and id.
type bad map[[3]string]bool

var errLost = errors.New("the key is lost")

func (b bad) fail(kind, threadID, id string) error {
	if b[[3]string{kind, threadID, id}] {
		return errLost
	}
	return nil
}

// layer returns a layer that cannot read the rows.
func (b bad) layer() store.Middleware {
	return layer.Transform("bad", layer.Transformer{
		LoadThread: func(_ context.Context, t chat.Thread) (chat.Thread, error) {
			return t, b.fail(store.RowThread, "", t.ID)
		},
		LoadItem: func(_ context.Context, it chat.Item) (chat.Item, error) {
			return it, b.fail(store.RowItem, it.ThreadID, it.ID)
		},
		LoadAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) {
			return a, b.fail(store.RowAttachment, "", a.ID)
		},
		Lossless: true,
	})
}

// found returns the rows that Scan finds, and its error.
func found(t *testing.T, s store.Store, f store.OwnerFilter) (bad, error) {
	t.Helper()
	rows := bad{}
	var end error
	for u, err := range lifecycle.Scan(t.Context(), s, f) {
		if end != nil {
			t.Fatal("the sequence went on after its error")
		}
		if err != nil {
			end = err
			continue
		}
		if key := [3]string{u.Kind, u.ThreadID, u.ID}; rows[key] || store.CodeOf(u.Err) != store.CodeInternal {
			t.Fatalf("got %+v again, or as no row that cannot be read", u)
		}
		rows[[3]string{u.Kind, u.ThreadID, u.ID}] = true
	}
	return rows, end
}

// many returns a store with 230 threads, one of which has 230 items, and 230 attachments, and all its rows.
func many(t *testing.T) (s store.Store, rows [][3]string) {
	s = memstore.New()
	for i := range 230 {
		id := fmt.Sprint("thr_", i)
		testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: noon, Owner: ada}))
		it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), noon, chat.EndOfTurn{}))
		testenv.Must(t, s.AddThreadItem(t.Context(), "thr_0", it))
		a := testenv.OrPanic(chat.NewAttachment(fmt.Sprint("atc_", i), chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))
		testenv.Must(t, s.SaveAttachment(t.Context(), a))
		rows = append(rows, [3]string{store.RowThread, "", id}, [3]string{store.RowItem, "thr_0", it.ID}, [3]string{store.RowAttachment, "", a.ID})
	}
	return s, rows
}

func TestScanFindsExactlyTheUnreadableRows(t *testing.T) {
	base, rows := many(t)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		lost := bad{}
		for _, row := range rows {
			if r.IntN(100) < []int{0, 1, 10, 50, 100}[seed%5] {
				lost[row] = true
			}
		}
		counted := faulty.New(base)
		got, err := found(t, store.Wrap(counted, lost.layer()), store.AnyOwner())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(lost) {
			t.Fatalf("seed %d: got %v, %v; want %v", seed, got, err, lost)
		}
		if most := 300 + 22*len(lost); counted.Total() > most { // the items of each thread, and the look at the cursor of each page, are calls
			t.Errorf("seed %d: %d unreadable rows cost %d calls, want at most %d", seed, len(lost), counted.Total(), most)
		}
	}
}

func TestScanEndsWithAnyOtherError(t *testing.T) {
	base, rows := many(t)
	lost := bad{rows[0]: true, rows[1]: true, rows[2]: true}
	for _, cause := range []error{store.ErrUnavailable, context.Canceled, errors.New("disk")} {
		for _, op := range []store.Op{store.OpLoadThreads, store.OpLoadThreadItems} {
			for skip := range 5 {
				f := faulty.New(base)
				f.Inject(faulty.Fault{Op: op, Skip: skip, Times: 1, Do: faulty.Fail(cause)})
				if _, err := found(t, store.Wrap(f, lost.layer()), store.AnyOwner()); store.CodeOf(err) != store.CodeOf(cause) {
					t.Errorf("%v, %d: got %v, want %v", op, skip, err, cause)
				}
			}
		}
	}
	hidden := struct{ store.Store }{store.Wrap(base, lost.layer())} // it lists no attachments
	if got, err := found(t, hidden, store.AnyOwner()); !errors.Is(err, errors.ErrUnsupported) || len(got) != 2 {
		t.Errorf("got %v, %v; want the thread and the item, then ErrUnsupported", got, err)
	}
	for range lifecycle.Scan(t.Context(), store.Wrap(base, lost.layer()), store.AnyOwner()) {
		break
	}
}

// A base may name the same row for ever, or another kind of row.
func TestScanDoesNotLoopForEver(t *testing.T) {
	base, _ := many(t)
	for name, e := range map[string]*store.Error{
		"the same row": {Kind: store.RowThread, ID: "thr_5", Code: store.CodeInternal},
		"no row":       {Kind: store.RowThread, Code: store.CodeInternal},
		"another kind": {Kind: store.RowItem, ID: "msg_1", Code: store.CodeInternal},
	} {
		f := faulty.New(base)
		f.Inject(faulty.Fault{Op: store.OpLoadThreads, Do: faulty.Fail(e)})
		if got, err := found(t, f, store.AnyOwner()); !errors.Is(err, e) || len(got) > 1 {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

// A row that can be read when it is looked at alone is not listed.
func TestScanGoesOnWhenARowIsMended(t *testing.T) {
	base, rows := many(t)
	f := faulty.New(base)
	e := &store.Error{Kind: store.RowThread, ID: "thr_5", Code: store.CodeInternal}
	f.Inject(faulty.Fault{Op: store.OpLoadThreads, Skip: 1, Times: 1, Do: faulty.Fail(e)})
	lost := bad{rows[len(rows)-3]: true}
	if got, err := found(t, store.Wrap(f, lost.layer()), store.AnyOwner()); err != nil || fmt.Sprint(got) != fmt.Sprint(lost) {
		t.Errorf("got %v, %v; want %v", got, err, lost)
	}
}

func TestScanSelectsOwners(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	lost := bad{}
	for i := range 4 {
		lost[[3]string{store.RowThread, "", fmt.Sprint("thr_", i)}] = true
		lost[[3]string{store.RowAttachment, "", fmt.Sprint("atc_", i)}] = true
		lost[[3]string{store.RowItem, fmt.Sprint("thr_", i), "msg_odd"}] = true
	}
	got, err := found(t, store.Wrap(base, lost.layer()), store.OwnedBy(bob))
	if err != nil || fmt.Sprint(got) != "map[[attachment  atc_1]:true [item thr_1 msg_odd]:true [thread  thr_1]:true]" {
		t.Errorf("got %v, %v", got, err)
	}
}

// synced is a file that has reached the disk up to the last Sync.
type synced struct {
	bytes.Buffer
	disk string
	fail error
}

func (s *synced) Sync() error {
	s.disk = s.String()
	return s.fail
}

// Scan and Quarantine in one loop make the lists work again. When the rows can be read, the files bring them back.
func TestQuarantinedRowsComeBackByteForByte(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	lost := bad{
		{store.RowThread, "", "thr_1"}: true, {store.RowItem, "thr_1", "msg_odd"}: true, {store.RowItem, "thr_3", "msg_800"}: true,
		{store.RowAttachment, "", "atc_2"}: true,
	}
	before := dump(t, base)
	var files []string
	s := faulty.New(store.Wrap(base, lost.layer()))
	for u, err := range lifecycle.Scan(t.Context(), s, store.AnyOwner()) {
		testenv.Must(t, err)
		var file synced
		unsynced := ""
		s.Inject(faulty.Fault{When: func(c layer.Call) bool { return c.Op.IsWrite() },
			Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				if file.disk == "" || file.disk != file.String() {
					unsynced = file.String()
				}
				return next(ctx)
			}})
		testenv.Must(t, lifecycle.Quarantine(t.Context(), &file, s, u))
		if unsynced != "" || file.disk == "" {
			t.Errorf("%v was deleted before it was on the disk", u)
		}
		files = append(files, file.disk)
	}
	if len(files) != 3 { // the thread with its items, an item, an attachment
		t.Errorf("%d files", len(files))
	}
	for _, f := range []store.OwnerFilter{store.OwnedBy(ada), store.OwnedBy(bob), store.OwnedBy(chat.Owner{})} {
		testenv.Value(s.LoadThreads(t.Context(), store.ThreadQuery{Owner: f}))(t)
	}
	if got, err := found(t, s, store.AnyOwner()); err != nil || len(got) != 0 {
		t.Errorf("after the quarantine: %v, %v", got, err)
	}
	clear(lost)
	for _, file := range files {
		_, err := lifecycle.Import(t.Context(), base, strings.NewReader(file))
		testenv.Must(t, err)
	}
	// An item comes back behind those of its time.
	sorted := func(text string) string { return fmt.Sprint(slices.Sorted(strings.SplitSeq(text, "\n"))) }
	if got := dump(t, s); sorted(got) != sorted(before) {
		t.Errorf("got\n%s\nwant\n%s", got, before)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

// rawless is a base that cannot read raw rows.
type rawless struct{ store.Store }

func TestQuarantineDeletesNothingIf(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	lost := bad{{store.RowThread, "", "thr_1"}: true, {store.RowItem, "thr_3", "msg_800"}: true, {store.RowAttachment, "", "atc_2"}: true}
	s := store.Wrap(base, lost.layer())
	rows := []lifecycle.Unreadable{
		{Kind: store.RowThread, ID: "thr_1"}, {Kind: store.RowItem, ThreadID: "thr_3", ID: "msg_800"}, {Kind: store.RowAttachment, ID: "atc_2"},
	}
	was := dump(t, base)
	refused := func(what string, u lifecycle.Unreadable, w io.Writer, s store.Store, want error) {
		t.Helper()
		if err := lifecycle.Quarantine(t.Context(), w, s, u); !errors.Is(err, want) {
			t.Errorf("%s: %v: got %v, want %v", what, u, err, want)
		}
		if dump(t, base) != was {
			t.Fatalf("%s: %v was deleted", what, u)
		}
	}
	disk := errors.New("the disk is full")
	for i, u := range rows {
		refused("no base with raw rows", u, io.Discard, rawless{s}, errors.ErrUnsupported)
		refused("a guard", u, io.Discard, store.Wrap(s, authz.New(authz.OwnerOnly())), errors.ErrUnsupported)
		refused("a full disk", u, &failingWriter{100}, s, io.ErrShortWrite)
		refused("a failing sync", u, &synced{fail: disk}, s, disk)
		refused("a row that can be read", u, io.Discard, base, store.ErrConflict)
		u.ID += "x"
		refused("a missing row", u, io.Discard, s, store.ErrNotFound)
		away := faulty.New(s)
		away.Inject(faulty.Fault{Do: faulty.Fail(store.ErrUnavailable)})
		refused("the base is away", rows[i], io.Discard, away, store.ErrUnavailable)
	}
	refused("a kind that does not exist", lifecycle.Unreadable{ThreadID: "thr_3", ID: "msg_1"}, io.Discard, s, store.ErrInvalid)
}

// writes is a writer that calls f once.
type writes struct{ f func() }

func (w *writes) Write(b []byte) (int, error) {
	if w.f != nil {
		w.f()
		w.f = nil
	}
	return len(b), nil
}

func TestQuarantineDeletesNothingThatWasWrittenMeanwhile(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	lost := bad{{store.RowThread, "", "thr_1"}: true, {store.RowItem, "thr_3", "msg_800"}: true}
	s := store.Wrap(base, lost.layer())
	for _, u := range []lifecycle.Unreadable{{Kind: store.RowThread, ID: "thr_1"}, {Kind: store.RowItem, ThreadID: "thr_3", ID: "msg_800"}} {
		was := ""
		w := &writes{func() {
			it := testenv.OrPanic(chat.NewItem("msg_new", noon, chat.EndOfTurn{}))
			testenv.Must(t, base.SaveItem(t.Context(), cmp.Or(u.ThreadID, u.ID), it))
			was = dump(t, base)
		}}
		if err := lifecycle.Quarantine(t.Context(), w, s, u); !errors.Is(err, store.ErrConflict) || was == "" || dump(t, base) != was {
			t.Errorf("%v: got %v", u, err)
		}
	}
}

// A cursor in a deleted thread's items is ErrNotFound.
func TestScanGoesOnBehindADeletedThread(t *testing.T) {
	base, rows := many(t)
	deleting := before(base, store.OpLoadThreadItems, func() {
		if n := len(rows); n > 0 { // the first page of thr_0
			rows = nil
			return
		}
		testenv.Must(t, base.DeleteThread(t.Context(), "thr_0"))
	})
	last := bad{{store.RowThread, "", "thr_99"}: true, {store.RowItem, "thr_0", "msg_150"}: true}
	got, err := found(t, store.Wrap(deleting, last.layer()), store.AnyOwner())
	if err != nil || len(got) != 1 {
		t.Errorf("got %v, %v; want the thread only", got, err)
	}
}

func TestScanMissesNoRowIfItsCursorMoves(t *testing.T) {
	base := memstore.New()
	for i := range 250 {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: noon.Add(time.Duration(i) * time.Second), Owner: ada}))
	}
	lost := bad{{store.RowThread, "", "thr_150"}: true, {store.RowThread, "", "thr_240"}: true}
	s := faulty.New(base)
	s.Inject(faulty.Fault{Op: store.OpLoadThreads, Skip: 1, Times: 1, Do: func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_99", CreatedAt: noon.Add(239 * time.Second), Owner: ada}))
		return next(ctx)
	}})
	got, err := found(t, store.Wrap(s, lost.layer()), store.AnyOwner())
	if err != nil || fmt.Sprint(got) != fmt.Sprint(lost) {
		t.Errorf("found %v, %v; want %v", got, err, lost)
	}
}
