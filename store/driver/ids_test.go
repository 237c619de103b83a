package driver_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

var badIDs = map[string]string{
	"":                       "empty",
	strings.Repeat("x", 257): "longer than 256 bytes",
	strings.Repeat("é", 129): "longer than 256 bytes",
	"a\x00b":                 "a control character",
	"\x7f":                   "a control character",
	"a\u0085b":               "a control character",
	"a\xffb":                 "not valid UTF-8",
	"\xed\xa0\x80":           "not valid UTF-8",
}

var goodIDs = []string{"x", " ", "thr_1a2b3c4d", strings.Repeat("x", 256), strings.Repeat("é", 128), "a/b:c", "日本", "\u2028", "\ufffd", "🙂", "~"}

// TestIDs: every id in a call must have 1 to 256 bytes of valid UTF-8 without control characters.
func TestIDs(t *testing.T) {
	ctx := t.Context()
	threads := func(after string, f store.OwnerFilter) error {
		_, err := checks.Threads(ctx, store.ThreadQuery{PageQuery: store.PageQuery{After: after}, Owner: f})
		return err
	}
	for _, c := range []struct {
		field    string
		optional bool
		check    func(id string) error
	}{
		{"id", false, func(id string) error { return checks.Thread(ctx, store.OpLoadThread, id) }},
		{"id", false, func(id string) error { return checks.Item(ctx, store.OpLoadItem, id, "msg_1") }},
		{"id", false, func(id string) error { return checks.Item(ctx, store.OpLoadItem, "thr_1", id) }},
		{"id", false, func(id string) error { return checks.Attachment(ctx, store.OpLoadAttachment, id) }},
		{"id", false, func(id string) error { _, err := checks.Items(ctx, id, store.PageQuery{}); return err }},
		{"id", false, func(id string) error {
			it := testenv.OrPanic(chat.NewItem("msg_1", noon, chat.EndOfTurn{}))
			_, err := checks.SaveItem(ctx, store.OpSaveItem, id, it)
			return err
		}},
		{"id", false, func(id string) error {
			_, err := checks.SaveThread(ctx, chat.Thread{ID: id, CreatedAt: noon})
			return err
		}},
		{"id", false, func(id string) error { return checks.ThreadIDs(ctx, []string{"thr_1", id}) }},
		{"owner.tenant", true, func(id string) error { return checks.Owner(ctx, chat.Owner{Tenant: id, Subject: "ada"}) }},
		{"after", true, func(id string) error { _, err := checks.Items(ctx, "thr_1", store.PageQuery{After: id}); return err }},
		{"after", true, func(id string) error { return threads(id, store.OwnerFilter{}) }},
		{"owner.tenant", true, func(id string) error { return threads("", store.InTenant(id)) }},
		{"owner.tenant", true, func(id string) error { return threads("", store.OwnedBy(chat.Owner{Tenant: id, Subject: "ada"})) }},
		{"owner.subject", true, func(id string) error { return threads("", store.OwnedBy(chat.Owner{Subject: id})) }},
	} {
		for id, fault := range badIDs {
			err := c.check(id)
			if id == "" && c.optional {
				if err != nil {
					t.Errorf("an empty %s: %v", c.field, err)
				}
			} else if e, ok := err.(*store.Error); !ok || e.Code != store.CodeInvalid || e.Field != c.field+": "+fault {
				t.Errorf("%.20q: got %v, want %s: %s", id, err, c.field, fault)
			}
		}
		for _, id := range goodIDs {
			if err := c.check(id); err != nil {
				t.Errorf("%.20q as %s: %v", id, c.field, err)
			}
		}
	}
}

// validID is the contract's rule for ids, in its simplest form.
func validID(id string) bool {
	return 1 <= len(id) && len(id) <= 256 && utf8.ValidString(id) && strings.IndexFunc(id, func(r rune) bool {
		return r < 0x20 || 0x7f <= r && r < 0xa0
	}) < 0
}

func FuzzID(f *testing.F) {
	for _, id := range slices.Sorted(maps.Keys(badIDs)) {
		f.Add(id)
	}
	for _, id := range goodIDs {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		err := checks.Thread(t.Context(), store.OpLoadThread, id)
		if (err == nil) != validID(id) || err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Fatalf("%q: %v", id, err)
		}
		saved, err := checks.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: noon})
		if (err == nil) != validID(id) {
			t.Fatalf("%q: %v", id, err)
		}
		if err != nil {
			return
		}
		th := saved.Thread
		if back, err := chat.ParseThread(th.JSON().String()); err != nil || back.ID != id || !back.Equal(th) {
			t.Fatalf("%q reads back as %q, %v", id, back.ID, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add("msg_1", 0, uint8(0))
	f.Add("", -1, uint8(2))
	f.Add("\x00", 1001, uint8(1))
	f.Fuzz(func(t *testing.T, after string, limit int, order uint8) {
		in := store.PageQuery{Limit: limit, After: after, Order: store.Order(order)}
		q, err := checks.Items(t.Context(), "thr_1", in)
		if ok := limit >= 0 && order <= 1 && (after == "" || validID(after)); ok != (err == nil) || err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Fatalf("%+v: %v", in, err)
		}
		if err != nil {
			return
		}
		if q.Limit < 1 || q.Limit > store.MaxLimit || q.After != after || q.Order != in.Order {
			t.Fatalf("%+v: got %+v", in, q)
		}
		if again, err := checks.Items(t.Context(), "thr_1", q); err != nil || again != q {
			t.Fatalf("a second check returned %+v, %v", again, err)
		}
	})
}
