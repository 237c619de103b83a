package authz_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
)

// book has the accesses to threads, by thread and subject. It counts the questions.
type book struct {
	mu    sync.Mutex
	has   map[string]sharing.Access
	asked []string
}

func (b *book) Access(_ context.Context, p store.Principal, threadID string) (sharing.Access, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := threadID + " " + p.Owner.Subject
	b.asked = append(b.asked, key)
	return b.has[key], nil
}

// set gives the subject this access to the thread.
func (b *book) set(threadID, subject string, a sharing.Access) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.has == nil {
		b.has = map[string]sharing.Access{}
	}
	b.has[threadID+" "+subject] = a
}

// take returns the questions since the last take.
func (b *book) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked = nil
	return asked
}

// wrapped is a policy of a user around another one.
type wrapped struct{ authz.Policy }

func TestSharedAsksOnlyAboutOthersThreads(t *testing.T) {
	b := &book{}
	b.set(thr, "bob", roleOf(sharing.Editor))
	b.set("thr_nobody", "bob", roleOf(sharing.Editor))
	w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.Shared(b)))
	must(t, w.base.SaveThread(t.Context(), thread("thr_nobody", chat.Owner{})))
	bobs := []string{thr + " bob"}
	for _, c := range []struct {
		name string
		call func(context.Context) error
		who  chat.Owner
		want error
		asks []string
	}{
		{"a granted thread", func(ctx context.Context) error { return errOf(w.LoadThread(ctx, thr)) }, bob, nil, bobs},
		{"an item of it", func(ctx context.Context) error { return errOf(w.LoadItem(ctx, thr, msg)) }, bob, nil, bobs},
		{"the owner's thread", func(ctx context.Context) error { return errOf(w.LoadThread(ctx, thr)) }, ada, nil, nil},
		{"a new thread", func(ctx context.Context) error { return w.SaveThread(ctx, thread("thr_new", chat.Owner{})) }, bob, nil, []string{"thr_new bob", "thr_new bob"}},
		{"a listing", func(ctx context.Context) error { return errOf(w.LoadThreads(ctx, store.ThreadQuery{})) }, bob, nil, nil},
		{"a missing thread", func(ctx context.Context) error { return errOf(w.LoadThread(ctx, noThr)) }, bob, store.ErrNotFound, []string{noThr + " bob"}},
		{"a thread without an owner", func(ctx context.Context) error { return errOf(w.LoadThread(ctx, "thr_nobody")) }, bob, store.ErrNotFound, []string{"thr_nobody bob"}},
		{"deleting an item", func(ctx context.Context) error { return w.DeleteThreadItem(ctx, thr, noMsg) }, bob, nil, bobs},
		{"deleting the thread", func(ctx context.Context) error { return w.DeleteThread(ctx, thr) }, bob, store.ErrDenied, append(bobs, bobs...)},
	} {
		b.take()
		wants(t, c.call(as(t, c.who)), c.want)
		if d := cmp.Diff(c.asks, b.take()); d != "" {
			t.Errorf("%s: the questions (-want +got):\n%s", c.name, d)
		}
	}
}

// A policy that drops the context of a question would drop the version that a row must have.
func TestSharedFailsWithoutTheLayersContext(t *testing.T) {
	p := authz.Shared(lookup(func(context.Context, store.Principal, string) (sharing.Access, error) {
		return roleOf(sharing.Editor), nil
	}))
	r := authz.Request{Principal: store.Principal{Owner: bob}, Action: authz.Read, Op: store.OpLoadThread, ThreadID: thr, Owner: ada}
	if d, err := p.Decide(t.Context(), r); d == authz.Allow || err == nil {
		t.Errorf("got %v, %v", d, err)
	}
	w := newWorld(t, policyFunc(func(_ context.Context, r authz.Request) (authz.Decision, error) {
		return p.Decide(t.Context(), r)
	}))
	wants(t, errOf(w.LoadThread(as(t, bob), thr)), store.ErrUnavailable)
}

// salary returns the stack of a second process, and the grants. Its cache has ada's deleted thread, items and attachment, all with
// the word salary. The rows of the base are harmless and granted to bob.
func salary(t *testing.T, guard func(authz.Policy) authz.Policy, beneath ...store.Middleware) (store.Store, *book) {
	t.Helper()
	base, b := memstore.New(), &book{}
	ctx := as(t, ada)
	mw := append([]store.Middleware{
		authz.New(guard(authz.AnyOf(authz.OwnerOnly(), authz.Shared(b))), authz.ShareBelow()), cache.New(),
	}, beneath...)
	second := store.Wrap(base, mw...)
	t.Cleanup(func() { must(t, store.Close(second)) })
	save := func(text string) {
		th := thread("thr_1", ada)
		th.Title = text
		must(t, base.SaveThread(ctx, th))
		must(t, base.AddThreadItem(ctx, "thr_1", message("msg_1", "atc_"+text)))
		a := attachment("atc_1", ada)
		a.ThreadID = "thr_1"
		if text == "salary" {
			a.ThreadID = "" // it is private
		}
		must(t, base.SaveAttachment(ctx, a))
	}
	save("salary")
	for _, read := range reads {
		if text, err := read(ctx, second); err != nil {
			t.Fatal(text, err)
		}
	}
	must(t, base.DeleteThread(ctx, "thr_1"))
	save("harmless")
	_, version := versions(t, base, "thr_1")
	b.set("thr_1", "bob", sharing.Access{Role: sharing.Editor, Direct: sharing.Editor, Version: version})
	return second, b
}

// A base that answers the second read with another row is no way around the policy.
func TestTheSecondReadMustBeOfTheSameRow(t *testing.T) {
	for _, to := range []func(*chat.Thread){
		func(th *chat.Thread) { th.Owner = eve }, func(th *chat.Thread) { th.ID = "thr_2" },
	} {
		b := &book{}
		b.set("thr_1", "bob", sharing.Access{Role: sharing.Viewer, Version: 1})
		base := &turning{to: to}
		s := store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(b))))
		if th, err := s.LoadThread(as(t, bob), "thr_1"); err == nil || th != (chat.Thread{}) || base.loads < 2 {
			t.Errorf("got %v, %v after %d loads", th, err, base.loads)
		}
	}
}

// turning is a base whose thread is another one from the second load on.
type turning struct {
	store.Store
	to    func(*chat.Thread)
	loads int
}

func (b *turning) LoadThread(context.Context, string) (chat.Thread, error) {
	th := thread("thr_1", ada)
	if b.loads++; b.loads > 1 {
		b.to(&th)
	}
	return th, nil
}

// versions returns the thread and its version.
func versions(t *testing.T, s store.Store, threadID string) (chat.Thread, uint64) {
	t.Helper()
	ctx, v := store.WithVersions(t.Context())
	th, err := s.LoadThread(ctx, threadID)
	must(t, err)
	n, _ := v.Of(threadID)
	return th, n
}

// reads are the reads of salary's thread, and what they show.
var reads = map[string]func(context.Context, store.Store) (string, error){
	"LoadThread": func(ctx context.Context, s store.Store) (string, error) {
		th, err := s.LoadThread(ctx, "thr_1")
		return th.Title, err
	},
	"LoadItem": func(ctx context.Context, s store.Store) (string, error) {
		it, err := s.LoadItem(ctx, "thr_1", "msg_1")
		return it.JSON().String(), err
	},
	"LoadThreadItems": func(ctx context.Context, s store.Store) (string, error) {
		page, err := s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 1})
		text := ""
		for _, it := range page.Data {
			text += it.JSON().String()
		}
		return text, err
	},
}

// The owner deletes a thread, makes its id again and grants it. A reader must not see the deleted thread, which another
// process's cache still has.
func TestNoRowOlderThanTheGrant(t *testing.T) {
	silent := layer.Intercept("silent", layer.InterceptorFunc(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		return next(callctx.WithoutVersionRecorder(ctx))
	}))
	for name, beneath := range map[string][]store.Middleware{"with versions": nil, "without versions": {silent}} {
		for guardName, guard := range map[string]func(authz.Policy) authz.Policy{
			"": func(p authz.Policy) authz.Policy { return p }, " in a policy of the user": func(p authz.Policy) authz.Policy { return wrapped{p} },
		} {
			for op, read := range reads {
				for _, listens := range []bool{false, true} {
					t.Run(fmt.Sprint(name, guardName, "/", op, "/listens ", listens), func(t *testing.T) {
						s, _ := salary(t, guard, beneath...)
						ctx, v := as(t, bob), (*store.Versions)(nil)
						if listens {
							ctx, v = store.WithVersions(ctx)
						}
						if text, err := read(as(t, ada), s); err != nil || !strings.Contains(text, "salary") {
							t.Fatalf("the cache does not have the old row: %s, %v", text, err)
						}
						if text, err := read(ctx, s); err != nil || !strings.Contains(text, "harmless") {
							t.Errorf("bob gets %s, %v", text, err)
						}
						if listens && beneath == nil {
							if n, ok := v.Of("thr_1"); !ok || n < 5 {
								t.Errorf("bob hears version %d, %t", n, ok)
							}
						}
					})
				}
			}
		}
	}
}

// What an editor may attach without being asked must not come from an old row either.
func TestNoEmbeddingOlderThanTheGrant(t *testing.T) {
	s, _ := salary(t, func(p authz.Policy) authz.Policy { return p })
	wants(t, s.SaveItem(as(t, bob), "thr_1", message("msg_1", "atc_salary")), store.ErrNotFound)
	must(t, s.SaveItem(as(t, bob), "thr_1", message("msg_1", "atc_harmless")))
}

func TestARowAsNewAsTheGrantIsReadOnce(t *testing.T) {
	b := &book{}
	w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.Shared(b)))
	_, n := versions(t, w.base, thr)
	for _, c := range []struct {
		version uint64
		fresh   bool
	}{{0, false}, {n, false}, {n + 1, true}} {
		b.set(thr, "bob", sharing.Access{Role: sharing.Viewer, Version: c.version})
		w.spy.take()
		must(t, errOf(w.LoadItem(as(t, bob), thr, msg)))
		want := []call{{op: store.OpLoadThread}, {op: store.OpLoadItem}}
		if c.fresh {
			want = append(want, call{op: store.OpLoadItem, fresh: true})
		}
		if got := w.spy.take(); !slices.Equal(got, want) {
			t.Errorf("at version %d for %d: got %v, want %v", n, c.version, got, want)
		}
		ctx, _ := store.WithVersions(as(t, bob))
		must(t, errOf(w.LoadThread(ctx, thr)))
		if got := w.spy.ops(); !c.fresh && len(got) != 1 {
			t.Errorf("LoadThread at version %d for %d: %v", n, c.version, got)
		}
	}
}

// A row that has gone between the two reads is missing.
func TestASharedThreadThatHasGone(t *testing.T) {
	b := &book{}
	w := newWorld(t, authz.AnyOf(authz.OwnerOnly(), authz.Shared(b)))
	b.set(thr, "bob", sharing.Access{Role: sharing.Viewer, Version: 1})
	ctx, heard := store.WithVersions(as(t, bob))
	b.set(thr, "bob", sharing.Access{Role: sharing.Viewer, Version: 100})
	w.spy.once(store.OpLoadThread, func() {
		w.spy.once(store.OpLoadThread, func() { must(t, w.base.DeleteThread(t.Context(), thr)) })
	})
	wants(t, errOf(w.LoadThread(ctx, thr)), store.ErrNotFound)
	if n, ok := heard.Of(thr); ok {
		t.Errorf("bob hears version %d of a missing thread", n)
	}
}

// TestSharedConforms runs the suite with owners, whom Shared must cost no promise.
func TestSharedConforms(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return store.Wrap(memstore.New(), authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(&book{})), authz.ShareBelow()), cache.New())
	}, storetest.WithVersionsRequired())
}

func TestSharedCostsOwnersNoAllocation(t *testing.T) {
	// Made once: making one uses pools, which the race detector empties at random.
	it := message(msg)
	allocations := func(policies ...authz.Policy) []float64 {
		w := newWorld(t, authz.OwnerOnly())
		s := store.Wrap(w.base, authz.New(authz.AnyOf(policies...)))
		ctx, counts := as(t, ada), []float64{}
		for _, f := range []func(){
			func() { _, _ = s.LoadThread(ctx, thr) },
			func() { _, _ = s.LoadItem(ctx, thr, msg) },
			func() { _, _ = s.LoadThreadItems(ctx, thr, store.PageQuery{}) },
			func() { _, _ = s.LoadAttachment(ctx, atc) },
			func() { _ = s.SaveItem(ctx, thr, it) },
		} {
			counts = append(counts, testing.AllocsPerRun(100, f))
		}
		return counts
	}
	without, with := allocations(authz.OwnerOnly()), allocations(authz.OwnerOnly(), authz.Shared(&book{}))
	for i := range without {
		if with[i] > without[i] {
			t.Errorf("call %d: %v allocations, %v without Shared", i, with[i], without[i])
		}
	}
}
