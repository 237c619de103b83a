package authz_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

// TestEmbeddedAttachmentsMustBeReadable checks both calls that write a message, and every place in the list.
func TestEmbeddedAttachmentsMustBeReadable(t *testing.T) {
	for name, save := range map[string]func(context.Context, store.Store, chat.Item) error{
		"AddThreadItem": func(ctx context.Context, s store.Store, it chat.Item) error { return s.AddThreadItem(ctx, thr, it) },
		"SaveItem":      func(ctx context.Context, s store.Store, it chat.Item) error { return s.SaveItem(ctx, thr, it) },
	} {
		for _, c := range []struct {
			attachments []string
			refused     string
		}{
			{nil, ""},
			{[]string{atc}, ""},
			{[]string{atc, atc}, ""},
			{[]string{eveAtc}, eveAtc},
			{[]string{atc, eveAtc}, eveAtc},
			{[]string{noAtc}, noAtc},
			{[]string{atc, noAtc, eveAtc}, noAtc},
		} {
			t.Run(fmt.Sprint(name, c.attachments), func(t *testing.T) {
				w := newWorld(t, authz.OwnerOnly())
				err := save(as(t, ada), w, message("msg_new", c.attachments...))
				_, stored := w.base.LoadItem(t.Context(), thr, "msg_new")
				if c.refused == "" {
					must(t, err)
					must(t, stored)
					return
				}
				wants(t, err, store.ErrNotFound)
				if err != nil && !strings.Contains(err.Error(), fmt.Sprintf("attachment %q", c.refused)) {
					t.Errorf("the error %q does not name the attachment", err)
				}
				wants(t, stored, store.ErrNotFound)
			})
		}
	}
}

// TestStoredEmbeddingsAreNotAskedAgain checks that an editor can save a message that names its sender's attachments. The editor
// may drop some of them, but must be able to read each new one.
func TestStoredEmbeddingsAreNotAskedAgain(t *testing.T) {
	w := newWorld(t, granting("bob", sharing.Editor))
	must(t, w.base.SaveAttachment(t.Context(), attachment("atc_ada2", ada)))
	must(t, w.base.SaveAttachment(t.Context(), attachment("atc_bob", bob)))
	must(t, w.base.DeleteAttachment(t.Context(), atc))
	for _, c := range []struct {
		attachments []string
		want        error
	}{
		{[]string{atc}, nil},
		{[]string{atc, "atc_ada2"}, store.ErrNotFound},
		{[]string{atc, "atc_bob"}, nil},
		{[]string{"atc_bob"}, nil},
		{[]string{atc}, store.ErrNotFound}, // the message no longer names it, and the attachment is deleted
	} {
		wants(t, w.SaveItem(as(t, bob), thr, message(msg, c.attachments...)), c.want)
	}
}

// TestEmbeddingsOfOtherItemsDoNotCount checks that only the stored message itself allows attachments. An item with the same id
// in another thread does not, and an item of another type does not.
func TestEmbeddingsOfOtherItemsDoNotCount(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	must(t, w.base.AddThreadItem(t.Context(), thr, message("msg_same", atc)))
	wants(t, w.SaveItem(as(t, eve), eveThr, message("msg_same", atc)), store.ErrNotFound)

	text := message("msg_vouch", atc).JSON().String()
	must(t, w.SaveItem(as(t, eve), eveThr, testenv.OrPanic(chat.ParseItem(strings.Replace(text, "user_message", "future_message", 1)))))
	wants(t, w.SaveItem(as(t, eve), eveThr, message("msg_vouch", atc)), store.ErrNotFound)
}

// TestEmbeddedParserTraps checks that messages are refused if another JSON parser might find other attachments in them.
func TestEmbeddedParserTraps(t *testing.T) {
	const form = `{"id":"msg_trap","created_at":"2026-01-02T03:04:05Z","type":"user_message","content":[],"inference_options":{},%s}`
	list := func(ids ...string) string {
		var parts []string
		for _, id := range ids {
			parts = append(parts, fmt.Sprintf(`{"type":"file","id":%q,"name":"n","mime_type":"text/plain"}`, id))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	for _, members := range []string{
		`"attachments":` + list(atc) + `,"attachments":[]`,
		`"attachments":[],"attachments":` + list(atc),
		`"attachments":[],"\u0061ttachments":` + list(atc),
		`"attachments":` + list(atc) + `,"ATTACHMENTS":[]`,
		`"attachments":{"0":` + list(atc) + `}`,
		`"attachments":["` + atc + `"]`,
		`"attachments":[` + list(atc) + `]`,
		`"attachments":[{"type":"file","ID":"` + atc + `","id":"` + eveAtc + `","id":"` + atc + `","name":"n","mime_type":"m"}]`,
		`"attachments":[{"type":"file","name":"n","mime_type":"m"}]`,
		`"attachments":[{"type":"file","id":"","name":"n","mime_type":"m"}]`,
		`"attachments":[{"type":"file","id":"a\u0000b","name":"n","mime_type":"m"}]`,
		`"attachments":[{"type":"file","id":7,"name":"n","mime_type":"m"}]`,
	} {
		w := newWorld(t, authz.OwnerOnly())
		var it chat.Item
		err := it.UnmarshalJSON(fmt.Appendf(nil, form, members))
		if err == nil {
			err = w.AddThreadItem(as(t, eve), eveThr, it)
		}
		if code := store.CodeOf(err); code != store.CodeInvalid && code != store.CodeNotFound {
			t.Errorf("%s\n\tgot %v", members, err)
		}
		if errors.Is(err, store.ErrInvalid) {
			w.calls(t)
		}
		wants(t, errOf(w.base.LoadItem(t.Context(), eveThr, "msg_trap")), store.ErrNotFound)
	}
}

// TestAMessageThatCannotBeReadSaysWhere checks that the error names the wrong member.
func TestAMessageThatCannotBeReadSaysWhere(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	for members, want := range map[string]string{
		`"attachments":7`:          "attachments: not an array",
		`"attachments":[{"id":7}]`: "attachments: not an attachment",
		`"attachments":[{"type":"file","id":"","name":"n","mime_type":"m"}]`: "attachments: an id is not valid",
	} {
		it := testenv.OrPanic(chat.ParseItem(fmt.Sprintf(`{"id":"msg_odd","created_at":"2026-01-02T03:04:05Z","type":"user_message",%s}`, members)))
		for op, save := range map[store.Op]func(context.Context, string, chat.Item) error{
			store.OpAddThreadItem: w.AddThreadItem, store.OpSaveItem: w.SaveItem,
		} {
			want := &store.Error{Op: op, Kind: store.RowItem, ID: "msg_odd", Code: store.CodeInvalid, Field: want}
			if d := cmp.Diff(error(want), save(as(t, ada), thr, it)); d != "" {
				t.Errorf("%s (-want +got):\n%s", members, d)
			}
		}
	}
}

// TestEmbeddedAreBounded checks that the number of reads for one message is bounded.
func TestEmbeddedAreBounded(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	var ids []string
	for i := range authz.MaxEmbedded + 1 {
		ids = append(ids, fmt.Sprintf("atc_%d", i))
		must(t, w.base.SaveAttachment(t.Context(), attachment(ids[i], ada)))
	}
	wants(t, w.AddThreadItem(as(t, ada), thr, message("msg_many", ids...)), store.ErrInvalid)
	w.calls(t)
	must(t, w.AddThreadItem(as(t, ada), thr, message("msg_many", ids[1:]...)))
	w.spy.take()
	must(t, w.SaveItem(as(t, ada), thr, message("msg_twice", atc, atc, atc)))
	w.calls(t, store.OpLoadThread, store.OpLoadItem, store.OpLoadAttachment, store.OpSaveItem)
	must(t, w.AddThreadItem(as(t, ada), thr, message("msg_added", atc)))
	w.calls(t, store.OpLoadThread, store.OpLoadAttachment, store.OpAddThreadItem)
}

// TestAttachmentThreadIDGrantsNothing checks that without Shared the ThreadID shows neither the attachment to the thread's readers
// nor the thread to the attachment's owner.
func TestAttachmentThreadIDGrantsNothing(t *testing.T) {
	for name, p := range map[string]authz.Policy{
		"owner only": authz.OwnerOnly(), "any of": authz.AnyOf(authz.OwnerOnly(), authz.TenantAdmin("admin")), "of a user": wrapped{authz.OwnerOnly()},
	} {
		w := newWorld(t, p)
		a := attachment("atc_bob", bob)
		a.ThreadID = thr
		must(t, w.SaveAttachment(as(t, bob), a))
		wants(t, errOf(w.LoadAttachment(as(t, ada), "atc_bob")), store.ErrNotFound)
		wants(t, errOf(w.LoadThread(as(t, bob), thr)), store.ErrNotFound)
		// The same save succeeds for a missing thread, and costs nothing if no policy can be Shared.
		a.ThreadID = noThr
		w.spy.take()
		must(t, w.SaveAttachment(as(t, bob), a))
		if name != "of a user" {
			w.calls(t, store.OpLoadAttachment, store.OpSaveAttachment)
		}
	}
}

// TestOnlyAttachmentsAreLookedInto checks that the other members of a message may come from a newer version.
func TestOnlyAttachmentsAreLookedInto(t *testing.T) {
	w := newWorld(t, authz.OwnerOnly())
	for i, members := range []string{
		`"content":[{"type":"input_future","text":7}],"attachments":[]`,
		`"content":"future","attachments":null`,
		`"content":[],"attachments":[{"type":"future","id":"atc_there","name":"n","mime_type":"m","more":{"id":"atc_eve"}}]`,
		`"future":true`,
	} {
		it := testenv.OrPanic(chat.ParseItem(fmt.Sprintf(`{"id":"msg_%d","created_at":"2026-01-02T03:04:05Z","type":"user_message",%s}`, i, members)))
		must(t, w.AddThreadItem(as(t, ada), thr, it))
	}
}
