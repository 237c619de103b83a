package layer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

var (
	noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	ada  = chat.Owner{Tenant: "acme", Subject: "ada"}
)

func thread(title string) chat.Thread {
	return chat.Thread{ID: "thr_1", Title: title, CreatedAt: noon, Owner: ada}
}

func item(text string) chat.Item {
	it := testenv.OrPanic(chat.NewItem("msg_1", noon, chat.UserMessage{Content: []chat.UserContent{{Type: "input_text", Text: text}}}))
	it.ThreadID = "thr_1"
	return it
}

func attachment(name string) chat.Attachment {
	a := testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"}))
	a.Owner = ada
	return a
}

// changing is a Transformer that changes the only text of every value.
func changing(save, load func(string) string) layer.Transformer {
	threads := func(f func(string) string) func(context.Context, chat.Thread) (chat.Thread, error) {
		return func(_ context.Context, t chat.Thread) (chat.Thread, error) {
			t.Title = f(t.Title)
			return t, nil
		}
	}
	items := func(f func(string) string) func(context.Context, chat.Item) (chat.Item, error) {
		return func(_ context.Context, it chat.Item) (chat.Item, error) {
			m, _, err := chat.DecodeItem[chat.UserMessage](it)
			if err != nil {
				return it, err
			}
			m.Content[0].Text = f(m.Content[0].Text)
			return it.WithBody(m)
		}
	}
	attachments := func(f func(string) string) func(context.Context, chat.Attachment) (chat.Attachment, error) {
		return func(_ context.Context, a chat.Attachment) (chat.Attachment, error) {
			b, err := a.Decode()
			if err != nil {
				return a, err
			}
			b.Name = f(b.Name)
			return a.WithBody(b)
		}
	}
	return layer.Transformer{
		SaveThread: threads(save), SaveItem: items(save), SaveAttachment: attachments(save),
		LoadThread: threads(load), LoadItem: items(load), LoadAttachment: attachments(load),
	}
}

// reversed is its own inverse.
func reversed(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

// saveAll saves a thread, two items and an attachment with the text.
func saveAll(ctx context.Context, s store.Store, text string) error {
	second := item(text)
	second.ID = "msg_2"
	return errors.Join(s.SaveThread(ctx, thread(text)), s.AddThreadItem(ctx, "thr_1", item(text)),
		s.SaveItem(ctx, "thr_1", second), s.SaveAttachment(ctx, attachment(text)))
}

// loadAll returns the JSON of the rows by every way to read them, and the error of each.
func loadAll(ctx context.Context, s store.Store) (rows map[string]string, errs map[string]error) {
	rows, errs = map[string]string{}, map[string]error{}
	note := func(way string, err error, row ...interface{ JSON() chat.JSON }) {
		if err != nil {
			errs[way] = err
		}
		for i, r := range row {
			rows[fmt.Sprint(way, " ", i)] = r.JSON().String()
		}
	}
	t, err := s.LoadThread(ctx, "thr_1")
	note("LoadThread", err, t)
	list, err := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada)})
	note("LoadThreads", err)
	for i, t := range list.Data {
		note(fmt.Sprint("LoadThreads ", i), nil, t)
	}
	it, err := s.LoadItem(ctx, "thr_1", "msg_1")
	note("LoadItem", err, it)
	page, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
	note("LoadThreadItems", err)
	for i, it := range page.Data {
		note(fmt.Sprint("LoadThreadItems ", i), nil, it)
	}
	a, err := s.LoadAttachment(ctx, "atc_1")
	note("LoadAttachment", err, a)
	if lister, ok := store.As[driver.AttachmentLister](s); ok {
		all, err := lister.ListAttachments(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada)})
		note("ListAttachments", err)
		for i, a := range all.Data {
			note(fmt.Sprint("ListAttachments ", i), nil, a)
		}
	}
	return rows, errs
}

func TestEveryValueIsTransformedOnItsWay(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, layer.Transform("reverse", changing(reversed, reversed)))
	testenv.Must(t, saveAll(t.Context(), s, "abc"))
	for _, c := range []struct {
		s    store.Store
		want string
	}{{s, `"abc"`}, {base, `"cba"`}} {
		rows, errs := loadAll(t.Context(), c.s)
		if len(rows) != 7 || len(errs) != 0 {
			t.Fatalf("%d ways, %v", len(rows), errs)
		}
		for way, text := range rows {
			if !strings.Contains(text, c.want) {
				t.Errorf("%s: %s lacks %s", way, text, c.want)
			}
		}
	}
}

// A function of a save gets the value as it will be stored.
func TestASaveIsTransformedInItsFinalForm(t *testing.T) {
	base := memstore.New()
	var got []string
	note := func(at time.Time, j chat.JSON) {
		if got = append(got, j.String()); !at.Equal(noon.Add(time.Microsecond)) || at.Location() != time.UTC {
			t.Errorf("the time is %v", at)
		}
	}
	s := store.Wrap(base, layer.Transform("note", layer.Transformer{
		SaveThread: func(_ context.Context, t chat.Thread) (chat.Thread, error) {
			note(t.CreatedAt, t.JSON())
			return t, nil
		},
		SaveItem: func(_ context.Context, it chat.Item) (chat.Item, error) {
			note(it.CreatedAt, it.JSON())
			return it, nil
		},
	}))
	at := noon.Add(1999).In(time.FixedZone("", 3600)) // cut to a microsecond
	th, it := thread("tea"), item("tea")
	th.CreatedAt, it.CreatedAt, it.ThreadID = at, at, ""
	testenv.Must(t, errors.Join(s.SaveThread(t.Context(), th), s.SaveItem(t.Context(), "thr_1", it)))
	rows := []string{testenv.Value(base.LoadThread(t.Context(), "thr_1"))(t).JSON().String(),
		testenv.Value(base.LoadItem(t.Context(), "thr_1", "msg_1"))(t).JSON().String()}
	if !slices.Equal(got, rows) {
		t.Errorf("the functions got %v, stored is %v", got, rows)
	}
	bad := attachment("tea")
	bad.Owner = chat.Owner{Subject: "\xff"}
	if err := store.Wrap(base, layer.Transform("fail", failing(errors.New("called")))).SaveAttachment(t.Context(), bad); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a bad attachment: %v", err)
	}
}

// A Transformer must not move a row to another place, owner or type. Above it a guard has decided about the old ones.
func TestATransformerCannotMoveARow(t *testing.T) {
	other := testenv.OrPanic(chat.NewItem("msg_1", noon, chat.EndOfTurn{}))
	other.ThreadID = "thr_1"
	image := testenv.OrPanic(attachment("").WithBody(chat.AttachmentBody{Type: "image", MIMEType: "image/png"}))
	image.Owner = ada
	for name, tr := range map[string]layer.Transformer{
		"thread id":      movingThread(func(t *chat.Thread) { t.ID = "thr_2" }),
		"thread owner":   movingThread(func(t *chat.Thread) { t.Owner = chat.Owner{} }),
		"thread time":    movingThread(func(t *chat.Thread) { t.CreatedAt = noon.Add(time.Second) }),
		"invalid thread": movingThread(func(t *chat.Thread) { t.Status.Type = "\xff" }),
		"item id":        movingItem(func(it *chat.Item) { it.ID = "msg_2" }),
		"item thread":    movingItem(func(it *chat.Item) { it.ThreadID = "thr_2" }),
		"item time":      movingItem(func(it *chat.Item) { it.CreatedAt = noon.Add(time.Second) }),
		"item type":      movingItem(func(it *chat.Item) { *it = other }),
		"atc id":         movingAttachment(func(a *chat.Attachment) { a.ID = "atc_2" }),
		"atc owner":      movingAttachment(func(a *chat.Attachment) { a.Owner = chat.Owner{} }),
		"atc thread":     movingAttachment(func(a *chat.Attachment) { a.ThreadID = "thr_2" }),
		"atc type":       movingAttachment(func(a *chat.Attachment) { *a = image }),
	} {
		t.Run(name, func(t *testing.T) {
			base := memstore.New()
			testenv.Must(t, saveAll(t.Context(), base, "old"))
			before, _ := loadAll(t.Context(), base)
			saves := layer.Transformer{SaveThread: tr.SaveThread, SaveItem: tr.SaveItem, SaveAttachment: tr.SaveAttachment}
			s := store.Wrap(base, layer.Transform("move", saves))
			err := errors.Join(s.SaveThread(t.Context(), thread("new")), s.SaveItem(t.Context(), "thr_1", item("new")),
				s.SaveAttachment(t.Context(), attachment("new")))
			refusals := 0
			for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
				if store.CodeOf(e) != store.CodeInternal || !store.IsDefinite(e) {
					t.Errorf("save: got %v", e)
				}
				refusals++
			}
			if after, _ := loadAll(t.Context(), base); refusals != 1 || countEqual(before, after) == len(before) {
				t.Errorf("%d saves were refused, want only that of the moved row", refusals)
			}
			if name == "invalid thread" {
				return // a load may return what the base would not take
			}
			loads := layer.Transformer{LoadThread: tr.SaveThread, LoadItem: tr.SaveItem, LoadAttachment: tr.SaveAttachment}
			_, errs := loadAll(t.Context(), store.Wrap(base, layer.Transform("move", loads)))
			if len(errs) != 2 {
				t.Errorf("loads: got %v, want two errors", errs)
			}
		})
	}
}

func countEqual(a, b map[string]string) (n int) {
	for k := range a {
		if a[k] == b[k] {
			n++
		}
	}
	return n
}

func movingThread(f func(*chat.Thread)) layer.Transformer {
	return layer.Transformer{SaveThread: func(_ context.Context, t chat.Thread) (chat.Thread, error) { f(&t); return t, nil }}
}

func movingItem(f func(*chat.Item)) layer.Transformer {
	return layer.Transformer{SaveItem: func(_ context.Context, it chat.Item) (chat.Item, error) { f(&it); return it, nil }}
}

func movingAttachment(f func(*chat.Attachment)) layer.Transformer {
	return layer.Transformer{SaveAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) { f(&a); return a, nil }}
}

// failing returns a Transformer whose functions fail with err.
func failing(err error) layer.Transformer {
	return layer.Transformer{
		SaveThread:     func(context.Context, chat.Thread) (chat.Thread, error) { return thread("leak"), err },
		SaveItem:       func(context.Context, chat.Item) (chat.Item, error) { return item("leak"), err },
		SaveAttachment: func(context.Context, chat.Attachment) (chat.Attachment, error) { return attachment("leak"), err },
		LoadThread:     func(context.Context, chat.Thread) (chat.Thread, error) { return thread("leak"), err },
		LoadItem:       func(context.Context, chat.Item) (chat.Item, error) { return item("leak"), err },
		LoadAttachment: func(context.Context, chat.Attachment) (chat.Attachment, error) { return attachment("leak"), err },
	}
}

// After an error of unknown outcome the caches above hold the thread back. Nothing was written here.
func TestAnErrorOfATransformersSaveIsDefinite(t *testing.T) {
	for _, cause := range []error{errors.New("no key"), store.ErrDenied, store.ErrUnavailable, context.DeadlineExceeded} {
		base := memstore.New()
		s := store.Wrap(base, layer.Transform("fail", failing(cause)))
		err := saveAll(t.Context(), s, "text")
		for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
			if !store.IsDefinite(e) || store.CodeOf(e) != store.CodeOf(cause) || !errors.Is(e, cause) {
				t.Errorf("%v: got %v", cause, e)
			}
		}
		if _, errs := loadAll(t.Context(), base); len(errs) != 3 {
			t.Errorf("%v: something was saved: %v", cause, errs)
		}
	}
}

// A guard reads not_found as: there is no such row. It would let the caller make it.
func TestAnErrorOfATransformersLoadNeverLooksLikeAMissingRow(t *testing.T) {
	base := memstore.New()
	testenv.Must(t, saveAll(t.Context(), base, "text"))
	for _, c := range []struct {
		cause error
		want  store.Code
	}{
		{errors.New("no key"), store.CodeInternal},
		{store.ErrNotFound, store.CodeInternal},
		{fmt.Errorf("key: %w", store.ErrDenied), store.CodeInternal},
		{errors.Join(store.ErrConflict, store.ErrNotFound), store.CodeInternal},
		{&store.Error{Code: store.CodeUnavailable, Cause: store.ErrNotFound}, store.CodeUnavailable},
		{context.Canceled, store.CodeCanceled},
		{context.DeadlineExceeded, store.CodeTimeout},
	} {
		rows, errs := loadAll(t.Context(), store.Wrap(base, layer.Transform("fail", failing(c.cause))))
		if len(errs) != 6 {
			t.Errorf("%v: %d of 6 calls failed", c.cause, len(errs))
		}
		for way, err := range errs {
			for _, sentinel := range []error{store.ErrNotFound, store.ErrDenied, store.ErrConflict} {
				if errors.Is(err, sentinel) {
					t.Errorf("%v: %s: %v is %v", c.cause, way, err, sentinel)
				}
			}
			if store.CodeOf(err) != c.want {
				t.Errorf("%v: %s: got %v", c.cause, way, err)
			}
		}
		for way, text := range rows {
			if strings.Contains(text, "text") || strings.Contains(text, "leak") {
				t.Errorf("%s: a row came with the error: %s", way, text)
			}
		}
	}
}

func TestOnlyALossyTransformIsARewriter(t *testing.T) {
	for _, base := range []store.Store{memstore.New(), &spy.Base{}} { // one lists attachments
		for _, lossless := range []bool{true, false} {
			s := store.Wrap(base, layer.Transform("t", layer.Transformer{Lossless: lossless}))
			if _, rewrites := store.As[layer.Rewriter](s); rewrites == lossless {
				t.Errorf("%T, lossless %v: rewrites %v", base, lossless, rewrites)
			}
			_, lists := store.As[driver.AttachmentLister](base)
			if _, found := store.As[driver.AttachmentLister](s); found != lists {
				t.Errorf("%T: lists attachments: %v", base, found)
			}
			_, swaps := store.As[driver.AttachmentSwapper](base)
			if _, found := store.As[driver.AttachmentSwapper](s); found != swaps {
				t.Errorf("%T: swaps attachments: %v", base, found)
			}
		}
	}
}

func TestATransformOfSavesPanicsAroundAGuard(t *testing.T) {
	guarded := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly()))
	testenv.Panics(t, `layer.Transform: "seal" changes what is saved, and the guard in it, such as authz, would not see that: `+
		"put the guard before it in store.Wrap", func() {
		layer.Transform("seal", layer.Transformer{SaveItem: failing(nil).SaveItem})(guarded)
	})
	layer.Transform("show", layer.Transformer{LoadItem: failing(nil).LoadItem})(guarded)
}

// A Transformer may call a Store, such as one for keys. Such a call is not the caller's.
func TestATransformerGetsAContextOfItsOwn(t *testing.T) {
	ctx := callctx.WithVersionRecorder(store.WithPrincipal(t.Context(), store.Principal{Owner: ada}),
		func(id string, _, _ uint64) {
			if id != "thr_1" {
				t.Errorf("a report about %s reached the caller", id)
			}
		})
	s := store.Wrap(memstore.New(), layer.Transform("keys", layer.Transformer{
		SaveThread: func(ctx context.Context, th chat.Thread) (chat.Thread, error) {
			driver.ReportVersion(ctx, "thr_keys", 1, 1)
			if p, _ := store.PrincipalFrom(ctx); p.Owner != ada {
				t.Errorf("the principal is %v", p)
			}
			return th, nil
		},
	}))
	testenv.Must(t, s.SaveThread(ctx, thread("")))
}

func TestTransformKeepsTheContract(t *testing.T) {
	same := func(s string) string { return s }
	for name, tr := range map[string]layer.Transformer{
		"nothing": {}, "lossless": {Lossless: true}, "reversed titles": {
			SaveThread: changing(reversed, same).SaveThread, LoadThread: changing(same, reversed).LoadThread, Lossless: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(*testing.T) store.Store { return store.Wrap(memstore.New(), layer.Transform("t", tr)) },
				storetest.WithVersionsRequired())
		})
	}
}

// The functions pay for what they change. The layer itself, and a function that changes nothing, allocate nothing.
func TestTransformAllocatesNothingByItself(t *testing.T) {
	same := layer.Transformer{
		SaveItem: func(_ context.Context, it chat.Item) (chat.Item, error) { return it, nil },
		LoadItem: func(_ context.Context, it chat.Item) (chat.Item, error) { return it, nil },
	}
	ctx, it := t.Context(), item("tea")
	base := memstore.New()
	testenv.Must(t, saveAll(ctx, base, "tea"))
	around := store.Wrap(base, layer.Transform("same", same))
	recording, _ := store.WithVersions(ctx) // as the calls of a cache
	pages := func(s store.Store) float64 {
		return testing.AllocsPerRun(100, func() { _, _ = s.LoadThreadItems(recording, "thr_1", store.PageQuery{}) })
	}
	if added := pages(around) - pages(base); added > 1 {
		t.Errorf("LoadThreadItems with a recorder: %v allocations, want one for the functions' context", added)
	}
	for name, call := range map[string]func(store.Store) error{
		"LoadItem":        func(s store.Store) error { _, err := s.LoadItem(ctx, "thr_1", "msg_1"); return err },
		"LoadThreadItems": func(s store.Store) error { _, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{}); return err },
		"SaveItem":        func(s store.Store) error { return s.SaveItem(ctx, "thr_1", it) },
	} {
		count := func(s store.Store) float64 {
			return testing.AllocsPerRun(100, func() { testenv.Must(t, call(s)) })
		}
		if added := count(around) - count(base); added != 0 {
			t.Errorf("%s: %v allocations", name, added)
		}
	}
}

// A swap through a transform compares what the caller sees, and swaps what the base has.
func TestATransformSwapsWhatItLoads(t *testing.T) {
	ctx := t.Context()
	for _, lossless := range []bool{true, false} {
		base := memstore.New()
		var meanwhile func()
		slow := layer.Intercept("slow", layer.InterceptorFunc(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.Op == store.OpLoadAttachment && meanwhile != nil {
				meanwhile()
			}
			return err
		}))
		tr := changing(reversed, reversed)
		tr.Lossless = lossless
		s := store.Wrap(base, layer.Transform("reverse", tr), slow)
		swapper, ok := store.As[driver.AttachmentSwapper](s)
		if !ok {
			t.Fatal("no swapper")
		}
		name := func() string {
			return testenv.Value(testenv.Value(base.LoadAttachment(ctx, "atc_1"))(t).Decode())(t).Name
		}
		swap := func(old, to string) error { return swapper.SwapAttachment(ctx, attachment(old).JSON(), attachment(to)) }
		if err := swap("abc", "xyz"); !errors.Is(err, store.ErrNotFound) {
			t.Error(err)
		}
		testenv.Must(t, s.SaveAttachment(ctx, attachment("abc")))
		if err := swap("cba", "xyz"); !errors.Is(err, store.ErrConflict) || name() != "cba" {
			t.Errorf("what the base has: %v, %s", err, name())
		}
		testenv.Must(t, swap("abc", "xyz"))
		if name() != "zyx" {
			t.Error("stored", name())
		}
		meanwhile = func() { testenv.Must(t, base.SaveAttachment(ctx, attachment("new"))) }
		if err := swap("xyz", "late"); !errors.Is(err, store.ErrConflict) || name() != "new" {
			t.Errorf("a save after the read: %v, %s", err, name())
		}
		meanwhile = nil
		lists, _ := store.As[driver.AttachmentSwapper](store.Wrap(base, layer.Transform("fail", failing(errors.New("no key")))))
		if err := lists.SwapAttachment(ctx, attachment("new").JSON(), attachment("x")); store.CodeOf(err) != store.CodeInternal || !store.IsDefinite(err) || name() != "new" {
			t.Errorf("a transform that fails: %v, %s", err, name())
		}
	}
}
