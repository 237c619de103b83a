package authz_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
)

var (
	cyd    = chat.Owner{Tenant: "acme", Subject: "cyd"}
	viewer = roleOf(sharing.Viewer)
	editor = roleOf(sharing.Editor)
	// member is an editor by a group.
	member = sharing.Access{Role: sharing.Editor, Direct: sharing.Viewer}
)

// named is an attachment that names the thread.
func named(id string, o chat.Owner, threadID string) chat.Attachment {
	a := attachment(id, o)
	a.ThreadID = threadID
	return a
}

// sharedWorld has a thread of ada, and attachments that name it. Each attachment has the name of its owner:
//
//   - ada owns the thread
//   - bob is an editor
//   - cyd is a viewer
//   - zoe is an editor by a group
//
// atc_priv is ada's, and names no thread.
func sharedWorld(t *testing.T) (world, *book) {
	t.Helper()
	b := &book{}
	w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.Shared(b)))
	for _, a := range []chat.Attachment{
		named("atc_ada", ada, thr), named("atc_bob", bob, thr), named("atc_cyd", cyd, thr), named("atc_zoe", zoe, thr),
		named("atc_free", chat.Owner{}, thr), named("atc_priv", ada, ""), named("atc_other", ada, eveThr), named("atc_lost", ada, noThr),
	} {
		must(t, w.base.SaveAttachment(t.Context(), a))
	}
	// An attachment's id can be a thread's too.
	must(t, w.base.SaveThread(t.Context(), thread("atc_priv", ada)))
	b.set("atc_priv", "bob", editor)
	b.set(thr, "bob", editor)
	b.set(thr, "cyd", viewer)
	b.set(thr, "zoe", member)
	b.set(thr, "", editor) // a lookup that errs about nobody
	w.spy.take()
	return w, b
}

var zoe = chat.Owner{Tenant: "acme", Subject: "zoe"}

// What a policy around Shared refuses about a thread, it refuses about an attachment that is to name the thread.
func TestAPolicyAroundSharedDecidesAboutNames(t *testing.T) {
	for name, c := range map[string]struct {
		refusal error
		want    error
	}{"refuses writes": {nil, store.ErrDenied}, "fails": {errors.New("away"), store.ErrUnavailable}} {
		shared := authz.AnyOf(authz.OwnerOnly(), authz.Shared(&book{}))
		w := newWorld(t, policyFunc(func(ctx context.Context, r authz.Request) (authz.Decision, error) {
			if r.ThreadID == thr && r.Action == authz.Write {
				return authz.Deny, c.refusal
			}
			return shared.Decide(ctx, r)
		}))
		err := w.SaveAttachment(as(t, ada), named("atc_new", ada, thr))
		if !errors.Is(err, c.want) || !errors.Is(w.SaveThread(as(t, ada), thread(thr, ada)), c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		wants(t, errOf(w.base.LoadAttachment(t.Context(), "atc_new")), store.ErrNotFound)
	}
}

func TestWhoReadsAThreadReadsItsAttachments(t *testing.T) {
	w, b := sharedWorld(t)
	for _, c := range []struct {
		id      string
		readers []chat.Owner
	}{
		{"atc_ada", []chat.Owner{ada, bob, cyd, zoe}},
		{"atc_bob", []chat.Owner{ada, bob, cyd, zoe}},
		{"atc_cyd", []chat.Owner{cyd}}, // a viewer's
		{"atc_zoe", []chat.Owner{zoe}}, // of an editor by a group
		{"atc_free", nil},
		{"atc_priv", []chat.Owner{ada}},
		{"atc_other", []chat.Owner{ada}}, // names a thread that they may not read
		{"atc_lost", []chat.Owner{ada}},  // names a missing thread
	} {
		for _, who := range []chat.Owner{ada, bob, cyd, zoe, eve} {
			want := store.ErrNotFound
			for _, reader := range c.readers {
				if reader == who {
					want = nil
				}
			}
			a, err := w.LoadAttachment(as(t, who), c.id)
			wants(t, err, want)
			if err == nil && a.ID != c.id || err != nil && a != (chat.Attachment{}) {
				t.Errorf("%s gets %v of %s", who.Subject, a, c.id)
			}
			// Who may read it may attach it to a message, and nobody else may.
			if err := w.AddThreadItem(as(t, who), thr, message("msg_"+who.Subject+c.id, c.id)); who != cyd && who != eve {
				wants(t, err, want)
			}
		}
	}
	// The editor's grant ends, and with it the reading of what the editor has put there.
	b.set(thr, "bob", sharing.Access{})
	for _, who := range []chat.Owner{ada, cyd} {
		wants(t, errOf(w.LoadAttachment(as(t, who), "atc_bob")), store.ErrNotFound)
	}
	must(t, errOf(w.LoadAttachment(as(t, bob), "atc_bob")))
	wants(t, errOf(w.LoadAttachment(as(t, bob), "atc_ada")), store.ErrNotFound)
	b.set(thr, "cyd", sharing.Access{})
	wants(t, errOf(w.LoadAttachment(as(t, cyd), "atc_ada")), store.ErrNotFound)
}

// A reader by the thread may not change an attachment, and gets the answer of any row that is only readable.
func TestAnAttachmentReadByItsThreadIsReadOnly(t *testing.T) {
	w, _ := sharedWorld(t)
	for _, who := range []chat.Owner{bob, cyd} {
		wants(t, w.DeleteAttachment(as(t, who), "atc_ada"), store.ErrDenied)
		wants(t, w.SaveAttachment(as(t, who), attachment("atc_ada", chat.Owner{})), store.ErrDenied)
	}
	wants(t, w.DeleteAttachment(as(t, ada), "atc_bob"), store.ErrDenied)
	wants(t, w.DeleteAttachment(as(t, eve), "atc_ada"), nil)
	wants(t, w.DeleteAttachment(as(t, bob), "atc_priv"), nil)
	w.notWritten(t)
	must(t, w.DeleteAttachment(as(t, bob), "atc_bob"))
	wants(t, errOf(w.base.LoadAttachment(t.Context(), "atc_bob")), store.ErrNotFound)
}

// The thread that a saved attachment names must be live and writable for the caller. A hidden and a missing thread are the same.
func TestAnAttachmentNamesOnlyAThreadThatItsOwnerWrites(t *testing.T) {
	w, b := sharedWorld(t)
	must(t, w.base.SaveThread(t.Context(), thread("thr_gone", ada)))
	must(t, w.base.DeleteThread(t.Context(), "thr_gone"))
	for _, c := range []struct {
		who    chat.Owner
		thread string
		want   error
	}{
		{ada, thr, nil},
		{bob, thr, nil},
		{zoe, thr, nil},
		{cyd, thr, store.ErrDenied},
		{eve, thr, store.ErrNotFound},
		{eve, noThr, store.ErrNotFound},
		{ada, "thr_gone", store.ErrNotFound},
		{eve, "", nil},
	} {
		w.spy.take()
		id := fmt.Sprintf("atc_%s_%s", c.who.Subject, c.thread)
		err := w.SaveAttachment(as(t, c.who), named(id, chat.Owner{}, c.thread))
		wants(t, err, c.want)
		if c.want == nil {
			continue
		}
		if e, ok := errors.AsType[*store.Error](err); !ok || e.Kind != store.RowThread || e.ID != c.thread || e.Op != store.OpSaveAttachment {
			t.Errorf("got %#v, want an error about the thread", e)
		}
		w.calls(t, store.OpLoadThread)
	}
	// It is asked again for every save.
	b.set(thr, "bob", sharing.Access{})
	wants(t, w.SaveAttachment(as(t, bob), named("atc_bob", bob, thr)), store.ErrNotFound)
	must(t, w.SaveAttachment(as(t, bob), attachment("atc_bob", bob)))
}

// A guess of an attachment's id costs the same calls and questions whether the attachment is hidden or missing.
func TestHiddenAndMissingAttachmentsAreTheSame(t *testing.T) {
	for name, call := range map[string]func(context.Context, store.Store, string) error{
		"LoadAttachment":   func(ctx context.Context, s store.Store, id string) error { return errOf(s.LoadAttachment(ctx, id)) },
		"DeleteAttachment": func(ctx context.Context, s store.Store, id string) error { return s.DeleteAttachment(ctx, id) },
		"SaveAttachment": func(ctx context.Context, s store.Store, id string) error {
			return s.SaveAttachment(store.WithSaveMode(ctx, store.UpdateOnly), attachment(id, chat.Owner{}))
		},
		"AddThreadItem": func(ctx context.Context, s store.Store, id string) error {
			return s.AddThreadItem(ctx, eveThr, message("msg_new", id))
		},
	} {
		type observed struct {
			err   string
			code  store.Code
			calls []store.Op
			asked int
		}
		w, b := sharedWorld(t)
		b.set("atc_priv", "eve", editor)
		try := func(id string) (o observed) {
			w.spy.take()
			b.take()
			err := call(as(t, eve), w, id)
			if o.code = store.CodeOf(err); err != nil {
				o.err = fmt.Sprint(errors.Unwrap(err), len(err.Error())-len(id))
			}
			o.calls, o.asked = w.spy.ops(), len(b.take())
			return o
		}
		missing := try("atc_missing")
		for _, id := range []string{"atc_ada", "atc_bob", "atc_cyd", "atc_priv", "atc_free", "atc_lost"} {
			if d := cmp.Diff(missing, try(id), cmp.AllowUnexported(observed{})); d != "" {
				t.Errorf("%s of %s (-missing +hidden):\n%s", name, id, d)
			}
		}
	}
}

// A failing lookup or base fails the call: it is no answer about the attachment.
func TestAnAttachmentIsNotJudgedWithoutTheLookup(t *testing.T) {
	down := errors.New("down")
	fails := ""
	w := newWorld(t, sharedBy(func(_ context.Context, p store.Principal, threadID string) (sharing.Access, error) {
		if p.Owner.Subject == fails {
			return editor, down
		}
		return editor, nil
	}))
	must(t, w.base.SaveAttachment(t.Context(), named("atc_bob", bob, thr)))
	must(t, errOf(w.LoadAttachment(as(t, cyd), "atc_bob")))
	for _, fails = range []string{"bob", "cyd"} {
		a, err := w.LoadAttachment(as(t, cyd), "atc_bob")
		wants(t, err, store.ErrUnavailable)
		if a != (chat.Attachment{}) {
			t.Errorf("got %v", a)
		}
	}
	w.spy.take()
	wants(t, w.SaveAttachment(as(t, cyd), named("atc_new", cyd, thr)), store.ErrUnavailable)
	w.notWritten(t)
}

// A cache may have an older attachment of the id. A reader by the thread gets the newest one, and nothing if that is private.
func TestNoAttachmentOlderThanTheGrant(t *testing.T) {
	base, b := memstore.New(), &book{}
	s := store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(b)), authz.ShareBelow()), cache.New())
	defer store.Close(s)
	must(t, base.SaveThread(t.Context(), thread(thr, ada)))
	b.set(thr, "bob", viewer)
	save := func(id, threadID, name string) {
		a, err := chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"})
		must(t, err)
		a.Owner, a.ThreadID = ada, threadID
		must(t, base.SaveAttachment(t.Context(), a))
	}
	for _, id := range []string{"atc_1", "atc_2", "atc_3"} {
		save(id, thr, "salary")
		must(t, errOf(s.LoadAttachment(as(t, ada), id)))
	}
	save("atc_1", thr, "harmless")
	save("atc_2", "", "private")
	must(t, base.DeleteAttachment(t.Context(), "atc_3"))
	a, err := s.LoadAttachment(as(t, bob), "atc_1")
	if body, _ := a.Decode(); err != nil || body.Name != "harmless" {
		t.Errorf("got %v, %v", body, err)
	}
	for _, id := range []string{"atc_2", "atc_3"} {
		wants(t, errOf(s.LoadAttachment(as(t, bob), id)), store.ErrNotFound)
		wants(t, s.DeleteAttachment(as(t, bob), id), nil)
	}
}
