package lifecycle_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/mirror"
	"github.com/chatstore/chatstore/decorators/readonly"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

func TestEraseRemovesAllOfAnOwner(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, cache.New())
	defer func() { testenv.Must(t, store.Close(s)) }()
	ctx := t.Context()
	fill(t, s)
	testenv.Must(t, s.SaveThread(ctx, chat.Thread{ID: "thr_gone", CreatedAt: noon, Owner: ada}))
	testenv.Must(t, s.DeleteThread(ctx, "thr_gone"))
	for _, id := range []string{"thr_0", "thr_1", "thr_3"} { // into the cache
		_, err := s.LoadThread(ctx, id)
		testenv.Must(t, err)
	}
	r, err := lifecycle.Erase(ctx, s, ada)
	testenv.Must(t, err)
	if r.Erased.Threads != 2 || r.Erased.Attachments != 2 || r.Deleted != 1 {
		t.Errorf("erased %+v and %d ids, want 2, 2 and 1", r.Erased, r.Deleted)
	}
	sum := sha256.Sum256([]byte("thr_3"))
	if !slices.Contains(r.Threads, hex.EncodeToString(sum[:])) || len(r.Threads) != 2 || len(r.NotFound) == 0 {
		t.Errorf("the receipt is %+v", r)
	}
	for _, s := range []store.Store{s, base} {
		if rows := dump(t, s); strings.Contains(rows, "thr_0") || strings.Contains(rows, "thr_3") || !strings.Contains(rows, "thr_1") {
			t.Errorf("left: %s", rows)
		}
		if _, err := s.LoadThread(ctx, "thr_3"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("LoadThread: %v", err)
		}
	}
	for _, id := range []string{"thr_0", "thr_gone"} { // its name is gone from the ids
		if err := s.SaveThread(ctx, chat.Thread{ID: id, CreatedAt: noon, Owner: ada}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("SaveThread of %s: %v", id, err)
		}
	}
}

// bounded is a base whose abandoned writes may take effect within a minute.
type bounded struct{ *memstore.Store }

func (bounded) LongestWrite() time.Duration { return time.Minute }

// An abandoned write adds a row after the first pass. Erase waits for it.
func TestEraseFindsWhatAnAbandonedWriteAdds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := bounded{memstore.New()}
		fill(t, base)
		go func() {
			time.Sleep(59 * time.Second)
			testenv.Must(t, base.SaveThread(context.Background(), chat.Thread{ID: "thr_late", CreatedAt: noon, Owner: ada}))
		}()
		r, err := lifecycle.Erase(t.Context(), base, ada)
		testenv.Must(t, err)
		if r.Erased.Threads != 3 || r.Ended.Sub(r.Begun) != time.Minute || strings.Contains(dump(t, base), "thr_late") {
			t.Errorf("%+v", r)
		}
	})
}

func TestEraseRefusesAStoreThatCannot(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	before := dump(t, base)
	if _, err := lifecycle.Erase(t.Context(), struct{ store.Store }{base}, ada); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store without capabilities: %v", err)
	}
	if _, err := lifecycle.Erase(t.Context(), base, chat.Owner{}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("nobody: %v", err)
	}
	if dump(t, base) != before {
		t.Error("something was erased")
	}
}

// An Erase that fails in the middle says so, and another finishes it.
func TestAnEraseThatFailedIsFinishedByAnother(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	s := faulty.New(base)
	for _, op := range []store.Op{store.OpLoadThreads, store.OpDeleteThread, store.OpDeleteAttachment} {
		s.Inject(faulty.Fault{Op: op, Times: 1, Do: func(context.Context, layer.Call, func(context.Context) error) error { return store.ErrUnavailable }})
		if _, err := lifecycle.Erase(t.Context(), s, ada); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s fails: %v", op, err)
		}
	}
	_, err := lifecycle.Erase(t.Context(), s, ada)
	testenv.Must(t, err)
	if rows := dump(t, base); strings.Contains(rows, "thr_0") {
		t.Errorf("left: %s", rows)
	}
}

// Another process's cache drops the erased rows, also one that an abandoned write has added.
func TestOtherCachesHearOfAnErasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, wire := bounded{memstore.New()}, bus.Local()
		here, there := store.Wrap(base, cache.New(cache.WithBus(wire))), store.Wrap(base, cache.New(cache.WithBus(wire)))
		defer func() { testenv.Must(t, store.Close(here, there)) }()
		ctx := t.Context()
		fill(t, here)
		warm := func(threadID, attachmentID string) {
			testenv.Value(there.LoadThread(ctx, threadID))(t)
			testenv.Value(there.LoadThreadItems(ctx, threadID, store.PageQuery{}))(t)
			testenv.Value(there.LoadAttachment(ctx, attachmentID))(t)
		}
		warm("thr_3", "atc_3")
		warm("thr_1", "atc_1") // bob's
		go func() {
			time.Sleep(30 * time.Second)
			testenv.Must(t, base.SaveThread(ctx, chat.Thread{ID: "thr_late", CreatedAt: noon, Owner: ada}))
			upload(t, base, "atc_late", "a.txt", ada)
			warm("thr_late", "atc_late")
		}()
		testenv.Value(lifecycle.Erase(ctx, here, ada))(t)
		for _, id := range []string{"3", "late"} {
			_, err := there.LoadThread(ctx, "thr_"+id)
			_, err2 := there.LoadThreadItems(ctx, "thr_"+id, store.PageQuery{})
			_, err3 := there.LoadAttachment(ctx, "atc_"+id)
			if p, _ := there.LoadThreadItems(ctx, "thr_"+id, store.PageQuery{}); len(p.Data) > 0 {
				t.Errorf("%s: the other cache has %d items", id, len(p.Data))
			}
			if !errors.Is(err, store.ErrNotFound) || !errors.Is(err3, store.ErrNotFound) {
				t.Errorf("%s: the other cache answers %v, %v, %v", id, err, err2, err3)
			}
		}
		warm("thr_1", "atc_1")
	})
}

// A layer that refuses writes refuses before anything is deleted.
func TestEraseThroughAReadOnlyLayerDeletesNothing(t *testing.T) {
	base := memstore.New()
	fill(t, base)
	before := dump(t, base)
	var sw readonly.Switch
	sw.Refuse("moving")
	for _, owner := range []chat.Owner{ada, {Tenant: "acme", Subject: "nobody"}} { // who has nothing is refused too
		if _, err := lifecycle.Erase(t.Context(), store.Wrap(base, cache.New(), readonly.New(&sw)), owner); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%v: %v", owner, err)
		}
	}
	if dump(t, base) != before {
		t.Error("something was deleted")
	}
}

func TestEraseEndsGrants(t *testing.T) {
	ctx, s := t.Context(), sharing.New(memstore.New())
	fill(t, s)
	to := func(o chat.Owner) sharing.Grantee { return sharing.Grantee{Tenant: o.Tenant, Subject: o.Subject} }
	eve := chat.Owner{Tenant: "acme", Subject: "eve"}
	for _, g := range []sharing.Grant{{ThreadID: "thr_0", To: to(bob), By: ada}, {ThreadID: "thr_1", To: to(ada), By: bob}, {ThreadID: "thr_1", To: to(eve), By: ada}} {
		g.Role = sharing.Viewer
		testenv.Must(t, s.Grant(ctx, g))
	}
	testenv.Value(lifecycle.Erase(ctx, s, ada))(t)
	p := testenv.Value(s.Grantees(ctx, "thr_1", "", 10))(t)
	if len(p.Data) != 1 || p.Data[0].To != to(eve) || !p.Data[0].By.IsZero() {
		t.Errorf("the grants of bob's thread: %+v", p.Data)
	}
	for _, o := range []chat.Owner{ada, bob} {
		if p := testenv.Value(s.SharedWith(ctx, store.Principal{Owner: o}, "", 10))(t); len(p.Data) != 0 {
			t.Errorf("shared with %v: %+v", o, p.Data)
		}
	}
}

// A row that cannot be read must not keep its owner from being erased.
func TestEraseRemovesRowsThatCannotBeRead(t *testing.T) {
	base := memstore.New()
	for i := range 150 {
		owner := []chat.Owner{ada, bob}[i%2]
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: fmt.Sprint("thr_", i), CreatedAt: noon, Title: "Tea", Owner: owner}))
		a := testenv.OrPanic(chat.NewAttachment(fmt.Sprint("atc_", i), chat.AttachmentBody{Type: "file", Name: "a", MIMEType: "text/plain"}))
		a.Owner = owner
		testenv.Must(t, base.SaveAttachment(t.Context(), a))
	}
	lost := errors.New("no key")
	s := store.Wrap(base, cache.New(), layer.Transform("seal", layer.Transformer{
		LoadThread: func(_ context.Context, t chat.Thread) (chat.Thread, error) {
			if strings.HasSuffix(t.ID, "1") || strings.HasSuffix(t.ID, "2") {
				return t, lost
			}
			return t, nil
		},
		LoadAttachment: func(_ context.Context, a chat.Attachment) (chat.Attachment, error) { return a, lost },
	}))
	defer func() { testenv.Must(t, store.Close(s)) }()
	r, err := lifecycle.Erase(t.Context(), s, ada)
	testenv.Must(t, err)
	if r.Erased.Threads != 75 || r.Erased.Attachments != 75 || len(r.Threads) != 75 {
		t.Errorf("the receipt has %+v, and %d threads", r.Erased, len(r.Threads))
	}
	for _, o := range []chat.Owner{ada, bob} {
		want := map[chat.Owner]int{ada: 0, bob: 75}[o]
		if n := length(t, lifecycle.Threads(t.Context(), base, store.OwnedBy(o))); n != want {
			t.Errorf("%v has %d threads", o, n)
		}
		if n := length(t, lifecycle.Attachments(t.Context(), base, store.OwnedBy(o))); n != want {
			t.Errorf("%v has %d attachments", o, n)
		}
	}
}

// A mirror erases neither of its stores.
func TestAnEraseThatALayerRefusesDeletesNothing(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, mirror.New(memstore.New()))
	defer func() { testenv.Must(t, store.Close(s)) }()
	testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
	if r, err := lifecycle.Erase(t.Context(), s, ada); !errors.Is(err, errors.ErrUnsupported) || r.Erased.Threads != 0 {
		t.Errorf("%+v, %v", r.Erased, err)
	}
	if _, err := base.LoadThread(t.Context(), "thr_1"); err != nil {
		t.Error(err)
	}
}

// A base that knows no listing answers not found to the first page.
func TestEraseEndsIfThereIsNoFirstPage(t *testing.T) {
	s := faulty.New(memstore.New())
	s.Inject(faulty.Fault{Op: store.OpLoadThreads, Do: faulty.Fail(store.ErrNotFound)})
	if _, err := lifecycle.Erase(t.Context(), s, ada); !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "may be left") {
		t.Error(err)
	}
}
