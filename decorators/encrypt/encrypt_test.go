package encrypt_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

func alone(t *testing.T) store.Store { return store.Wrap(memstore.New(), encrypt.New(newKey(t))) }

func inRecommended(t *testing.T) store.Store {
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), encrypt.New(newKey(t)))
	t.Cleanup(func() { must(t, store.Close(s)) })
	return s
}

func TestAloneItConforms(t *testing.T) {
	storetest.Run(t, alone, storetest.WithVersionsRequired(), storetest.WithCapabilitiesRequired())
}

func TestInTheRecommendedStackItConforms(t *testing.T) {
	storetest.Run(t, inRecommended, storetest.WithVersionsRequired())
}

func TestRandomCallsAnswerAsTheModel(t *testing.T) {
	storetest.Random(t, alone)
	storetest.Random(t, inRecommended)
}

// echo is an AEAD whose texts are the additional data.
type echo struct{}

func (echo) Encrypt(_, data []byte) ([]byte, error) { return data, nil }
func (echo) Decrypt([]byte, []byte) ([]byte, error) { return nil, errors.New("no") }

// A later version must read the rows of this one: neither the form of a row nor the additional data, which is the text here, may
// change.
func TestTheFormOfASealedRow(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, encrypt.New(echo{}))
	const id = "<&\"\\é\u2028>"
	must(t, s.SaveThread(t.Context(), thread(id)))
	it := message(id, canary)
	must(t, s.SaveItem(t.Context(), id, it))
	must(t, s.SaveAttachment(t.Context(), file(id)))
	sent := file("atc_1")
	sent.ThreadID = id
	must(t, s.SaveAttachment(t.Context(), sent))
	rowID := `"<&\"\\é` + "\u2028" + `>"`
	for what, c := range map[string]struct{ got, want string }{
		"thread": {testenv.Value(base.LoadThread(t.Context(), id))(t).JSON().String(), `{"id":` + rowID + `,"created_at":"2026-01-02T12:00:00.123456Z",` +
			`"title":null,"status":{"type":"active"},"metadata":{"chatstore_sealed":"` +
			`E2NoYXRzdG9yZS9lbmNyeXB0LzEGdGhyZWFkAAo8JiJcw6nigKg+AAAGR2Zy5TJA"}}`},
		"item": {testenv.Value(base.LoadItem(t.Context(), id, id))(t).JSON().String(), `{"id":` + rowID + `,"thread_id":` + rowID +
			`,"created_at":"2026-01-02T12:00:00.123456Z","type":"user_message","chatstore_sealed":"` +
			`E2NoYXRzdG9yZS9lbmNyeXB0LzEEaXRlbQo8JiJcw6nigKg+CjwmIlzDqeKAqD4MdXNlcl9tZXNzYWdlAAZHZnLlMkA"}`},
		"attachment": {testenv.Value(base.LoadAttachment(t.Context(), id))(t).JSON().String(), `{"id":` + rowID +
			`,"type":"image","chatstore_sealed":"E2NoYXRzdG9yZS9lbmNyeXB0LzEKYXR0YWNobWVudAAKPCYiXMOp4oCoPgVpbWFnZQ"}`},
		"attachment that was sent": {testenv.Value(base.LoadAttachment(t.Context(), "atc_1"))(t).JSON().String(), `{"id":"atc_1","thread_id":` + rowID +
			`,"type":"image","chatstore_sealed":"E2NoYXRzdG9yZS9lbmNyeXB0LzEKYXR0YWNobWVudAo8JiJcw6nigKg+BWF0Y18xBWltYWdl"}`},
	} {
		if c.got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", what, c.got, c.want)
		}
	}
}

// Everything but ids, times, types and owners is sealed, and what was saved comes back byte for byte.
func TestNoContentReachesTheBase(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, encrypt.New(newKey(t)))
	fill(t, s)
	if got := contents(t, base); strings.Contains(got, canary) || strings.Contains(got, "locked") || strings.Contains(got, "png") {
		t.Error("the base has content:", got)
	}
	plain := memstore.New()
	fill(t, plain)
	if got, want := contents(t, s), contents(t, plain); got != want || !strings.Contains(want, canary) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if o := testenv.Value(base.LoadThread(t.Context(), "thr_1"))(t).Owner; o != ada {
		t.Error("the owner is", o)
	}
	it := testenv.Value(base.LoadItem(t.Context(), "thr_1", "msg_1"))(t)
	if _, _, err := chat.DecodeItem[chat.UserMessage](it); !errors.Is(err, chat.ErrInvalid) {
		t.Error("a bare sealed item decodes:", err)
	}
}

// swapped returns a row of one kind with the sealed text of another row.
func swapped[T any](t *testing.T, from, to T, parse func(string) (T, error), json func(T) chat.JSON) T {
	t.Helper()
	const name = `"chatstore_sealed":"`
	_, text, _ := strings.Cut(json(from).String(), name)
	form, _, ok := strings.Cut(json(to).String(), name)
	if !ok {
		t.Fatal("not sealed")
	}
	return testenv.Value(parse(form + name + text))(t)
}

// watched is an AEAD with the error of its last Decrypt.
type watched struct {
	tink.AEAD
	refused error
}

func (w *watched) Decrypt(text, data []byte) (opened []byte, err error) {
	opened, err = w.AEAD.Decrypt(text, data)
	w.refused = err
	return opened, err
}

func TestATextThatWasMovedDoesNotOpen(t *testing.T) {
	ctx := t.Context()
	base := memstore.New()
	key := &watched{AEAD: newKey(t)}
	s := store.Wrap(base, encrypt.New(key))
	fill(t, s)
	must(t, s.SaveThread(ctx, thread("thr_2")))
	// The AEAD itself must refuse the text. That the content names another row is a second obstacle.
	refused := func(what string, err error) {
		t.Helper()
		internal(t, what, err)
		if key.refused == nil {
			t.Errorf("%s was opened: %v", what, err)
		}
	}

	later := message("msg_1", canary)
	later.CreatedAt = later.CreatedAt.Add(1000)
	other := testenv.OrPanic(chat.NewItem("msg_1", noon, chat.HiddenContextItem{Content: testenv.OrPanic(chat.ParseJSON(`"x"`))}))
	item := testenv.Value(base.LoadItem(ctx, "thr_1", "msg_1"))(t)
	for what, c := range map[string]struct {
		thread string
		to     chat.Item
	}{
		"to another row": {"thr_1", message("msg_2", canary)}, "to another thread": {"thr_2", message("msg_1", canary)},
		"to another time": {"thr_1", later}, "to another type": {"thr_1", other},
	} {
		must(t, s.SaveItem(ctx, c.thread, c.to))
		to := testenv.Value(base.LoadItem(ctx, c.thread, c.to.ID))(t)
		must(t, base.SaveItem(ctx, c.thread, swapped(t, item, to, chat.ParseItem[string], chat.Item.JSON)))
		_, err := s.LoadItem(ctx, c.thread, c.to.ID)
		refused("an item's text "+what, err)
		must(t, base.SaveItem(ctx, c.thread, to))
		_, err = s.LoadItem(ctx, c.thread, c.to.ID)
		must(t, err)
		must(t, base.SaveItem(ctx, "thr_1", item))
	}

	moved := thread("thr_1")
	moved.CreatedAt = moved.CreatedAt.Add(1000)
	first := testenv.Value(base.LoadThread(ctx, "thr_1"))(t)
	for what, to := range map[string]chat.Thread{"to another row": thread("thr_2"), "to another time": moved} {
		must(t, s.SaveThread(ctx, to))
		to := swapped(t, first, testenv.Value(base.LoadThread(ctx, to.ID))(t), chat.ParseThread[string], chat.Thread.JSON)
		must(t, base.SaveThread(ctx, to))
		_, err := s.LoadThread(ctx, to.ID)
		refused("a thread's text "+what, err)
		_, err = s.LoadThreads(ctx, store.ThreadQuery{Owner: store.OwnedBy(ada)})
		refused("the page of a thread's text "+what, err)
	}

	sent, typ := file("atc_1"), testenv.OrPanic(chat.NewAttachment("atc_1", chat.AttachmentBody{Type: "file"}))
	sent.ThreadID = "thr_1"
	attachment := testenv.Value(base.LoadAttachment(ctx, "atc_1"))(t)
	for what, to := range map[string]chat.Attachment{"to another row": file("atc_2"), "to another thread": sent, "to another type": typ} {
		must(t, s.SaveAttachment(ctx, to))
		to := swapped(t, attachment, testenv.Value(base.LoadAttachment(ctx, to.ID))(t), chat.ParseAttachment[string], chat.Attachment.JSON)
		must(t, base.SaveAttachment(ctx, to))
		_, err := s.LoadAttachment(ctx, to.ID)
		refused("an attachment's text "+what, err)
	}

	// Between kinds, with all ids equal. A thread's text has no other rows.
	must(t, s.SaveThread(ctx, thread("same")))
	must(t, s.SaveAttachment(ctx, file("same")))
	_, text, _ := strings.Cut(testenv.Value(base.LoadThread(ctx, "same"))(t).JSON().String(), `"chatstore_sealed":"`)
	form, _, _ := strings.Cut(testenv.Value(base.LoadAttachment(ctx, "same"))(t).JSON().String(), `"chatstore_sealed":"`)
	must(t, base.SaveAttachment(ctx, testenv.Value(chat.ParseAttachment(form+`"chatstore_sealed":"`+strings.TrimSuffix(text, "}")))(t)))
	_, err := s.LoadAttachment(ctx, "same")
	refused("a thread's text in an attachment", err)
}

// A text is not bound to the owner: items have none.
func TestATextOpensForAnotherOwner(t *testing.T) {
	base, copied := memstore.New(), memstore.New()
	key := newKey(t)
	must(t, store.Wrap(base, encrypt.New(key)).SaveThread(t.Context(), thread("thr_1")))
	row := testenv.Value(base.LoadThread(t.Context(), "thr_1"))(t)
	row.Owner = chat.Owner{Subject: "bob"}
	must(t, copied.SaveThread(t.Context(), row))
	if got := testenv.Value(store.Wrap(copied, encrypt.New(key)).LoadThread(t.Context(), "thr_1"))(t); got.Title != canary || got.Owner != row.Owner {
		t.Error("got", got.Title, got.Owner)
	}
}

// What another program added to a sealed row would be lost, so the row does not open. Nor is it taken for plaintext.
func TestAChangedRowDoesNotOpen(t *testing.T) {
	ctx, base, key := t.Context(), memstore.New(), newKey(t)
	s, migrating := store.Wrap(base, encrypt.New(key)), store.Wrap(base, encrypt.New(key, encrypt.WithPlaintext()))
	fill(t, s)
	th := testenv.Value(base.LoadThread(ctx, "thr_1"))(t)
	it := testenv.Value(base.LoadItem(ctx, "thr_1", "msg_1"))(t).JSON().String()
	at := testenv.Value(base.LoadAttachment(ctx, "atc_1"))(t).JSON().String()
	th.Title = "new"
	must(t, base.SaveThread(ctx, th))
	for _, change := range []func(string) string{
		func(s string) string { return s[:len(s)-1] + `,"content":[]}` },
		func(s string) string { return s[:len(s)-2] + `="}` },
		func(s string) string { return s[:len(s)-6] + `A` + s[len(s)-5:] }, // may be the same letter already, so the next is another
		func(s string) string { return s[:len(s)-6] + `B` + s[len(s)-5:] },
	} {
		if change(it) == it || change(at) == at {
			continue
		}
		must(t, base.SaveItem(ctx, "thr_1", testenv.Value(chat.ParseItem(change(it)))(t)))
		must(t, base.SaveAttachment(ctx, testenv.Value(chat.ParseAttachment(change(at)))(t)))
		for what, err := range loads(ctx, s) {
			internal(t, what, err)
		}
		for what, err := range loads(ctx, migrating) {
			internal(t, what+" with WithPlaintext", err)
		}
	}
}

func TestPlaintextLoadsOnlyWithTheSwitch(t *testing.T) {
	ctx, base, key := t.Context(), memstore.New(), newKey(t)
	fill(t, base)
	plain := contents(t, base)
	for what, err := range loads(ctx, store.Wrap(base, encrypt.New(key))) {
		internal(t, what+" of plaintext", err)
	}
	s := store.Wrap(base, encrypt.New(key, encrypt.WithPlaintext()))
	if got := contents(t, s); got != plain {
		t.Error("got", got)
	}
	fill(t, s)
	if strings.Contains(contents(t, base), canary) {
		t.Error("a save with WithPlaintext did not seal")
	}
	for what, err := range loads(ctx, store.Wrap(base, encrypt.New(key))) {
		if err != nil {
			t.Error(what, err)
		}
	}
}

// The reserved member means nothing in a caller's value, not even with another row's sealed text.
func TestTheReservedMemberOfACallerComesBack(t *testing.T) {
	ctx, base := t.Context(), memstore.New()
	s := store.Wrap(base, encrypt.New(newKey(t)))
	fill(t, s)
	bare := testenv.Value(base.LoadItem(ctx, "thr_1", "msg_1"))(t)
	must(t, s.SaveItem(ctx, "thr_1", bare))
	if got := testenv.Value(s.LoadItem(ctx, "thr_1", "msg_1"))(t); !got.Equal(bare) {
		t.Error("got", got.JSON())
	}
	th := thread("thr_1")
	th.Metadata = testenv.OrPanic(chat.ParseJSON(`{"chatstore_sealed":"mine"}`))
	must(t, s.SaveThread(ctx, th))
	if got := testenv.Value(s.LoadThread(ctx, "thr_1"))(t); got.Metadata != th.Metadata {
		t.Error("got", got.JSON())
	}
	a := testenv.OrPanic(chat.ParseAttachment(`{"id":"atc_1","type":"file","chatstore_sealed":null}`))
	a.Owner = ada
	must(t, s.SaveAttachment(ctx, a))
	if got := testenv.Value(s.LoadAttachment(ctx, "atc_1"))(t); !got.Equal(a) {
		t.Error("got", got.JSON())
	}
}

// failing is an AEAD that fails.
type failing struct{ do func() error }

func (f failing) Encrypt(_, _ []byte) ([]byte, error) { return nil, f.do() }
func (f failing) Decrypt(_, _ []byte) ([]byte, error) { return nil, f.do() }

func TestAFailingAEADFailsTheCallOnly(t *testing.T) {
	ctx, base, key := t.Context(), memstore.New(), newKey(t)
	fill(t, store.Wrap(base, encrypt.New(key)))
	before := contents(t, base)
	for err, code := range map[error]store.Code{
		errors.New(canary): store.CodeInternal, fmt.Errorf("%s: %w", canary, store.ErrUnavailable): store.CodeUnavailable,
		fmt.Errorf("%w", store.ErrNotFound): store.CodeInternal, fmt.Errorf("%w", context.Canceled): store.CodeCanceled,
	} {
		s := store.Wrap(base, encrypt.New(failing{func() error { return err }}))
		for what, got := range loads(ctx, s) {
			if store.CodeOf(got) != code || errors.Is(got, store.ErrNotFound) || strings.Contains(got.Error(), canary) {
				t.Errorf("%s: got %v, want %v", what, got, code)
			}
		}
		for what, got := range saves(ctx, s) {
			if got == nil || !store.IsDefinite(got) || strings.Contains(got.Error(), canary) {
				t.Errorf("%s: got %v", what, got)
			}
		}
	}
	if contents(t, base) != before {
		t.Error("a failed save changed a row")
	}
}

func TestAPanicOfTheAEADLeavesNothingBehind(t *testing.T) {
	ctx, base := t.Context(), memstore.New()
	fails := false
	s := store.Wrap(base, encrypt.New(sometimes{newKey(t), &fails}))
	fill(t, s)
	before := contents(t, base)
	fails = true
	for _, call := range []func(){func() { _ = s.SaveThread(ctx, thread("thr_1")) }, func() { _, _ = s.LoadThread(ctx, "thr_1") },
		func() { _ = s.SaveAttachment(ctx, file("atc_1")) }} {
		func() {
			defer func() {
				if r := recover(); r != "broken" {
					t.Error("recovered", r)
				}
			}()
			call()
		}()
	}
	fails = false
	fill(t, s)
	if contents(t, base) == before {
		t.Error("a row that is saved again has the same text: the nonce did not change")
	}
}

// sometimes is an AEAD that panics if it is told to.
type sometimes struct {
	good   tink.AEAD
	panics *bool
}

func (s sometimes) Encrypt(text, data []byte) ([]byte, error) {
	if *s.panics {
		panic("broken")
	}
	return s.good.Encrypt(text, data)
}

func (s sometimes) Decrypt(text, data []byte) ([]byte, error) {
	if *s.panics {
		panic("broken")
	}
	return s.good.Decrypt(text, data)
}

// An opened text must be a value of its row, also if somebody has the key.
func TestAnOpenedTextThatIsNoValueFails(t *testing.T) {
	base := memstore.New()
	fill(t, store.Wrap(base, encrypt.New(newKey(t))))
	for _, text := range []string{"", "{", `{"id":"` + canary, `{"` + canary + `":1,"` + canary + `":1}`,
		`{"id":"msg_2","thread_id":"thr_1","type":"user_message"}`} {
		for what, err := range loads(t.Context(), store.Wrap(base, encrypt.New(opening(text)))) {
			internal(t, what, err)
			if e, ok := errors.AsType[*store.Error](err); !ok || strings.Contains(e.Cause.Error(), canary) {
				t.Errorf("%s: the cause has content: %v", what, e.Cause)
			}
		}
	}
}

// opening is an AEAD that opens every text as itself.
type opening string

func (o opening) Encrypt(_, _ []byte) ([]byte, error) { return nil, nil }
func (o opening) Decrypt(_, _ []byte) ([]byte, error) { return []byte(o), nil }

func TestNewPanicsOnAProgrammingError(t *testing.T) {
	testenv.Panics(t, "encrypt.New: the AEAD is nil: make one with aead.New of a keyset handle", func() { encrypt.New(nil) })
	testenv.Panics(t, `layer.Transform: "encrypt" changes what is saved, and the guard in it, such as authz, would not see that: put the guard before it in store.Wrap`,
		func() { store.Wrap(memstore.New(), encrypt.New(newKey(t)), authz.New(authz.OwnerOnly())) })
}
