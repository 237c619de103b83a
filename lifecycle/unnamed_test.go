package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

func upload(t *testing.T, s store.Store, id, name string, o chat.Owner) chat.Attachment {
	t.Helper()
	a := testenv.OrPanic(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"}))
	a.Owner = o
	testenv.Must(t, s.SaveAttachment(context.Background(), a))
	return a
}

// send adds a user message that names the attachments.
func send(t *testing.T, s store.Store, threadID, id string, named ...chat.Attachment) {
	t.Helper()
	it := testenv.OrPanic(chat.NewItem(id, noon, chat.UserMessage{Attachments: named}))
	testenv.Must(t, s.AddThreadItem(context.Background(), threadID, it))
}

func attachmentIDs(t *testing.T, s store.Store) (ids []string) {
	t.Helper()
	for a, err := range lifecycle.Attachments(t.Context(), s, store.AnyOwner()) {
		testenv.Must(t, err)
		ids = append(ids, a.ID)
	}
	return ids
}

// An attachment goes only if nobody's message named it at both looks, and it stayed the same between.
func TestPruneAttachmentsDeletesWhatNoMessageNames(t *testing.T) {
	for name, c := range map[string]struct {
		f    store.OwnerFilter
		opts []lifecycle.Option
		want lifecycle.Pruned
		left []string
	}{
		"of everybody": {store.AnyOwner(), nil, lifecycle.Pruned{Deleted: 3, Changed: 2},
			[]string{"atc_late", "atc_new", "atc_others", "atc_owner", "atc_sent", "atc_swapped"}},
		"of bob": {store.OwnedBy(bob), nil, lifecycle.Pruned{Deleted: 1, Changed: 1},
			[]string{"atc_late", "atc_new", "atc_others", "atc_owner", "atc_sent", "atc_swapped", "atc_unsent", "atc_withdrawn"}},
		"dry": {store.AnyOwner(), []lifecycle.Option{lifecycle.WithDryRun()}, lifecycle.Pruned{Deleted: 3, Changed: 2},
			[]string{"atc_bobs", "atc_late", "atc_new", "atc_others", "atc_owner", "atc_sent", "atc_swapped", "atc_unsent", "atc_withdrawn"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			base := memstore.New()
			s := store.Wrap(base, cache.New())
			defer func() { testenv.Must(t, store.Close(s)) }()
			for id, o := range map[string]chat.Owner{"thr_ada": ada, "thr_bob": bob, "thr_gone": ada} {
				testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: noon, Owner: o}))
			}
			upload(t, s, "atc_unsent", "a.txt", ada)
			upload(t, s, "atc_bobs", "a.txt", bob)
			sent, others, late := upload(t, s, "atc_sent", "a.txt", ada), upload(t, s, "atc_others", "a.txt", ada), upload(t, s, "atc_late", "a.txt", ada)
			upload(t, s, "atc_swapped", "old.txt", ada)
			moved := upload(t, s, "atc_owner", "a.txt", bob)
			for i := range 150 { // the names are on a second page
				testenv.Must(t, s.AddThreadItem(t.Context(), "thr_ada", testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), noon, chat.EndOfTurn{}))))
			}
			send(t, s, "thr_ada", "msg_sent", sent)
			send(t, s, "thr_bob", "msg_others", others) // in a shared thread
			withdrawn := upload(t, s, "atc_withdrawn", "a.txt", ada)
			send(t, s, "thr_gone", "msg_withdrawn", withdrawn)
			testenv.Must(t, s.DeleteThread(t.Context(), "thr_gone"))
			testenv.Value(s.LoadAttachment(t.Context(), "atc_unsent"))(t) // into the cache
			go func() {
				time.Sleep(59 * time.Minute)
				send(t, s, "thr_ada", "msg_late", late)
				upload(t, s, "atc_swapped", "new.txt", ada)
				testenv.Must(t, base.DeleteAttachment(context.Background(), moved.ID))
				upload(t, s, "atc_owner", "b.txt", bob)
				upload(t, s, "atc_new", "a.txt", ada)
			}()
			begun := time.Now()
			done, err := lifecycle.PruneAttachments(t.Context(), s, c.f, time.Hour, c.opts...)
			if got := attachmentIDs(t, s); err != nil || done != c.want || !slices.Equal(got, c.left) || time.Since(begun) != time.Hour {
				t.Errorf("%s: %+v, %v, left %v; want %+v, left %v", name, done, err, got, c.want, c.left)
			}
			if _, err := s.LoadAttachment(t.Context(), "atc_unsent"); errors.Is(err, store.ErrNotFound) == slices.Contains(c.left, "atc_unsent") {
				t.Errorf("%s: through the cache: %v", name, err)
			}
		})
	}
}

// What is withdrawn between the looks was named at the first.
func TestAnAttachmentThatWasNamedAtOneLookStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
		send(t, s, "thr_1", "msg_1", upload(t, s, "atc_1", "a.txt", ada))
		upload(t, s, "atc_2", "a.txt", ada)
		go func() {
			time.Sleep(time.Minute)
			testenv.Must(t, s.DeleteThreadItem(context.Background(), "thr_1", "msg_1"))
		}()
		done, err := lifecycle.PruneAttachments(t.Context(), s, store.AnyOwner(), time.Hour)
		if got := attachmentIDs(t, s); err != nil || done.Deleted != 1 || !slices.Equal(got, []string{"atc_1"}) {
			t.Errorf("%+v, %v, left %v", done, err, got)
		}
	})
}

// A pause in the deletion would be time for a message that names what is deleted.
func TestPruneAttachmentsDeletesRightBehindTheSecondLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		for i := range 250 {
			upload(t, s, fmt.Sprint("atc_", i), "a.txt", ada)
		}
		begun := time.Now()
		done, err := lifecycle.PruneAttachments(t.Context(), s, store.AnyOwner(), time.Hour, lifecycle.WithPause(time.Minute))
		if err != nil || done.Deleted != 250 || time.Since(begun) != time.Hour {
			t.Errorf("%+v, %v after %v", done, err, time.Since(begun))
		}
	})
}

func TestPruneAttachmentsRefuses(t *testing.T) {
	s := memstore.New()
	upload(t, s, "atc_1", "a.txt", ada)
	hold := lifecycle.WithHold(func(context.Context, chat.Thread) (bool, error) { return true, nil })
	_, noTime := lifecycle.PruneAttachments(t.Context(), s, store.AnyOwner(), 0)
	_, held := lifecycle.PruneAttachments(t.Context(), s, store.AnyOwner(), time.Nanosecond, hold)
	_, blind := lifecycle.PruneAttachments(t.Context(), struct{ store.Store }{s}, store.AnyOwner(), time.Nanosecond)
	if !errors.Is(noTime, store.ErrInvalid) || !errors.Is(held, store.ErrInvalid) || !errors.Is(blind, errors.ErrUnsupported) {
		t.Errorf("without a time: %v; with a hold: %v; over a store that cannot list: %v", noTime, held, blind)
	}
	// Its names are unknown.
	testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
	odd := testenv.OrPanic(chat.ParseItem(`{"id":"msg_1","type":"user_message","created_at":"2026-01-02T12:00:00Z","content":[],"attachments":"atc_1","inference_options":{}}`))
	testenv.Must(t, s.AddThreadItem(t.Context(), "thr_1", odd))
	if _, err := lifecycle.PruneAttachments(t.Context(), s, store.AnyOwner(), time.Nanosecond); !errors.Is(err, chat.ErrInvalid) {
		t.Errorf("beside a message that cannot be read: %v", err)
	}
	if got := attachmentIDs(t, s); len(got) != 1 {
		t.Errorf("left %v", got)
	}
}

// A cache without a bus does not know of a message that another process has added.
func TestPruneAttachmentsReadsPastCaches(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, cache.New())
	defer func() { testenv.Must(t, store.Close(s)) }()
	testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
	send(t, s, "thr_1", "msg_0")
	testenv.Value(s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{Limit: 100}))(t)
	send(t, base, "thr_1", "msg_1", upload(t, base, "atc_1", "a.txt", ada))
	done, err := lifecycle.PruneAttachments(t.Context(), s, store.AnyOwner(), time.Nanosecond)
	if got := attachmentIDs(t, base); err != nil || done.Deleted != 0 || len(got) != 1 {
		t.Errorf("%+v, %v, left %v", done, err, got)
	}
}
