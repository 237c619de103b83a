package encrypt_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// The steps of the package comment, with readers of every step beside.
func TestANewKeyTakesOver(t *testing.T) {
	ctx, base := t.Context(), memstore.New()
	k, old := newKeys(t)
	first := k.aead(t)
	fill(t, store.Wrap(base, encrypt.New(first)))
	for i := range 250 { // several pages
		must(t, store.Wrap(base, encrypt.New(first)).SaveItem(ctx, "thr_1", message(fmt.Sprint("msg_", i), canary)))
	}
	want := contents(t, store.Wrap(base, encrypt.New(first)))
	same := func(what string, s store.Store) {
		t.Helper()
		if contents(t, s) != want {
			t.Error(what, "has other contents")
		}
	}

	added := k.add(t)
	secondary := store.Wrap(base, encrypt.New(k.aead(t)))
	must(t, k.SetPrimary(added))
	both := k.aead(t)
	primary := store.Wrap(base, encrypt.New(both))
	must(t, primary.SaveItem(ctx, "thr_1", message("msg_1", canary)))
	same("a process with the new key as secondary", secondary)
	same("a process with the new key as primary", primary)

	r := testenv.Value(encrypt.Reencrypt(ctx, base, both, encrypt.WithPrimary(added)))(t)
	if want := (encrypt.Result{Opened: 252, Saved: 251}); r != want {
		t.Errorf("walk: got %+v, want %+v", r, want)
	}
	same("a process with both keys, after the walk", secondary)
	must(t, k.Disable(old))
	r = testenv.Value(encrypt.Reencrypt(ctx, base, k.aead(t), encrypt.WithPrimary(added)))(t)
	if want := (encrypt.Result{Opened: 252}); r != want {
		t.Errorf("verify: got %+v, want %+v", r, want)
	}
	same("a process without the old key", store.Wrap(base, encrypt.New(k.aead(t))))
	for what, err := range loads(ctx, store.Wrap(base, encrypt.New(first))) {
		internal(t, what+" with the old key only", err)
	}

	// Without WithPrimary, every row is saved again.
	r = testenv.Value(encrypt.Reencrypt(ctx, base, k.aead(t)))(t)
	if want := (encrypt.Result{Opened: 252, Saved: 252}); r != want {
		t.Errorf("without WithPrimary: got %+v, want %+v", r, want)
	}
}

// A key without output prefix cannot be told from another, so its rows are saved again.
func TestWithPrimaryOfAKeyWithoutPrefixSavesAll(t *testing.T) {
	k := keys{keyset.NewManager()}
	id := testenv.Value(k.Add(aead.AES256GCMNoPrefixKeyTemplate()))(t)
	must(t, k.SetPrimary(id))
	base := memstore.New()
	fill(t, store.Wrap(base, encrypt.New(k.aead(t))))
	if r := testenv.Value(encrypt.Reencrypt(t.Context(), base, k.aead(t), encrypt.WithPrimary(id)))(t); r.Saved != 3 {
		t.Errorf("%+v", r)
	}
}

// The verifying walk opens also what it leaves alone.
func TestAWalkOpensEveryRow(t *testing.T) {
	ctx, base := t.Context(), memstore.New()
	k, id := newKeys(t)
	fill(t, store.Wrap(base, encrypt.New(k.aead(t))))
	row := testenv.Value(base.LoadItem(ctx, "thr_1", "msg_1"))(t)
	row.ID = "msg_2"
	must(t, base.SaveItem(ctx, "thr_1", row))
	r, err := encrypt.Reencrypt(ctx, base, k.aead(t), encrypt.WithPrimary(id))
	if internal(t, "the walk", err); r != (encrypt.Result{Opened: 3, Unreadable: 1}) {
		t.Errorf("%+v", r)
	}
}

// WithPrimary compares with what Tink writes.
func TestWithPrimaryIsTinksPrefix(t *testing.T) {
	k, id := newKeys(t)
	base := memstore.New()
	fill(t, store.Wrap(base, encrypt.New(k.aead(t))))
	_, text, _ := strings.Cut(testenv.Value(base.LoadItem(t.Context(), "thr_1", "msg_1"))(t).JSON().String(), `"chatstore_sealed":"`)
	b := testenv.Value(base64.RawStdEncoding.DecodeString(strings.TrimSuffix(text, `"}`)))(t)
	if want := []byte{1, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}; string(b[:5]) != string(want) {
		t.Errorf("got %x, want %x", b[:5], want)
	}
}

func TestReencryptSealsPlaintext(t *testing.T) {
	base, key := memstore.New(), newKey(t)
	fill(t, base)
	want := contents(t, base)
	r, err := encrypt.Reencrypt(t.Context(), base, key)
	if internal(t, "without the switch", err); r != (encrypt.Result{Unreadable: 3}) || contents(t, base) != want {
		t.Errorf("without the switch: %+v", r)
	}
	r = testenv.Value(encrypt.Reencrypt(t.Context(), base, key, encrypt.WithPlaintext()))(t)
	if r != (encrypt.Result{Opened: 3, Saved: 3}) || strings.Contains(contents(t, base), canary) {
		t.Errorf("%+v", r)
	}
	if got := contents(t, store.Wrap(base, encrypt.New(key))); got != want {
		t.Error("got", got)
	}
}

// writing is a base that calls write after each read of a row, while write is set.
func writing(base store.Store, write func(layer.Call)) store.Store {
	return store.Wrap(base, layer.Intercept("writing", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.Op == store.OpLoadThread || c.Op == store.OpLoadItem || c.Op == store.OpLoadAttachment || c.Op == store.OpLoadThreadItems {
				write(c)
			}
			return err
		})))
}

// Another write between the read and the save of a row wins: it is neither overwritten nor, if it deleted the row, undone.
func TestReencryptLosesNoUpdate(t *testing.T) {
	for _, deletes := range []bool{false, true} {
		ctx, mem, key := t.Context(), memstore.New(), newKey(t)
		s := store.Wrap(mem, encrypt.New(key))
		fill(t, s)
		wrote := map[string]bool{}
		base := writing(mem, func(c layer.Call) {
			if wrote[c.Op.String()] {
				return
			}
			wrote[c.Op.String()] = true
			th := thread("thr_1")
			th.Title = "new"
			var err error
			switch {
			case c.Op == store.OpLoadThread && !deletes:
				err = s.SaveThread(ctx, th)
			case c.Op == store.OpLoadItem && !deletes:
				err = s.SaveItem(ctx, "thr_1", message("msg_1", "new"))
			case c.Op == store.OpLoadItem:
				err = s.DeleteThreadItem(ctx, "thr_1", "msg_1")
			case c.Op == store.OpLoadAttachment && !deletes:
				a := file("atc_1")
				a.ThreadID = "thr_new"
				err = s.SaveAttachment(ctx, a)
			case c.Op == store.OpLoadAttachment:
				err = s.DeleteAttachment(ctx, "atc_1")
			}
			if err != nil {
				t.Error(err)
			}
		})
		r := testenv.Value(encrypt.Reencrypt(ctx, base, key))(t)
		if len(wrote) != 4 {
			t.Fatal("wrote", wrote)
		}
		if deletes {
			if r != (encrypt.Result{Opened: 3, Saved: 1}) {
				t.Errorf("%+v", r)
			}
			_, it := s.LoadItem(ctx, "thr_1", "msg_1")
			_, a := s.LoadAttachment(ctx, "atc_1")
			if !errors.Is(it, store.ErrNotFound) || !errors.Is(a, store.ErrNotFound) {
				t.Error("a deletion was undone:", it, a)
			}
			continue
		}
		if r != (encrypt.Result{Opened: 3, Saved: 3}) {
			t.Errorf("%+v", r)
		}
		if th := testenv.Value(s.LoadThread(ctx, "thr_1"))(t); th.Title != "new" {
			t.Error("the thread's update was lost")
		}
		if it := testenv.Value(s.LoadItem(ctx, "thr_1", "msg_1"))(t); !strings.Contains(it.JSON().String(), `"new"`) {
			t.Error("the item's update was lost")
		}
		if a := testenv.Value(s.LoadAttachment(ctx, "atc_1"))(t); a.ThreadID != "thr_new" {
			t.Error("the attachment's update was lost")
		}
	}
}

// A thread that is deleted in the middle of a page, or between two pages, does not end the walk.
func TestReencryptGoesOnBehindADeletedThread(t *testing.T) {
	ctx, mem, key := t.Context(), memstore.New(), newKey(t)
	s := store.Wrap(mem, encrypt.New(key))
	fill(t, s)
	must(t, s.SaveThread(ctx, thread("thr_2")))
	for i := range 101 {
		must(t, s.SaveItem(ctx, "thr_1", message(fmt.Sprint("msg_", i), canary)))
	}
	var once sync.Once
	base := writing(mem, func(c layer.Call) {
		if c.Op == store.OpLoadItem {
			once.Do(func() { must(t, mem.DeleteThread(ctx, "thr_1")) })
		}
	})
	r := testenv.Value(encrypt.Reencrypt(ctx, base, key))(t)
	if want := (encrypt.Result{Opened: 103, Saved: 3}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
}

// A thread that moves behind the walk takes its items along. The next walk finds them.
func TestAThreadThatMovesIsFoundByTheNextWalk(t *testing.T) {
	ctx, mem := t.Context(), memstore.New()
	k, _ := newKeys(t)
	old := store.Wrap(mem, encrypt.New(k.aead(t)))
	for i := range 150 { // two pages
		th := thread(fmt.Sprintf("thr_%03d", i))
		must(t, errors.Join(old.SaveThread(ctx, th), old.SaveItem(ctx, th.ID, message("msg_1", canary))))
	}
	added := k.add(t)
	must(t, k.SetPrimary(added))
	both := k.aead(t)
	var once sync.Once
	base := writing(mem, func(layer.Call) {
		once.Do(func() {
			th := thread("thr_149")
			th.CreatedAt = noon.Add(-time.Hour)
			must(t, store.Wrap(mem, encrypt.New(both)).SaveThread(ctx, th))
		})
	})
	for _, want := range []int{298, 1, 0} { // all but the thread that moved and its item; its item; nothing
		if r, err := encrypt.Reencrypt(ctx, base, both, encrypt.WithPrimary(added)); err != nil || r.Saved != want {
			t.Errorf("%+v, %v; want %d saved", r, err, want)
		}
	}
}

// An error of the AEAD is none of the base's, whatever it wraps. If it says that the AEAD is away, the walk ends.
func TestAnErrorOfTheAEADIsNoAnswerOfTheBase(t *testing.T) {
	ctx, key := t.Context(), newKey(t)
	for cause, code := range map[error]store.Code{
		store.ErrNotFound: store.CodeInternal, store.ErrConflict: store.CodeInternal, store.ErrUnavailable: store.CodeUnavailable,
	} {
		base := memstore.New()
		fill(t, store.Wrap(base, encrypt.New(key)))
		r, err := encrypt.Reencrypt(ctx, base, &halfway{AEAD: key, err: cause})
		if store.CodeOf(err) != code || errors.Is(err, cause) != (code == store.CodeUnavailable) || r != (encrypt.Result{Opened: 1}) {
			t.Errorf("the AEAD does not seal, %v: %+v, %v", cause, r, err)
		}
	}
	base := memstore.New()
	fill(t, store.Wrap(base, encrypt.New(key)))
	calls := 0
	r, err := encrypt.Reencrypt(ctx, base, failing{func() error { calls++; return store.ErrUnavailable }})
	if store.CodeOf(err) != store.CodeUnavailable || r != (encrypt.Result{}) || calls != 1 {
		t.Errorf("the AEAD is away: %+v, %v after %d calls", r, err, calls)
	}
}

// halfway is an AEAD that opens, and does not seal.
type halfway struct {
	tink.AEAD
	err   error
	calls int
}

func (h *halfway) Encrypt(_, _ []byte) ([]byte, error) {
	if h.calls++; h.calls > 3 {
		return nil, errors.New("called again and again")
	}
	return nil, h.err
}

// The walk's calls are its own: fresh, and under UpdateOnly, whatever its caller's context says.
func TestReencryptMakesCallsOfItsOwn(t *testing.T) {
	mem, key := memstore.New(), newKey(t)
	fill(t, store.Wrap(mem, encrypt.New(key)))
	base := store.Wrap(mem, layer.Admit("look", func(ctx context.Context, c layer.Call) error {
		d := callctx.Of(ctx)
		if !d.Fresh || store.SaveModeFrom(ctx) != store.UpdateOnly || d.If.Set != c.Op.IsWrite() {
			t.Errorf("%s: %+v", c.Op, d)
		}
		return nil
	}))
	ctx := store.IfVersion(store.WithSaveMode(t.Context(), store.InsertOnly), "thr_1", 99)
	if r, err := encrypt.Reencrypt(ctx, base, key); err != nil || r.Saved != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Writers of every row run beside the walk. Each writes under the version that it read, and counts up: no step may be lost.
func TestConcurrentUpdatesOutliveReencrypt(t *testing.T) {
	ctx, base, key := t.Context(), memstore.New(), newKey(t)
	s := store.Wrap(base, encrypt.New(key))
	const steps, rows = 300, 4
	id := func(i int) string { return fmt.Sprint("row_", i) }
	for i := range rows {
		must(t, s.SaveThread(ctx, chat.Thread{ID: id(i), CreatedAt: noon, Title: "0"}))
		must(t, s.SaveItem(ctx, id(i), message("msg_1", "0")))
		must(t, s.SaveAttachment(ctx, testenv.OrPanic(chat.NewAttachment(id(i), chat.AttachmentBody{Type: "file", Name: "0"}))))
	}
	var writers sync.WaitGroup
	var walked atomic.Bool // beside the writers
	done := make(chan struct{})
	for i := range rows {
		writers.Go(func() {
			for n := 1; n <= steps || !walked.Load(); n++ {
				th := testenv.OrPanic(s.LoadThread(ctx, id(i)))
				it := testenv.OrPanic(s.LoadItem(ctx, id(i), "msg_1"))
				a := testenv.OrPanic(s.LoadAttachment(ctx, id(i)))
				before := fmt.Sprint(n - 1)
				if th.Title != before || !strings.Contains(it.JSON().String(), `"`+before+`"`) || testenv.OrPanic(a.Decode()).Name != before {
					t.Errorf("step %d of %s was lost", n-1, id(i))
					return
				}
				th.Title = fmt.Sprint(n)
				if err := errors.Join(s.SaveThread(ctx, th), s.SaveItem(ctx, id(i), message("msg_1", th.Title)),
					s.SaveAttachment(ctx, testenv.OrPanic(chat.NewAttachment(id(i), chat.AttachmentBody{Type: "file", Name: th.Title})))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	go func() { writers.Wait(); close(done) }()
	for {
		r, err := encrypt.Reencrypt(ctx, base, key)
		if err != nil || r.Saved != 3*rows {
			t.Errorf("%+v, %v", r, err)
		}
		walked.Store(true)
		select {
		case <-done:
			return
		default:
		}
	}
}

// One row that does not open keeps the others from nothing.
func TestReencryptGoesOnBehindAnUnreadableRow(t *testing.T) {
	ctx, base, key := t.Context(), memstore.New(), newKey(t)
	fill(t, store.Wrap(base, encrypt.New(key)))
	fill(t, store.Wrap(base, encrypt.New(newKey(t))))
	for _, id := range []string{"msg_0", "msg_2"} {
		must(t, store.Wrap(base, encrypt.New(key)).SaveItem(ctx, "thr_1", message(id, canary)))
	}
	r, err := encrypt.Reencrypt(ctx, base, key)
	if r != (encrypt.Result{Opened: 2, Saved: 2, Unreadable: 3}) {
		t.Errorf("%+v", r)
	}
	internal(t, "the walk", err)
	if e, ok := errors.AsType[*store.Error](err); !ok || e.Kind != store.RowThread || e.ID != "thr_1" {
		t.Error("the error names", e)
	}
}

func TestReencryptNamesWhatTheBaseLacks(t *testing.T) {
	ctx, key := t.Context(), newKey(t)
	made := func() *memstore.Store {
		base := memstore.New()
		fill(t, store.Wrap(base, encrypt.New(key)))
		return base
	}
	bare := struct{ store.Store }{made()}
	r, err := encrypt.Reencrypt(ctx, bare, key)
	if r != (encrypt.Result{Opened: 2, Saved: 2}) || !errors.Is(err, encrypt.ErrAttachments) {
		t.Errorf("no capability: %+v, %v", r, err)
	}

	base := made()
	lists := struct {
		store.Store
		driver.AttachmentLister
	}{base, lister{base}}
	before := testenv.Value(base.LoadAttachment(ctx, "atc_1"))(t)
	r, err = encrypt.Reencrypt(ctx, lists, key)
	if r != (encrypt.Result{Opened: 3, Saved: 2, Left: 1}) || !errors.Is(err, encrypt.ErrAttachments) {
		t.Errorf("no swap: %+v, %v", r, err)
	}
	if !testenv.Value(base.LoadAttachment(ctx, "atc_1"))(t).Equal(before) {
		t.Error("an attachment was saved without a swap")
	}

	r, err = encrypt.Reencrypt(ctx, spy.Unversioned(made()), key)
	if r.Saved != 0 || err == nil || err.Error() != "encrypt: the base reports no thread versions, which Reencrypt needs" {
		t.Errorf("no versions: %+v, %v", r, err)
	}
}

// lister has no other capability.
type lister struct{ base *memstore.Store }

func (l lister) ListAttachments(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
	return l.base.ListAttachments(ctx, q)
}

func TestReencryptEndsWithItsContext(t *testing.T) {
	base, key := memstore.New(), newKey(t)
	fill(t, store.Wrap(base, encrypt.New(key)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := encrypt.Reencrypt(ctx, base, key); r != (encrypt.Result{}) || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestReencryptPanicsOnAProgrammingError(t *testing.T) {
	key := newKey(t)
	const wrong = "encrypt.Reencrypt: pass the base: the Store that encrypt.New is around, without authz"
	for _, base := range []store.Store{nil, store.Wrap(memstore.New(), encrypt.New(key)), store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))} {
		testenv.Panics(t, wrong, func() { _, _ = encrypt.Reencrypt(t.Context(), base, key) })
	}
	testenv.Panics(t, "encrypt.Reencrypt: the AEAD is nil", func() { _, _ = encrypt.Reencrypt(t.Context(), memstore.New(), nil) })
}
