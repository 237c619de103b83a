package encrypt_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ada  = chat.Owner{Tenant: "acme", Subject: "ada"}
	noon = time.Date(2026, 1, 2, 12, 0, 0, 123456000, time.UTC)
	must = testenv.Must
)

// keys is a keyset whose keys come and go.
type keys struct{ *keyset.Manager }

// newKeys returns a keyset with one key, and its id.
func newKeys(t testing.TB) (keys, uint32) {
	k := keys{keyset.NewManager()}
	id := k.add(t)
	must(t, k.SetPrimary(id))
	return k, id
}

func (k keys) add(t testing.TB) uint32 {
	t.Helper()
	return testenv.Value(k.Add(aead.XChaCha20Poly1305KeyTemplate()))(t)
}

// aead returns the AEAD of the keys as they are now.
func (k keys) aead(t testing.TB) tink.AEAD {
	t.Helper()
	return testenv.Value(aead.New(testenv.Value(k.Handle())(t)))(t)
}

func newKey(t testing.TB) tink.AEAD { return keyOf(t, aead.XChaCha20Poly1305KeyTemplate()) }

func keyOf(t testing.TB, template *tinkpb.KeyTemplate) tink.AEAD {
	return testenv.Value(aead.New(testenv.Value(keyset.NewHandle(template))(t)))(t)
}

// canary is in all content. It is not in ids, types and owners.
const canary = "c4n4ry"

func thread(id string) chat.Thread {
	return chat.Thread{
		ID: id, Title: canary, CreatedAt: noon, Owner: ada, Status: chat.Status{Type: "locked", Reason: canary},
		Metadata: testenv.OrPanic(chat.ParseJSON(`{"k":"` + canary + `"}`)), AllowedImageDomains: testenv.OrPanic(chat.ParseJSON(`["` + canary + `.test"]`)),
	}
}

func message(id, text string) chat.Item {
	return testenv.OrPanic(chat.NewItem(id, noon, chat.UserMessage{Content: []chat.UserContent{{Type: "input_text", Text: text}}}))
}

func file(id string) chat.Attachment {
	a := testenv.OrPanic(chat.NewAttachment(id, chat.AttachmentBody{
		Type: "image", Name: canary, MIMEType: "image/png", PreviewURL: "https://x.test/" + canary,
	}))
	a.Owner = ada
	return a
}

// contents are the rows of a store, as text.
func contents(t testing.TB, s store.Store) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(testenv.Value(s.LoadThread(t.Context(), "thr_1"))(t).JSON().String())
	for _, it := range testenv.Value(s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{Limit: 1000}))(t).Data {
		b.WriteString(it.JSON().String())
	}
	b.WriteString(testenv.Value(s.LoadAttachment(t.Context(), "atc_1"))(t).JSON().String())
	return b.String()
}

// fill saves one row of each kind, with the canary.
func fill(t testing.TB, s store.Store) {
	t.Helper()
	must(t, errors.Join(s.SaveThread(t.Context(), thread("thr_1")), s.SaveItem(t.Context(), "thr_1", message("msg_1", canary)),
		s.SaveAttachment(t.Context(), file("atc_1"))))
}

// internal wants CodeInternal, as a row that cannot be opened has it.
func internal(t testing.TB, what string, err error) {
	t.Helper()
	if store.CodeOf(err) != store.CodeInternal || errors.Is(err, store.ErrNotFound) {
		t.Errorf("%s: got %v, want CodeInternal", what, err)
	}
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("%s: the error has content: %v", what, err)
	}
}

// loads makes every call that loads a row of fill. It returns their errors.
func loads(ctx context.Context, s store.Store) map[string]error {
	_, thread := s.LoadThread(ctx, "thr_1")
	_, threads := s.LoadThreads(ctx, store.ThreadQuery{Owner: store.AnyOwner()})
	_, item := s.LoadItem(ctx, "thr_1", "msg_1")
	_, items := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{})
	_, attachment := s.LoadAttachment(ctx, "atc_1")
	return map[string]error{"LoadThread": thread, "LoadThreads": threads, "LoadItem": item, "LoadThreadItems": items, "LoadAttachment": attachment}
}

func saves(ctx context.Context, s store.Store) map[string]error {
	return map[string]error{
		"SaveThread": s.SaveThread(ctx, thread("thr_1")), "SaveItem": s.SaveItem(ctx, "thr_1", message("msg_1", canary)),
		"AddThreadItem":  s.AddThreadItem(ctx, "thr_1", message("msg_2", canary)),
		"SaveAttachment": s.SaveAttachment(ctx, file("atc_1")),
	}
}
