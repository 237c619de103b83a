package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/lifecycle"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest/faulty"
)

// forked returns a guarded stack around base, in which bob may read ada's thr_1, and bob's context.
func forked(t *testing.T, base store.Store) (store.Store, context.Context) {
	t.Helper()
	g := sharing.New(base)
	testenv.Must(t, g.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Title: "Tea", Owner: ada,
		Metadata: testenv.OrPanic(chat.ParseJSON(`{"model":"x"}`))}))
	for i := range 250 {
		it := testenv.OrPanic(chat.NewItem(fmt.Sprint("msg_", i), noon, chat.EndOfTurn{}))
		testenv.Must(t, g.AddThreadItem(t.Context(), "thr_1", it))
	}
	to := sharing.Grantee{Tenant: bob.Tenant, Subject: bob.Subject}
	testenv.Must(t, g.Grant(t.Context(), sharing.Grant{ThreadID: "thr_1", To: to, Role: sharing.Viewer}))
	s := store.Wrap(g, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(g)), authz.ShareBelow()), cache.New())
	t.Cleanup(func() { testenv.Must(t, store.Close(s)) })
	return s, store.WithPrincipal(t.Context(), store.Principal{Owner: bob})
}

func TestAForkIsTheCallersCopy(t *testing.T) {
	for upTo, want := range map[string]int{"": 250, "msg_120": 121, "msg_0": 1} {
		s, ctx := forked(t, memstore.New())
		fork, err := lifecycle.Fork(ctx, s, "thr_1", upTo)
		testenv.Must(t, err)
		stored := testenv.Value(s.LoadThread(ctx, fork.ID))(t)
		if stored.Owner != bob || stored.Title != "Tea" || stored.Status.Type != chat.StatusActive || stored.Metadata.String() != `{"model":"x"}` ||
			time.Since(stored.CreatedAt) > time.Hour || fork.ID == "thr_1" {
			t.Errorf("the fork is %v of %v", stored.JSON(), stored.Owner)
		}
		n := 0
		for it, err := range lifecycle.Items(ctx, s, fork.ID) {
			testenv.Must(t, err)
			if it.ID != fmt.Sprint("msg_", n) || it.ThreadID != fork.ID || !it.CreatedAt.Equal(noon) {
				t.Fatalf("item %d is %v", n, it.JSON())
			}
			n++
		}
		if n != want {
			t.Errorf("up to %q: %d items, want %d", upTo, n, want)
		}
	}
}

func TestAForkNeedsWhatItCopies(t *testing.T) {
	s, ctx := forked(t, memstore.New())
	_, err := lifecycle.Fork(ctx, s, "thr_1", "msg_999")
	_, err2 := lifecycle.Fork(ctx, s, "thr_9", "")
	eve := store.WithPrincipal(t.Context(), store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "eve"}})
	_, err3 := lifecycle.Fork(eve, s, "thr_1", "")
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	if page := testenv.Value(s.LoadThreads(ctx, store.ThreadQuery{}))(t); len(page.Data) != 0 {
		t.Errorf("left: %v", page.Data)
	}
}

// A thread that changes while it is copied is copied again, and the first copy goes.
func TestAForkIsOfOneVersion(t *testing.T) {
	base := memstore.New()
	f := faulty.New(base)
	s, ctx := forked(t, f)
	var once bool
	f.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Do: func(call context.Context, c layer.Call, next func(context.Context) error) error {
		err := next(call)
		if !once && c.ThreadID == "thr_1" {
			once = true
			testenv.Must(t, base.DeleteThreadItem(context.Background(), "thr_1", "msg_0"))
		}
		return err
	}})
	fork, err := lifecycle.Fork(ctx, s, "thr_1", "")
	testenv.Must(t, err)
	var ids []string
	for it, err := range lifecycle.Items(ctx, s, fork.ID) {
		testenv.Must(t, err)
		ids = append(ids, it.ID)
	}
	if len(ids) != 249 || strings.Contains(strings.Join(ids, " ")+" ", "msg_0 ") {
		t.Errorf("%d items, from %s", len(ids), ids[0])
	}
	if page := testenv.Value(s.LoadThreads(ctx, store.ThreadQuery{}))(t); len(page.Data) != 1 {
		t.Errorf("%d threads are left, want the fork", len(page.Data))
	}
}

// A fork that fails halfway is deleted.
func TestAForkThatFailsIsNotLeftOpen(t *testing.T) {
	base := memstore.New()
	f := faulty.New(base)
	s, ctx := forked(t, f)
	f.Inject(faulty.Fault{Op: store.OpAddThreadItem, Skip: 100, Times: 1, Do: faulty.Fail(store.ErrUnavailable)})
	if _, err := lifecycle.Fork(ctx, s, "thr_1", ""); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if page := testenv.Value(s.LoadThreads(ctx, store.ThreadQuery{}))(t); len(page.Data) != 0 {
		t.Errorf("left: %v", page.Data)
	}
}

// However Fork ends early, nothing of the fork is left, and a fork that its owner deletes meanwhile stays deleted.
func TestNothingOfAFailedForkIsLeft(t *testing.T) {
	deleted := func(b store.Store, _ func()) layer.InterceptorFunc {
		return func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			return errors.Join(b.DeleteThread(ctx, c.ThreadID), next(ctx))
		}
	}
	for name, c := range map[string]struct {
		op   store.Op
		skip int
		do   func(b store.Store, cancel func()) layer.InterceptorFunc
	}{
		"cancelled": {store.OpAddThreadItem, 0, func(_ store.Store, cancel func()) layer.InterceptorFunc {
			return func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				cancel()
				return next(ctx)
			}
		}},
		"the first answer is lost":         {store.OpSaveThread, 0, func(store.Store, func()) layer.InterceptorFunc { return faulty.FailAfter(store.ErrUnavailable) }},
		"deleted before an item":           {store.OpAddThreadItem, 0, deleted},
		"deleted before it is loaded":      {store.OpLoadThread, 1, deleted},
		"deleted before it is saved again": {store.OpSaveThread, 1, deleted},
	} {
		b := memstore.New()
		testenv.Must(t, b.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
		send(t, b, "thr_1", "msg_1")
		f := faulty.New(b)
		ctx, cancel := context.WithCancel(t.Context())
		f.Inject(faulty.Fault{Op: c.op, Skip: c.skip, Times: 1, Do: c.do(b, cancel)})
		_, err := lifecycle.Fork(ctx, f, "thr_1", "")
		if n := length(t, lifecycle.Threads(t.Context(), b, store.AnyOwner())); err == nil || n != 1 {
			t.Errorf("%s: %v, %d threads", name, err, n)
		}
		cancel()
	}
}

// sameID generates an id that is taken.
type sameID struct{ store.Store }

func (sameID) GenerateThreadID(context.Context) string { return "thr_1" }

// A fork whose id is taken takes nothing from the thread that has it.
func TestAForkLeavesAThreadWithItsIDAlone(t *testing.T) {
	b := memstore.New()
	small(t, b)
	before := dump(t, b)
	if _, err := lifecycle.Fork(t.Context(), sameID{b}, "thr_0", ""); !errors.Is(err, store.ErrConflict) || dump(t, b) != before {
		t.Errorf("%v, left\n%s", err, dump(t, b))
	}
}

// A fork is locked while it is copied. Then it has the status of the thread, and what its owner has changed in it stays.
func TestAForkIsLockedUntilItIsComplete(t *testing.T) {
	for _, status := range []chat.Status{{Type: chat.StatusActive}, {Type: chat.StatusLocked, Reason: "abuse"}, {Type: chat.StatusClosed}} {
		b := memstore.New()
		testenv.Must(t, b.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Title: "Tea", Owner: ada, Status: status,
			AllowedImageDomains: testenv.OrPanic(chat.ParseJSON(`["example.com"]`))}))
		send(t, b, "thr_1", "msg_1")
		f := faulty.New(b)
		s := store.Wrap(f, cache.New()) // which does not hear of the new title
		f.Inject(faulty.Fault{Op: store.OpAddThreadItem, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			fork := testenv.Value(b.LoadThread(ctx, c.ThreadID))(t)
			if fork.Status.Type != chat.StatusLocked || fork.Status == status {
				t.Errorf("while it is copied: %v", fork.Status)
			}
			fork.Title = "Coffee"
			return errors.Join(b.SaveThread(ctx, fork), next(ctx))
		}})
		fork := testenv.Value(lifecycle.Fork(t.Context(), s, "thr_1", ""))(t)
		testenv.Must(t, store.Close(s))
		stored := testenv.Value(b.LoadThread(t.Context(), fork.ID))(t)
		if stored.Status != status || stored.Title != "Coffee" || stored.AllowedImageDomains.String() != `["example.com"]` || stored.JSON() != fork.JSON() {
			t.Errorf("the fork of a thread that is %v: %v", status, stored.JSON())
		}
	}
}

// The cache does not know what another process has written.
func TestAForkIsReadPastCaches(t *testing.T) {
	base := memstore.New()
	s := store.Wrap(base, cache.New())
	defer func() { testenv.Must(t, store.Close(s)) }()
	testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Title: "Tea"}))
	testenv.Value(s.LoadThread(t.Context(), "thr_1"))(t)
	testenv.Value(s.LoadThreadItems(t.Context(), "thr_1", store.PageQuery{Limit: 100, Order: store.OldestFirst}))(t)
	testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Title: "Coffee"}))
	send(t, base, "thr_1", "msg_1")
	fork := testenv.Value(lifecycle.Fork(t.Context(), s, "thr_1", ""))(t)
	if n := length(t, lifecycle.Items(t.Context(), base, fork.ID)); fork.Title != "Coffee" || n != 1 {
		t.Errorf("%q with %d items", fork.Title, n)
	}
}

func TestAForkOfAThreadThatIsDeletedIsNotFound(t *testing.T) {
	base := memstore.New()
	f := faulty.New(base)
	s, ctx := forked(t, f)
	f.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Skip: 1, Times: 1, Do: func(call context.Context, c layer.Call, next func(context.Context) error) error {
		return errors.Join(base.DeleteThread(context.Background(), "thr_1"), next(call))
	}})
	if _, err := lifecycle.Fork(ctx, s, "thr_1", ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if n := length(t, lifecycle.Threads(t.Context(), base, store.AnyOwner())); n != 0 {
		t.Errorf("%d threads are left", n)
	}
}

// Between the tries is time for a burst of writes to end.
func TestExportAndForkWaitForAThreadThatChanges(t *testing.T) {
	for name, call := range map[string]func(context.Context, store.Store) error{
		"Export": func(ctx context.Context, s store.Store) error {
			_, err := lifecycle.Export(ctx, io.Discard, s, store.AnyOwner())
			return err
		},
		"Fork": func(ctx context.Context, s store.Store) error {
			_, err := lifecycle.Fork(ctx, s, "thr_1", "")
			return err
		},
	} {
		for _, burst := range []time.Duration{500 * time.Millisecond, time.Minute} {
			synctest.Test(t, func(t *testing.T) {
				base := memstore.New()
				testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon, Owner: ada}))
				s := faulty.New(base)
				begun := time.Now()
				s.Inject(faulty.Fault{Op: store.OpLoadThreadItems, Do: func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
					if time.Since(begun) < burst {
						send(t, base, "thr_1", fmt.Sprint("msg_", time.Since(begun)))
					}
					return next(ctx)
				}})
				err := call(t.Context(), s)
				if rests := burst < time.Second; rests != (err == nil) || !rests && (!errors.Is(err, store.ErrConflict) || time.Since(begun).Round(time.Second) != time.Second) {
					t.Errorf("%s of a thread that changes for %v: %v after %v", name, burst, err, time.Since(begun))
				}
			})
		}
	}
}

func TestAForkHasNoTurnUnderWay(t *testing.T) {
	for metadata, want := range map[string]string{
		`{"chatstore_turn":{"turn":"a","epoch":2}}`:                               `{}`,
		`{"a": 1.0, "chatstore_turn":{"turn":"a"}, "b":[2 ], "chatstore_turn":3}`: `{"a":1.0,"b":[2 ]}`,
		`{ "a": {"chatstore_turn":1} }`:                                           `{ "a": {"chatstore_turn":1} }`,
	} {
		base := memstore.New()
		testenv.Must(t, base.SaveThread(t.Context(), chat.Thread{ID: "thr_1", CreatedAt: noon,
			Metadata: testenv.OrPanic(chat.ParseJSON(metadata))}))
		fork := testenv.Value(lifecycle.Fork(t.Context(), base, "thr_1", ""))(t)
		stored := testenv.Value(base.LoadThread(t.Context(), fork.ID))(t)
		if got := stored.Metadata.String(); got != want || fork.Metadata != stored.Metadata {
			t.Errorf("the fork of %s has %s, want %s", metadata, got, want)
		}
	}
}
