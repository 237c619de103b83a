package cache_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	ada  = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}}
	bob  = store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "bob"}}
)

// probe sits between the cache and the base, and counts the calls that reach the base. If do is set, it makes each call.
type probe struct {
	t             testing.TB
	reads, writes atomic.Int64
	do            atomic.Value // of an InterceptorFunc
}

func (p *probe) set(do layer.InterceptorFunc) { p.do.Store(do) }

func (p *probe) Intercept(ctx context.Context, c layer.Call, next func(context.Context) error) error {
	if c.Op.IsWrite() {
		p.writes.Add(1)
	} else {
		p.reads.Add(1)
	}
	if do, _ := p.do.Load().(layer.InterceptorFunc); do != nil {
		return do(ctx, c, next)
	}
	return next(ctx)
}

// readsOf returns how many reads f costs the base.
func (p *probe) readsOf(f func()) int64 {
	before := p.reads.Load()
	f()
	return p.reads.Load() - before
}

// costs fails unless f costs the base that many reads.
func (p *probe) costs(want int64, f func(), what string, args ...any) {
	p.t.Helper()
	if n := p.readsOf(f); n != want {
		p.t.Errorf("%s: %d base reads, want %d", fmt.Sprintf(what, args...), n, want)
	}
}

// wait makes all calls wait until gate is closed.
func (p *probe) wait(gate <-chan struct{}) {
	p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		<-gate
		return next(ctx)
	})
}

// during makes call, a call of op, and runs f after the base has answered it and before it returns.
func (p *probe) during(op store.Op, call, f func()) {
	answered, gate := make(chan struct{}), make(chan struct{})
	p.set(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		err := next(ctx)
		if c.Op == op {
			p.set(nil)
			close(answered)
			<-gate
		}
		return err
	})
	var wg sync.WaitGroup
	wg.Go(call)
	<-answered
	f()
	close(gate)
	wg.Wait()
}

// open makes a cache over a probed memstore, and returns all three.
func open(t testing.TB, opts ...cache.Option) (store.Store, *probe, store.Store) {
	t.Helper()
	return openOver(t, memstore.New(), opts...)
}

// openOver makes a cache over a probe over base, and returns all three.
func openOver(t testing.TB, base store.Store, opts ...cache.Option) (store.Store, *probe, store.Store) {
	t.Helper()
	p := &probe{t: t}
	s := store.Wrap(base, cache.New(append([]cache.Option{cache.WithQuarantine(time.Minute), quiet}, opts...)...),
		layer.Intercept("probe", p))
	t.Cleanup(func() { must(t, store.Close(s)) })
	return s, p, base
}

var must = testenv.Must

func get[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

func item(t testing.TB, id string, minute int) chat.Item {
	t.Helper()
	return get[chat.Item](t)(chat.NewItem(id, noon.Add(time.Duration(minute)*time.Minute), chat.EndOfTurn{}))
}

func attachment(t testing.TB, id, name string) chat.Attachment {
	t.Helper()
	return get[chat.Attachment](t)(chat.NewAttachment(id, chat.AttachmentBody{Type: "file", Name: name, MIMEType: "text/plain"}))
}

func thread(id, title string, o chat.Owner) chat.Thread {
	return chat.Thread{ID: id, Title: title, CreatedAt: noon, Owner: o}
}

// first and second are thr_1 before and after a write.
var first, second = thread("thr_1", "first", chat.Owner{}), thread("thr_1", "second", chat.Owner{})

// fill makes thread thr_1 with n items msg_0, msg_1, … a minute apart, behind the cache.
func fill(t testing.TB, base store.Store, n int) {
	t.Helper()
	must(t, base.SaveThread(t.Context(), first))
	for i := range n {
		must(t, base.AddThreadItem(t.Context(), "thr_1", item(t, fmt.Sprintf("msg_%d", i), i)))
	}
}

// load loads thr_1.
func load(ctx context.Context, t testing.TB, s store.Store) chat.Thread {
	t.Helper()
	return get[chat.Thread](t)(s.LoadThread(ctx, "thr_1"))
}

// answers fails unless s returns thr_1 with that title.
func answers(t testing.TB, s store.Store, title, when string) {
	t.Helper()
	if th := load(t.Context(), t, s); th.Title != title {
		t.Errorf("%s: got title %q, want %q", when, th.Title, title)
	}
}

// page loads items of thr_1.
func page(ctx context.Context, t testing.TB, s store.Store, q store.PageQuery) store.Page[chat.Item] {
	t.Helper()
	return get[store.Page[chat.Item]](t)(s.LoadThreadItems(ctx, "thr_1", q))
}

func ids(p store.Page[chat.Item]) string {
	var out []string
	for _, it := range p.Data {
		out = append(out, strings.TrimPrefix(it.ID, "msg_"))
	}
	return strings.Join(out, " ")
}

func newest(n int) store.PageQuery { return store.PageQuery{Limit: n} }
func oldest(n int) store.PageQuery { return store.PageQuery{Limit: n, Order: store.OldestFirst} }

// warm reads the thread and the items that a turn reads.
func warm(t testing.TB, s store.Store) {
	t.Helper()
	load(t.Context(), t, s)
	page(t.Context(), t, s, newest(20))
}

// turn makes the calls of a ChatKit server's turn on thr_1. It is the n-th turn.
func turn(t testing.TB, s store.Store, n int) {
	t.Helper()
	ctx := t.Context()
	user, answer := item(t, fmt.Sprintf("msg_user%d", n), 1000+2*n), item(t, fmt.Sprintf("msg_answer%d", n), 1001+2*n)
	thread := load(ctx, t, s)
	must(t, s.AddThreadItem(ctx, "thr_1", user))
	if p := page(ctx, t, s, newest(20)); p.Data[0].ID != user.ID {
		t.Fatalf("the newest item is %s, want the added one, %s", p.Data[0].ID, user.ID)
	}
	page(ctx, t, s, newest(2))
	must(t, s.AddThreadItem(ctx, "thr_1", answer))
	thread.Title = fmt.Sprintf("turn %d", n)
	must(t, s.SaveThread(ctx, thread))
	if got := load(ctx, t, s); !got.Equal(thread) {
		t.Fatalf("got %v, want the saved thread, %v", got, thread)
	}
	if p := page(ctx, t, s, newest(1)); p.Data[0].ID != answer.ID {
		t.Fatalf("the newest item is %s, want the added one, %s", p.Data[0].ID, answer.ID)
	}
}

// unversioned is a memstore that reports no versions.
func unversioned() store.Store { return spy.Unversioned(memstore.New()) }

func TestAWarmChatTurnCostsTheBaseNoRead(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 100)
	warm(t, s)
	p.costs(0, func() {
		for n := range 200 {
			turn(t, s, n)
		}
	}, "200 turns on a warm thread")
}

// If the base reports no versions and other writers are possible, the state before a write is unknown, and a patch would be a guess.
func TestWithoutVersionsAWriteDropsInsteadOfGuessing(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  []cache.Option
		reads bool
	}{
		{"other writers are possible", nil, true},
		{"sole writer", []cache.Option{cache.WithSoleWriter()}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p, base := openOver(t, unversioned(), c.opts...)
			fill(t, base, 30)
			warm(t, s)
			n := p.readsOf(func() { turn(t, s, 0) })
			if (n > 0) != c.reads {
				t.Errorf("a turn cost %d base reads, want some: %t", n, c.reads)
			}
		})
	}
}

// Another process writes to the base. The cache's next write learns from the version that the entry is outdated.
func TestAWriteThatMeetsAnotherVersionDropsTheEntry(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 10)
	warm(t, s)
	must(t, base.AddThreadItem(t.Context(), "thr_1", item(t, "msg_foreign", 500)))
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_own", 501)))
	p.costs(1, func() {
		if got := ids(page(t.Context(), t, s, newest(3))); got != "own foreign 9" {
			t.Errorf("got %q, want own foreign 9", got)
		}
	}, "a page after the write")
}

func TestOneWindowServesTheReadsOfATurn(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 100)
	ctx := t.Context()
	p.costs(1, func() { page(ctx, t, s, newest(20)) }, "the first read")
	for _, c := range []struct {
		q    store.PageQuery
		want string
		more bool
	}{
		{newest(6), "99 98 97 96 95 94", true},
		{newest(2), "99 98", true},
		{newest(1), "99", true},
		{store.PageQuery{Limit: 2, After: "msg_90"}, "89 88", true},
		{store.PageQuery{Limit: 2, After: "msg_97", Order: store.OldestFirst}, "98 99", false},
	} {
		var p1 store.Page[chat.Item]
		p.costs(0, func() { p1 = page(ctx, t, s, c.q) }, "%+v", c.q)
		want := page(ctx, t, base, c.q)
		if ids(p1) != c.want || p1.HasMore != c.more || p1.After != want.After || p1.HasMore != want.HasMore {
			t.Errorf("%+v: got %q %v %q, the base answers %q %v %q", c.q, ids(p1), p1.HasMore, p1.After, ids(want), want.HasMore, want.After)
		}
	}
	p.costs(0, func() { get[chat.Item](t)(s.LoadItem(ctx, "thr_1", "msg_95")) }, "an item of the window")
	p.costs(1, func() {
		for range 3 {
			get[chat.Item](t)(s.LoadItem(ctx, "thr_1", "msg_3"))
		}
	}, "an item beyond the window, loaded three times")
}

func TestAWholeThreadServesOldestFirst(t *testing.T) {
	for _, first := range []store.PageQuery{newest(20), oldest(20)} {
		t.Run(first.Order.String(), func(t *testing.T) {
			s, p, base := open(t)
			fill(t, base, 30)
			page(t.Context(), t, s, first)
			p.costs(0, func() {
				if got := ids(page(t.Context(), t, s, oldest(3))); got != "0 1 2" {
					t.Errorf("got %q, want 0 1 2", got)
				}
			}, "the oldest three")
		})
	}
}

func TestWhatComesOutDoesNotAliasTheCache(t *testing.T) {
	s, _, base := open(t)
	fill(t, base, 5)
	for range 2 { // a miss, then a hit
		for _, q := range []store.PageQuery{newest(3), oldest(3), newest(100)} {
			clear(page(t.Context(), t, s, q).Data)
		}
	}
	if got := ids(page(t.Context(), t, s, newest(5))); got != "4 3 2 1 0" {
		t.Errorf("got %q: a caller has cleared the cache's slice", got)
	}
}

func TestCallersThatShareALoadDoNotShareASlice(t *testing.T) {
	for _, limit := range []int{3, 5} { // some of the items, and all
		synctest.Test(t, func(t *testing.T) {
			s, p, base := open(t)
			fill(t, base, 5)
			gate := make(chan struct{})
			p.wait(gate)
			var pages [2]store.Page[chat.Item]
			var wg sync.WaitGroup
			for i := range pages {
				wg.Go(func() { pages[i], _ = s.LoadThreadItems(t.Context(), "thr_1", newest(limit)) })
			}
			synctest.Wait()
			close(gate)
			wg.Wait()
			clear(pages[0].Data)
			if pages[1].Data[0].ID != "msg_4" || p.reads.Load() != 1 {
				t.Errorf("limit %d: two callers share a slice, or they do not share a load (%d loads)", limit, p.reads.Load())
			}
		})
	}
}

func TestAnAnswerThatContradictsTheQuestionIsNotCached(t *testing.T) {
	base := memstore.New()
	fill(t, base, 3)
	must(t, base.SaveThread(t.Context(), thread("thr_2", "", chat.Owner{})))
	must(t, base.AddThreadItem(t.Context(), "thr_2", item(t, "msg_0", 1)))
	for _, id := range []string{"atc_1", "atc_2"} {
		must(t, base.SaveAttachment(t.Context(), attachment(t, id, "notes")))
	}
	c := &confused{Store: base}
	s := store.Wrap(c, cache.New())
	defer store.Close(s)
	ctx := t.Context()
	s.LoadThread(ctx, "thr_1")
	s.LoadThreadItems(ctx, "thr_1", newest(3))
	s.LoadItem(ctx, "thr_1", "msg_0")
	s.LoadAttachment(ctx, "atc_1")
	c.honest = true
	if it := get[chat.Item](t)(s.LoadItem(ctx, "thr_1", "msg_0")); it.ThreadID != "thr_1" {
		t.Errorf("the cache stored an item of %s", it.ThreadID)
	}
	if a := get[chat.Attachment](t)(s.LoadAttachment(ctx, "atc_1")); a.ID != "atc_1" {
		t.Errorf("the cache stored attachment %s as atc_1", a.ID)
	}
	if th := load(ctx, t, s); th.ID != "thr_1" {
		t.Errorf("the cache stored thread %s as thr_1", th.ID)
	}
	if p := page(ctx, t, s, newest(3)); ids(p) != "2 1 0" {
		t.Errorf("the cache stored another thread's items: %q", ids(p))
	}
}

// confused answers every read with rows of thr_2 and atc_2, until honest is set.
type confused struct {
	store.Store
	honest bool
}

func (c *confused) pick(id, other string) string {
	if c.honest {
		return id
	}
	return other
}

func (c *confused) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return c.Store.LoadThread(ctx, c.pick(id, "thr_2"))
}

func (c *confused) LoadThreadItems(ctx context.Context, id string, q store.PageQuery) (store.Page[chat.Item], error) {
	return c.Store.LoadThreadItems(ctx, c.pick(id, "thr_2"), q)
}

func (c *confused) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	return c.Store.LoadAttachment(ctx, c.pick(id, "atc_2"))
}

func (c *confused) LoadItem(ctx context.Context, id, itemID string) (chat.Item, error) {
	return c.Store.LoadItem(ctx, c.pick(id, "thr_2"), itemID)
}

func TestPrincipalsAreKeptApartUnlessTold(t *testing.T) {
	s, p, base := open(t)
	must(t, base.SaveThread(t.Context(), thread("thr_1", "", ada.Owner)))
	as := func(p store.Principal) context.Context { return store.WithPrincipal(t.Context(), p) }
	admin := ada
	admin.Roles = []string{"admin"}
	for _, who := range []store.Principal{ada, bob, admin} {
		p.costs(1, func() { load(as(who), t, s) }, "a thread that another principal has loaded, for %v", who)
		p.costs(0, func() { load(as(who), t, s) }, "a thread that the same principal has loaded, for %v", who)
	}
	p.costs(1, func() { load(t.Context(), t, s) }, "a thread that principals have loaded, without a principal")
	layer.Share(s)
	p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if who, ok := store.PrincipalFrom(ctx); ok {
			t.Errorf("a shared load has principal %v, want none: a base that depends on it must fail closed", who)
		}
		return next(ctx)
	})
	must(t, s.DeleteThread(t.Context(), "thr_other"))
	must(t, base.SaveThread(t.Context(), thread("thr_2", "", ada.Owner)))
	p.costs(1, func() {
		s.LoadThread(as(ada), "thr_2")
		s.LoadThread(as(bob), "thr_2")
	}, "a thread for two principals that share")
}

// A fresh read fills the shared entry too, so it must have no principal.
func TestAFreshReadOfASharedCacheIsMadeByNobody(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 1)
	layer.Share(s)
	p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		if _, ok := store.PrincipalFrom(ctx); ok {
			return next(ctx) // the base answers only principals
		}
		return store.ErrDenied
	})
	for _, who := range []context.Context{
		store.WithFresh(store.WithPrincipal(t.Context(), ada)), store.WithPrincipal(t.Context(), bob),
	} {
		if th, err := s.LoadThread(who, "thr_1"); !errors.Is(err, store.ErrDenied) {
			t.Errorf("got %v, error %v, want ErrDenied: a base that depends on a principal must fail closed", th, err)
		}
	}
}

// A write by one principal invalidates the entries of all principals: they share the generation counters.
func TestAWriteIsSeenByEveryPartition(t *testing.T) {
	s, _, base := open(t)
	fill(t, base, 3)
	a, b := store.WithPrincipal(t.Context(), ada), store.WithPrincipal(t.Context(), bob)
	load(a, t, s)
	load(b, t, s)
	must(t, s.SaveThread(a, second))
	for _, ctx := range []context.Context{a, b} {
		if got := load(ctx, t, s); got.Title != "second" {
			t.Errorf("got title %q after the save, want second", got.Title)
		}
	}
}

func TestHints(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 3)
	noStore := store.WithNoStore(t.Context())
	p.costs(5, func() {
		load(noStore, t, s)
		page(noStore, t, s, newest(1))
		s.LoadItem(noStore, "thr_1", "msg_0")
		warm(t, s)
	}, "no-store reads, which store nothing, and then others")
	p.costs(0, func() { load(noStore, t, s) }, "a no-store read of a cached thread")
	must(t, base.SaveThread(t.Context(), second))
	answers(t, s, "first", "after a write that the cache cannot know of")
	if th := load(store.WithFresh(t.Context()), t, s); th.Title != "second" {
		t.Errorf("a fresh read got title %q, want second", th.Title)
	}
	answers(t, s, "second", "after a fresh read")
}

func TestACancelledContextFailsOnAHitToo(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 3)
	warm(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.costs(0, func() {
		_, err1 := s.LoadThread(ctx, "thr_1")
		_, err2 := s.LoadThreadItems(ctx, "thr_1", newest(1))
		_, err3 := s.LoadItem(ctx, "thr_1", "msg_2")
		for _, err := range []error{err1, err2, err3} {
			if !errors.Is(err, context.Canceled) || store.CodeOf(err) != store.CodeCanceled {
				t.Errorf("got error %v, want context.Canceled with CodeCanceled", err)
			}
		}
	}, "cancelled reads")
}

func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t, cache.WithTTL(time.Minute), cache.NoJitter())
		fill(t, base, 3)
		p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			time.Sleep(10 * time.Second) // on the bubble's clock
			return next(ctx)
		})
		warm(t, s) // the thread's load begins at 0 s, the items' load at 10 s
		p.set(nil)
		at := func(d time.Duration, want int64) {
			t.Helper()
			time.Sleep(d)
			p.costs(want, func() { load(t.Context(), t, s) }, "the thread")
		}
		at(39*time.Second, 0)
		at(time.Second, 1) // a minute after the start of the load, not after its end
		warm(t, s)
		time.Sleep(50 * time.Second)
		must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_x", 9))) // the version confirms the entry, as a load would
		at(59*time.Second, 0)
		at(time.Second, 1)
	})
}

// Without a version, a patch does not confirm the rest of the entry, which keeps its age.
func TestAPatchWithoutAVersionDoesNotRenewTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := openOver(t, unversioned(), cache.WithSoleWriter(), cache.WithTTL(time.Minute), cache.NoJitter())
		fill(t, base, 3)
		warm(t, s)
		time.Sleep(50 * time.Second)
		must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_x", 9)))
		p.costs(0, func() { warm(t, s) }, "the patched entry")
		time.Sleep(10 * time.Second)
		p.costs(2, func() { warm(t, s) }, "the entry, a minute after its load")
	})
}

// The version confirms the entry as of the write's start, so the renewed TTL includes the duration of the write.
func TestAPatchRenewsTheTTLFromTheBeginOfItsWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t, cache.WithTTL(time.Minute), cache.NoJitter())
		fill(t, base, 3)
		warm(t, s)
		p.during(store.OpAddThreadItem, func() { must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_x", 9))) },
			func() { time.Sleep(20 * time.Second) })
		time.Sleep(39 * time.Second)
		p.costs(0, func() { warm(t, s) }, "the patched entry, 59 s after the write's start")
		time.Sleep(time.Second)
		p.costs(2, func() { warm(t, s) }, "the patched entry, a minute after the write's start")
	})
}

// stat returns the sum of the statistics of s with that name. If label is not empty, it adds only those with label as the
// value of their second label.
func stat(s store.Store, name, label string) (n float64) {
	r, _ := store.As[layer.StatsReporter](s)
	for _, st := range r.AppendStats(nil) {
		if st.Name == name && (label == "" || st.Labels[1].Value == label) {
			n += st.Value
		}
	}
	return n
}

func TestCloseEndsQuarantines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t)
		fill(t, base, 3)
		p.set(faulty.Fail(nil))
		_ = s.DeleteThread(t.Context(), "thr_1")
		before := stat(s, "chatstore_cache_quarantined", "")
		must(t, store.Close(s))
		if after := stat(s, "chatstore_cache_quarantined", ""); before != 1 || after != 0 {
			t.Errorf("%v counters in quarantine before Close, %v after, want 1 and 0", before, after)
		}
	})
}

func TestJitterOnlyShortens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t, cache.WithTTL(100*time.Second))
		const n = 50
		for i := range n {
			must(t, base.SaveThread(t.Context(), thread(fmt.Sprint("thr_", i), "", chat.Owner{})))
		}
		all := func() {
			for i := range n {
				s.LoadThread(t.Context(), fmt.Sprint("thr_", i))
			}
		}
		all()
		time.Sleep(90*time.Second - 1)
		p.costs(0, all, "before nine tenths of the TTL")
		time.Sleep(5 * time.Second)
		if got := p.readsOf(all); got == 0 || got == n {
			t.Errorf("%d of %d entries have expired at 95 %% of the TTL, want some", got, n)
		}
		time.Sleep(100 * time.Second)
		p.costs(n, all, "after the TTL")
	})
}

func TestAColdStampedeIsOneBaseRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t)
		fill(t, base, 30)
		gate := make(chan struct{})
		p.wait(gate)
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				page, err := s.LoadThreadItems(t.Context(), "thr_1", newest(1+i%20))
				if err != nil || len(page.Data) != 1+i%20 {
					t.Errorf("got %d items, error %v, want %d", len(page.Data), err, 1+i%20)
				}
			})
		}
		synctest.Wait()
		close(gate)
		wg.Wait()
		if n := p.reads.Load(); n != 1 {
			t.Errorf("1000 readers cost %d base reads, want 1", n)
		}
	})
}

func TestAStampedeDuringASlowWriteIsAFewBaseReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t)
		fill(t, base, 30)
		write, read := make(chan struct{}), make(chan struct{})
		p.set(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op.IsWrite() {
				<-write
			} else {
				<-read
			}
			return next(ctx)
		})
		var wg sync.WaitGroup
		wg.Go(func() { must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_new", 99))) })
		synctest.Wait()
		for range 1000 {
			wg.Go(func() { load(t.Context(), t, s) })
		}
		synctest.Wait()
		close(read)
		synctest.Wait()
		if n := p.reads.Load(); n > 3 {
			t.Errorf("1000 readers during a write cost %d base reads, want at most 3", n)
		}
		close(write)
		wg.Wait()
	})
}

func TestALoadThatRacedWithAWriteIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t)
		fill(t, base, 3)
		p.during(store.OpLoadThread, func() { s.LoadThread(t.Context(), "thr_1") }, func() {
			must(t, s.SaveThread(t.Context(), second))
			answers(t, s, "second", "a read after the write, which must not join the earlier load")
		})
		answers(t, s, "second", "after the end of the earlier load, which must not be stored")
	})
}

func TestNoHitAndNoFillWhileAWriteIsInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t)
		fill(t, base, 3)
		warm(t, s)
		p.during(store.OpSaveThread, func() { must(t, s.SaveThread(t.Context(), second)) }, func() {
			for range 2 { // other processes may have seen the write in the base already
				answers(t, s, "second", "during a write")
			}
		})
		answers(t, s, "second", "after the write")
	})
}

// Two writes overlap. Neither knows what the other did, so neither's patch may be used. The second write may be another
// principal's, who has another entry.
func TestWritesThatMeetDoNotPatch(t *testing.T) {
	for _, base := range []func() store.Store{func() store.Store { return memstore.New() }, unversioned} {
		for _, other := range []store.Principal{ada, bob} {
			synctest.Test(t, func(t *testing.T) {
				s, p, base := openOver(t, base(), cache.WithSoleWriter())
				fill(t, base, 3)
				ctx := store.WithPrincipal(t.Context(), ada)
				page(ctx, t, s, newest(20))
				p.during(store.OpAddThreadItem, func() { must(t, s.AddThreadItem(ctx, "thr_1", item(t, "msg_first", 50))) }, func() {
					must(t, s.AddThreadItem(store.WithPrincipal(t.Context(), other), "thr_1", item(t, "msg_second", 51)))
				})
				if got := ids(page(ctx, t, s, newest(2))); got != "second first" {
					t.Errorf("over %v, second writer %v: got %q, want second first", store.Layers(base), other.Owner.Subject, got)
				}
			})
		}
	}
}

// A write must not patch an entry that another write has invalidated before.
func TestOnlyAnEntryThatIsTrueIsPatched(t *testing.T) {
	s, _, base := openOver(t, unversioned(), cache.WithSoleWriter())
	fill(t, base, 3)
	a, b := store.WithPrincipal(t.Context(), ada), store.WithPrincipal(t.Context(), bob)
	page(a, t, s, newest(20))
	must(t, s.AddThreadItem(b, "thr_1", item(t, "msg_b", 50)))
	must(t, s.AddThreadItem(a, "thr_1", item(t, "msg_a", 51)))
	if got := ids(page(a, t, s, newest(2))); got != "a b" {
		t.Errorf("got %q, want a b", got)
	}
}

func TestAbsentRowsAreNotCached(t *testing.T) {
	s, p, _ := open(t)
	ctx := t.Context()
	p.costs(8, func() {
		for range 2 {
			s.LoadThread(ctx, "thr_none")
			s.LoadThreadItems(ctx, "thr_none", newest(5))
			s.LoadItem(ctx, "thr_none", "msg_none")
			s.LoadAttachment(ctx, "atc_none")
		}
	}, "reads of missing rows, twice")
	if _, _, entries := cache.Audit(s); entries != 0 {
		t.Errorf("%d entries for missing rows, want none", entries)
	}
}

// The base decides the stored Owner. The Owner of a save, which may be zero, does not change the entry's.
func TestAPatchKeepsTheStoredOwner(t *testing.T) {
	s, p, base := open(t, cache.WithSoleWriter())
	ctx := t.Context()
	a := attachment(t, "atc_1", "first")
	a.Owner = ada.Owner
	must(t, base.SaveAttachment(ctx, a))
	must(t, base.SaveThread(ctx, thread("thr_1", "", ada.Owner)))
	s.LoadThread(ctx, "thr_1")
	s.LoadAttachment(ctx, "atc_1")
	must(t, s.SaveThread(ctx, second))
	must(t, s.SaveAttachment(ctx, attachment(t, "atc_1", "second")))
	p.costs(0, func() {
		th, a := load(ctx, t, s), get[chat.Attachment](t)(s.LoadAttachment(ctx, "atc_1"))
		if th.Owner != ada.Owner || th.Title != "second" || a.Owner != ada.Owner {
			t.Errorf("got title %q and owners %+v and %+v, want second and %+v", th.Title, th.Owner, a.Owner, ada.Owner)
		}
	}, "the patched entries")
}

func TestALooseItemFollowsItsWrites(t *testing.T) {
	s, p, base := open(t, cache.WithWindow(2))
	fill(t, base, 10)
	ctx := t.Context()
	s.LoadThreadItems(ctx, "thr_1", newest(2))
	s.LoadItem(ctx, "thr_1", "msg_3")
	moved := item(t, "msg_3", -7)
	must(t, s.SaveItem(ctx, "thr_1", moved))
	if it := get[chat.Item](t)(s.LoadItem(ctx, "thr_1", "msg_3")); !it.CreatedAt.Equal(moved.CreatedAt) {
		t.Errorf("got %v with time %v after a save, want %v", it, it.CreatedAt, moved.CreatedAt)
	}
	must(t, s.DeleteThreadItem(ctx, "thr_1", "msg_3"))
	if _, err := s.LoadItem(ctx, "thr_1", "msg_3"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got error %v after a delete, want ErrNotFound", err)
	}
	p.costs(0, func() { page(ctx, t, s, newest(1)) }, "the window, after writes beyond it")
}

func TestAnUnknownOutcomeIsQuarantined(t *testing.T) {
	late := errors.New("connection lost")
	for _, how := range []string{"error", "panic", "goexit"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p, base := open(t)
				fill(t, base, 3)
				warm(t, s)
				p.set(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
					if !c.Op.IsWrite() {
						return next(ctx)
					}
					time.AfterFunc(30*time.Second, func() { _ = base.SaveThread(context.Background(), second) })
					switch how {
					case "panic":
						panic(late)
					case "goexit":
						runtime.Goexit()
					}
					return late
				})
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					if err := s.SaveThread(t.Context(), second); !errors.Is(err, late) {
						t.Errorf("got error %v, want %v", err, late)
					}
				}()
				<-done
				p.costs(4, func() { warm(t, s); warm(t, s) }, "two rounds of reads while the write may still take effect")
				time.Sleep(31 * time.Second) // on the bubble's clock
				answers(t, s, "second", "when the write has taken effect")
				time.Sleep(30 * time.Second) // the quarantine is over
				synctest.Wait()
				warm(t, s)
				p.costs(0, func() { warm(t, s) }, "reads of a warm thread after the quarantine")
			})
		})
	}
}

func TestADefiniteErrorIsNotQuarantined(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 3)
	warm(t, s)
	if err := s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_0", 5)); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("got error %v, want ErrConflict", err)
	}
	warm(t, s)
	p.costs(0, func() { warm(t, s) }, "reads of a warm thread after a conflict")
}

// Every write increments the counter, a failed one too. So the old entry can never answer again, and would only take up room.
func TestAWriteThatFailedLeavesNoDeadEntry(t *testing.T) {
	for name, end := range map[string]func() error{
		"definite": func() error { return store.ErrConflict },
		"unknown":  func() error { return store.ErrUnavailable },
		"panic":    func() error { panic("boom") },
	} {
		for what, write := range map[string]func(context.Context, store.Store) error{
			"an attachment": func(ctx context.Context, s store.Store) error { return s.DeleteAttachment(ctx, "atc_1") },
			"a thread": func(ctx context.Context, s store.Store) error {
				return s.AddThreadItem(ctx, "thr_1", item(t, "msg_9", 9))
			},
		} {
			s, p, base := open(t)
			fill(t, base, 3)
			must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "a")))
			warm(t, s)
			get[chat.Attachment](t)(s.LoadAttachment(t.Context(), "atc_1"))
			p.set(func(context.Context, layer.Call, func(context.Context) error) error { return end() })
			func() {
				defer func() { _ = recover() }()
				_ = write(t.Context(), s)
			}()
			if _, _, entries := cache.Audit(s); entries != 1 {
				t.Errorf("%s, of %s: %d entries of 2 are left, want 1", name, what, entries)
			}
		}
	}
}

func TestAPanicReachesEveryWaiterAndGoexitFailsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t)
		fill(t, base, 3)
		boom := errors.New("boom")
		for _, how := range []string{"panic", "goexit"} {
			gate := make(chan struct{})
			p.set(func(context.Context, layer.Call, func(context.Context) error) error {
				<-gate
				if how == "panic" {
					panic(boom)
				}
				runtime.Goexit()
				return nil
			})
			var panics, fails atomic.Int32
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					recovered, err := spy.Try(t.Context(), s, store.OpLoadThread)
					if err, ok := recovered.(error); ok && errors.Is(err, boom) {
						panics.Add(1)
					}
					if store.CodeOf(err) == store.CodeInternal {
						fails.Add(1)
					}
				})
			}
			synctest.Wait()
			close(gate)
			wg.Wait()
			if how == "panic" && panics.Load() != 10 || how == "goexit" && fails.Load() != 10 {
				t.Errorf("%s: 10 callers, %d panics, %d failures", how, panics.Load(), fails.Load())
			}
		}
		p.set(nil)
		load(t.Context(), t, s)
	})
}

func TestAClosedCacheLetsCallsPass(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 3)
	warm(t, s)
	must(t, store.Close(s))
	must(t, store.Close(s))
	p.costs(4, func() { warm(t, s); warm(t, s) }, "two rounds of reads")
	must(t, s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_new", 9)))
	if account, counted, entries := cache.Audit(s); account != 0 || counted != 0 || entries != 0 {
		t.Errorf("the closed cache has %d entries, %d bytes accounted, %d counted; want none", entries, account, counted)
	}
}

// guard stands for an authz layer.
type guard struct {
	store.Store
	store.Barrier
}

func TestAroundAuthzItPanics(t *testing.T) {
	aLayer := layer.Admit("all", func(context.Context, layer.Call) error { return nil })
	base := memstore.New()
	g := guard{base, store.NewBarrier(base)}
	for name, next := range map[string]store.Store{"the guard": g, "a layer around the guard": store.Wrap(g, aLayer)} {
		t.Run(name, func(t *testing.T) {
			testenv.Panics(t, "cache.New: around a guard, such as authz, the cache would answer without asking it: put the guard before the cache",
				func() { store.Wrap(next, cache.New()) })
		})
	}
}

func TestMisuseIsRefusedAtConstruction(t *testing.T) {
	for _, c := range []struct {
		want string
		f    func()
	}{
		{"cache.WithMaxBytes: the bound must be positive", func() { cache.WithMaxBytes(0) }},
		{"cache.WithMaxEntries: the bound must be 1 to 16777216", func() { cache.WithMaxEntries(-1) }},
		{"cache.WithMaxEntries: the bound must be 1 to 16777216", func() { cache.WithMaxEntries(math.MaxInt) }},
		{"cache.WithTTL: the time is negative", func() { cache.WithTTL(-1) }},
		{"cache.WithWindow: the number of items must be 1 to 1000", func() { cache.WithWindow(0) }},
		{"cache.WithWindow: the number of items must be 1 to 1000", func() { cache.WithWindow(store.MaxLimit + 1) }},
		{"cache.WithLoadTimeout: the time is negative", func() { cache.WithLoadTimeout(-1) }},
		{"cache.WithQuarantine: the time is negative", func() { cache.WithQuarantine(-1) }},
		{"cache.WithBus: the bus is nil", func() { cache.WithBus(nil) }},
		{"cache.WithLogger: the logger is nil", func() { cache.WithLogger(nil) }},
		{"cache.New: WithSoleWriter and WithBus contradict each other", func() {
			cache.New(cache.WithSoleWriter(), cache.WithBus(bus.Local()))
		}},
	} {
		t.Run(c.want, func(t *testing.T) { testenv.Panics(t, c.want, c.f) })
	}
}

func TestBoundsHoldAndAccountsBalanceUnderLoad(t *testing.T) {
	const maxBytes, maxEntries = 1 << 20, 200
	s, _, _ := open(t, cache.WithMaxBytes(maxBytes), cache.WithMaxEntries(maxEntries))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 500 {
				ctx := t.Context()
				id := fmt.Sprint("thr_", (n*7+g*13)%400)
				must(t, s.SaveThread(ctx, thread(id, strings.Repeat("t", n*11%9000), chat.Owner{})))
				s.LoadThread(ctx, id)
				s.SaveItem(ctx, id, item(t, fmt.Sprint("msg_", n%5), n))
				s.LoadThreadItems(ctx, id, newest(3))
			}
		})
	}
	wg.Wait()
	account, counted, entries := cache.Audit(s)
	if account != counted || account > maxBytes || entries > maxEntries || entries == 0 {
		t.Errorf("%d bytes accounted, %d counted, at most %d; %d entries, at most %d", account, counted, maxBytes, entries, maxEntries)
	}
}

func TestConcurrentReadersAndWritersNeverSeeThePast(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []cache.Option
	}{
		{"", nil},
		{"one counter for all", []cache.Option{cache.OneCounter()}},
		{"tiny", []cache.Option{cache.WithMaxEntries(1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, base := open(t, c.opts...)
			fill(t, base, 3)
			var floor atomic.Int64 // the last title whose save has returned
			var wg sync.WaitGroup
			wg.Go(func() {
				for n := range int64(2000) {
					must(t, s.SaveThread(t.Context(), thread("thr_1", fmt.Sprint(n), chat.Owner{})))
					floor.Store(n)
				}
			})
			for range 4 {
				wg.Go(func() {
					for range 2000 {
						least := floor.Load()
						th := load(t.Context(), t, s)
						var n int64
						if _, err := fmt.Sscan(th.Title, &n); err == nil && n < least {
							t.Errorf("read title %d after the save of %d had returned", n, least)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { s, _, _ := open(t); return s })
}

func TestConformanceWithTinyBounds(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _, _ := open(t, cache.WithMaxEntries(2), cache.WithWindow(3), cache.OneCounter())
		return s
	})
}

func TestConformanceWithPolls(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _, _ := open(t, cache.WithWindow(3), cache.WithRevalidation(time.Millisecond))
		return s
	})
}

// A layer beneath the cache retries a write. The cache must remember that the first attempt may still take effect.
func TestARetryBeneathDoesNotHideAnUnknownAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := memstore.New()
		f := faulty.New(base, faulty.WithLongestWrite(time.Minute))
		retry := layer.Intercept("retry", layer.InterceptorFunc(
			func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
				if err := next(ctx); store.CodeOf(err) != store.CodeUnavailable {
					return err
				}
				return next(ctx)
			}))
		s := store.Wrap(f, cache.New(), retry)
		defer store.Close(s)
		fill(t, base, 3)
		var late faulty.Late
		f.Inject(faulty.Fault{Op: store.OpSaveThread, Times: 1, Do: late.Hold(nil)})
		must(t, s.SaveThread(t.Context(), thread("thr_1", "one", chat.Owner{})))
		must(t, s.SaveThread(t.Context(), thread("thr_1", "two", chat.Owner{})))
		warm(t, s)
		must(t, late.Apply())
		answers(t, s, load(t.Context(), t, base).Title, "when the first attempt has taken effect")
		f.Inject(faulty.Fault{Op: store.OpAddThreadItem, Times: 1, Do: faulty.FailAfter(nil)})
		if err := s.AddThreadItem(t.Context(), "thr_1", item(t, "msg_new", 50)); err == nil || store.IsDefinite(err) {
			t.Errorf("an add whose first attempt was applied: got error %v, want an unknown outcome", err)
		}
	})
}

// renaming is a layer that rewrites saved threads, and declares it.
type renaming struct{ store.Store }

func (r renaming) RewritesValues()     {}
func (r renaming) Unwrap() store.Store { return r.Store }
func (r renaming) SaveThread(ctx context.Context, th chat.Thread) error {
	th.Title = strings.ToUpper(th.Title)
	return r.Store.SaveThread(ctx, th)
}

func TestOverALayerThatRewritesNothingIsPatched(t *testing.T) {
	s := store.Wrap(memstore.New(), cache.New(), unlooked, func(next store.Store) store.Store { return renaming{next} })
	defer store.Close(s)
	must(t, s.SaveThread(t.Context(), first))
	s.LoadThread(t.Context(), "thr_1")
	must(t, s.SaveThread(t.Context(), second))
	answers(t, s, "SECOND", "after a write that a layer has rewritten")
}

// unlooked is a layer between the cache and renaming. store.As looks through it.
func unlooked(next store.Store) store.Store {
	return layer.Intercept("through", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error { return next(ctx) }))(next)
}

// When an answer of the base shows that an entry is outdated, the entry must not answer again.
func TestAnAnswerThatShowsAnEntryToBeOverDropsIt(t *testing.T) {
	ctx, fresh := t.Context(), store.WithFresh(t.Context())
	for _, c := range []struct {
		name   string
		change func(base store.Store) // by another process
		learn  func(s store.Store)
		keeps  bool // without versions the answer shows nothing
	}{
		{"a fresh load finds no thread", func(b store.Store) { must(t, b.DeleteThread(ctx, "thr_1")) },
			func(s store.Store) { s.LoadThread(fresh, "thr_1") }, false},
		{"a fresh page is empty", func(b store.Store) { must(t, b.DeleteThread(ctx, "thr_1")) },
			func(s store.Store) { s.LoadThreadItems(fresh, "thr_1", newest(20)) }, false},
		{"a fresh load finds no item", func(b store.Store) { must(t, b.DeleteThread(ctx, "thr_1")) },
			func(s store.Store) { s.LoadItem(fresh, "thr_1", "msg_99") }, false},
		{"a page beyond the window is of a newer version", func(b store.Store) { must(t, b.DeleteThreadItem(ctx, "thr_1", "msg_99")) },
			func(s store.Store) { s.LoadThreadItems(ctx, "thr_1", store.PageQuery{Limit: 5, After: "msg_10"}) }, true},
		{"an item is missing at a newer version", func(b store.Store) { must(t, b.DeleteThreadItem(ctx, "thr_1", "msg_99")) },
			func(s store.Store) { s.LoadItem(ctx, "thr_1", "msg_none") }, true},
	} {
		for name, base := range map[string]store.Store{"": memstore.New(), ", without versions": unversioned()} {
			t.Run(c.name+name, func(t *testing.T) {
				s, _, base := openOver(t, base)
				fill(t, base, 100)
				warm(t, s)
				c.change(base)
				c.learn(s)
				p := page(ctx, t, s, newest(1))
				if stale := len(p.Data) == 1 && p.Data[0].ID == "msg_99"; stale != (c.keeps && name != "") {
					t.Errorf("the newest item is %v, stale %t", p.Data, stale)
				}
			})
		}
	}
}

func TestAFreshReadThatFindsNoAttachmentDropsIt(t *testing.T) {
	s, _, base := open(t)
	must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "one")))
	s.LoadAttachment(t.Context(), "atc_1")
	must(t, base.DeleteAttachment(t.Context(), "atc_1"))
	s.LoadAttachment(store.WithFresh(t.Context()), "atc_1")
	if _, err := s.LoadAttachment(t.Context(), "atc_1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got error %v, want ErrNotFound", err)
	}
}

func TestAWriteThatWasGivenUpBeforeItBeganIsNotPassedOn(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 3)
	warm(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	bad := store.WithSaveMode(ctx, 9)
	for name, c := range map[string]struct {
		err  error
		want store.Code
	}{
		"save":                   {s.SaveThread(ctx, first), store.CodeCanceled},
		"delete":                 {s.DeleteThread(ctx, "thr_1"), store.CodeCanceled},
		"add":                    {s.AddThreadItem(bad, "thr_1", item(t, "msg_new", 9)), store.CodeCanceled},
		"attachment":             {s.SaveAttachment(ctx, attachment(t, "atc_1", "x")), store.CodeCanceled},
		"save in no mode":        {s.SaveThread(bad, first), store.CodeInvalid},
		"save of nothing":        {s.SaveThread(ctx, chat.Thread{}), store.CodeInvalid},
		"item in no mode":        {s.SaveItem(bad, "thr_1", item(t, "msg_1", 9)), store.CodeInvalid},
		"attachment in no mode":  {s.SaveAttachment(bad, attachment(t, "atc_1", "x")), store.CodeInvalid},
		"delete without an item": {s.DeleteThreadItem(ctx, "thr_1", ""), store.CodeInvalid},
	} {
		if store.CodeOf(c.err) != c.want {
			t.Errorf("%s: got error %v, want %v", name, c.err, c.want)
		}
	}
	if n := p.writes.Load(); n != 0 {
		t.Errorf("the base got %d writes, want none", n)
	}
	p.costs(0, func() { warm(t, s) }, "reads of a warm thread after writes that were not made")
}

// An entry has a window and no thread. A save with a zero Owner must not add the thread: only the base knows its owner.
func TestASaveWithoutAnOwnerMakesNoThreadOfAWindow(t *testing.T) {
	s, _, base := open(t)
	must(t, base.SaveThread(t.Context(), thread("thr_1", "", ada.Owner)))
	must(t, base.AddThreadItem(t.Context(), "thr_1", item(t, "msg_1", 1)))
	for _, owner := range []chat.Owner{{}, ada.Owner} {
		page(t.Context(), t, s, newest(20)) // fills the window, not the thread
		must(t, s.SaveThread(t.Context(), thread("thr_1", "second", owner)))
		if th := load(t.Context(), t, s); th.Owner != ada.Owner || th.Title != "second" {
			t.Errorf("saved with owner %+v: got title %q, owner %+v; want second, %+v", owner, th.Title, th.Owner, ada.Owner)
		}
		must(t, s.SaveThread(store.WithFresh(t.Context()), first))
	}
}

// A fresh answer of a base without versions may be newer than the entry, so the two must not be merged.
func TestAFreshAnswerReplacesWhatHasNoVersion(t *testing.T) {
	s, _, base := openOver(t, unversioned())
	fill(t, base, 3)
	warm(t, s)
	must(t, base.SaveThread(t.Context(), second))
	must(t, base.DeleteThreadItem(t.Context(), "thr_1", "msg_2"))
	load(store.WithFresh(t.Context()), t, s)
	if p := page(t.Context(), t, s, newest(1)); p.Data[0].ID != "msg_1" {
		t.Errorf("got newest item %v, want msg_1: the fresh thread was merged with an old window", p.Data)
	}
}

// An export that does not use WithNoStore must not evict hot entries.
func TestAScanDoesNotTakeThePlaceOfWhatIsReadAgain(t *testing.T) {
	const room = 100
	s, p, base := open(t, cache.WithMaxEntries(room))
	hot := func(n int) string { return fmt.Sprintf("hot_%d", n) }
	for n := range room / 2 {
		must(t, base.SaveThread(t.Context(), thread(hot(n), "", chat.Owner{})))
		s.LoadThread(t.Context(), hot(n))
		s.LoadThread(t.Context(), hot(n)) // a hit
	}
	for n := range 20 * room {
		id := fmt.Sprintf("once_%d", n)
		must(t, base.SaveThread(t.Context(), thread(id, "", chat.Owner{})))
		must(t, base.AddThreadItem(t.Context(), id, item(t, "msg_1", 1)))
		s.LoadThread(t.Context(), id)
		s.LoadThreadItems(t.Context(), id, oldest(100))
	}
	p.costs(0, func() {
		for n := range room / 2 {
			s.LoadThread(t.Context(), hot(n))
		}
	}, "%d hot threads after a scan", room/2)
}

// An entry that was hot must not keep its place longer than its TTL.
func TestWhatIsHotNowTakesThePlaceOfWhatWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const room, hot = 100, 75
		s, p, base := open(t, cache.WithMaxEntries(room))
		read := func(name string) {
			for n := range hot {
				get[chat.Thread](t)(s.LoadThread(t.Context(), fmt.Sprintf("%s_%d", name, n)))
			}
		}
		for _, name := range []string{"old", "new"} {
			for n := range hot {
				must(t, base.SaveThread(t.Context(), thread(fmt.Sprintf("%s_%d", name, n), "", chat.Owner{})))
			}
			for range 3 {
				read(name)
			}
			time.Sleep(cache.DefaultTTL)
		}
		for range 2 {
			read("new")
		}
		p.costs(0, func() { read("new") }, "reads of the threads that are hot now")
		if account, counted, entries := cache.Audit(s); entries > room || account != counted {
			t.Errorf("%d entries, at most %d; %d bytes accounted, %d counted", entries, room, account, counted)
		}
	})
}

// A hit must not wait for anybody who changes entries. It would wait here for ever.
func TestAHitTakesNoLock(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 3)
	warm(t, s)
	release := cache.HoldShards(s)
	defer release()
	p.costs(0, func() {
		load(t.Context(), t, s)
		get[store.Page[chat.Item]](t)(s.LoadThreadItems(t.Context(), "thr_1", newest(2)))
	}, "hits while all shards are locked")
}

// Goroutines count their reads apart. No read may be lost.
func TestEveryReadIsCounted(t *testing.T) {
	const readers, reads = 32, 500
	s, _, base := open(t)
	fill(t, base, 3)
	warm(t, s)
	before := stat(s, "chatstore_cache_requests_total", "hit")
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for range reads {
				load(t.Context(), t, s)
			}
		})
	}
	wg.Wait()
	if n := stat(s, "chatstore_cache_requests_total", "hit") - before; n != readers*reads {
		t.Errorf("%v hits were counted, want %d", n, readers*reads)
	}
}

// A no-store read must not make its entry the most recently used.
func TestANoStoreReadDoesNotCountAsUse(t *testing.T) {
	s, p, base := open(t, cache.WithMaxEntries(2))
	for _, id := range []string{"thr_1", "thr_2", "thr_3"} {
		must(t, base.SaveThread(t.Context(), thread(id, "", chat.Owner{})))
	}
	s.LoadThread(t.Context(), "thr_1")
	s.LoadThread(t.Context(), "thr_2")
	s.LoadThread(store.WithNoStore(t.Context()), "thr_1")
	s.LoadThread(t.Context(), "thr_3") // evicts the least recently used
	p.costs(0, func() { s.LoadThread(t.Context(), "thr_2") }, "thr_2, which was used after thr_1")
}

func TestItemsThatAreTooLargeDoNotCostTheThreadItsPlace(t *testing.T) {
	s, p, base := open(t, cache.WithMaxBytes(64<<10))
	fill(t, base, 0)
	large := chat.SDKHiddenContext{Content: strings.Repeat("x", 40<<10)}
	for i := range 3 {
		must(t, base.AddThreadItem(t.Context(), "thr_1", testenv.OrPanic(chat.NewItem(fmt.Sprintf("msg_%d", i), noon, large))))
	}
	warm(t, s)
	p.costs(0, func() { load(t.Context(), t, s) }, "the thread, after a page that was too large")
	if account, counted, _ := cache.Audit(s); account != counted || account > 64<<10 {
		t.Errorf("%d bytes accounted, %d counted, at most %d", account, counted, 64<<10)
	}
}

func TestAFreshReadOfAPageBeyondKeepsWhatVersionsConfirm(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 100)
	warm(t, s)
	page(store.WithFresh(t.Context()), t, s, store.PageQuery{Limit: 5, After: "msg_90"})
	p.costs(0, func() { warm(t, s) }, "reads of a warm thread")
}

// A load that reports a change of the thread has two versions, so it is not cached.
func TestALoadOfTwoVersionsIsNotCached(t *testing.T) {
	s, p, base := openOver(t, store.Wrap(memstore.New(), layer.Intercept("odd", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if c.Op.IsWrite() {
				return next(ctx)
			}
			return next(callctx.WithVersionRecorder(ctx, func(id string, before, after uint64) {
				driver.ReportVersion(ctx, id, before-1, after)
			}))
		}))))
	fill(t, base, 1)
	load(t.Context(), t, s)
	p.costs(1, func() { load(t.Context(), t, s) }, "a second read")
}

// The answer of such a load may be newer than the entry, which must not be served after it.
func TestALoadOfTwoVersionsDropsTheEntry(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 1)
	load(t.Context(), t, s)
	must(t, base.SaveThread(t.Context(), second)) // another process
	p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		_ = next(ctx)
		return next(ctx)
	})
	load(store.WithFresh(t.Context()), t, s)
	answers(t, s, second.Title, "after a fresh read of two versions")
}
