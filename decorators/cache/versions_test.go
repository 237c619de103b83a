package cache_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// version returns the version of thr_1.
func version(t testing.TB, s store.Store) uint64 {
	t.Helper()
	ctx, read := store.WithVersions(t.Context())
	load(ctx, t, s)
	n, ok := read.Of("thr_1")
	if !ok {
		t.Fatal("no version was reported")
	}
	return n
}

// readsOfThread are the reads that report the version of thr_1.
var readsOfThread = map[string]func(context.Context, testing.TB, store.Store){
	"thread": func(ctx context.Context, t testing.TB, s store.Store) { load(ctx, t, s) },
	"newest": func(ctx context.Context, t testing.TB, s store.Store) { page(ctx, t, s, newest(2)) },
	"after one": func(ctx context.Context, t testing.TB, s store.Store) {
		page(ctx, t, s, store.PageQuery{After: "msg_4", Limit: 1})
	},
	"window item": func(ctx context.Context, t testing.TB, s store.Store) {
		get[chat.Item](t)(s.LoadItem(ctx, "thr_1", "msg_4"))
	},
	"loose item": func(ctx context.Context, t testing.TB, s store.Store) {
		get[chat.Item](t)(s.LoadItem(ctx, "thr_1", "msg_0"))
	},
}

func TestAReadReportsTheVersionOfItsAnswer(t *testing.T) {
	for name, read := range readsOfThread {
		s, p, base := open(t, cache.WithWindow(3))
		fill(t, base, 5)
		for _, way := range []string{"a load", "a hit", "a hit of a patched entry", "a fresh read"} {
			ctx := t.Context()
			switch way {
			case "a hit of a patched entry":
				must(t, s.SaveItem(ctx, "thr_1", item(t, "msg_3", 3)))
			case "a fresh read":
				ctx = store.WithFresh(ctx)
			}
			ctx, versions := store.WithVersions(ctx)
			cost := p.readsOf(func() { read(ctx, t, s) })
			if n, ok := versions.Of("thr_1"); !ok || n != version(t, base) {
				t.Errorf("%s, %s: reported %d, %t, want %d", name, way, n, ok, version(t, base))
			}
			if hit := way == "a hit" || way == "a hit of a patched entry"; hit != (cost == 0) {
				t.Errorf("%s, %s: %d base reads", name, way, cost)
			}
			warm(t, s)
		}
	}
}

func TestListingsAndAttachmentsReportNoVersion(t *testing.T) {
	s, _, base := open(t)
	fill(t, base, 1)
	must(t, base.SaveAttachment(t.Context(), attachment(t, "atc_1", "a")))
	ctx, versions := store.WithVersions(callctx.WithVersionRecorder(t.Context(), func(id string, before, after uint64) {
		t.Errorf("reported %s from %d to %d", id, before, after)
	}))
	for range 2 {
		get[store.Page[chat.Thread]](t)(s.LoadThreads(ctx, store.ThreadQuery{}))
		get[chat.Attachment](t)(s.LoadAttachment(ctx, "atc_1"))
	}
	must(t, s.SaveAttachment(ctx, attachment(t, "atc_1", "b")))
	must(t, s.DeleteAttachment(ctx, "atc_1"))
	if n, ok := versions.Of("thr_1"); ok {
		t.Errorf("the thread has version %d", n)
	}
}

// writesOfThread are the writes that may be under a version of thr_1.
var writesOfThread = map[string]func(context.Context, testing.TB, store.Store) error{
	"SaveThread":   func(ctx context.Context, _ testing.TB, s store.Store) error { return s.SaveThread(ctx, first) },
	"DeleteThread": func(ctx context.Context, _ testing.TB, s store.Store) error { return s.DeleteThread(ctx, "thr_1") },
	"AddThreadItem": func(ctx context.Context, t testing.TB, s store.Store) error {
		return s.AddThreadItem(ctx, "thr_1", item(t, "msg_new", 10))
	},
	"SaveItem": func(ctx context.Context, t testing.TB, s store.Store) error {
		return s.SaveItem(ctx, "thr_1", item(t, "msg_0", 0))
	},
	"DeleteThreadItem": func(ctx context.Context, _ testing.TB, s store.Store) error {
		return s.DeleteThreadItem(ctx, "thr_1", "msg_0")
	},
}

// TestAConflictOnAVersionDropsAStaleEntry has another process, which writes to the base without a bus. The conflict must end the
// life of the entry: a caller that reads again and tries again would otherwise fail until the TTL.
func TestAConflictOnAVersionDropsAStaleEntry(t *testing.T) {
	for name, write := range writesOfThread {
		s, _, base := open(t, cache.WithTTL(0))
		fill(t, base, 2)
		for _, who := range []store.Principal{ada, bob} { // two entries
			ctx := store.WithPrincipal(t.Context(), who)
			load(ctx, t, s)
			page(ctx, t, s, newest(2))
		}
		must(t, base.SaveThread(t.Context(), second)) // the other process

		// try reads the thread and writes under its version, as programs do.
		try := func(who store.Principal) error {
			ctx, read := store.WithVersions(store.WithPrincipal(t.Context(), who))
			th, n := load(ctx, t, s), uint64(0)
			page(ctx, t, s, newest(2))
			n, _ = read.Of("thr_1")
			if is := version(t, base); n == is && th.Title != second.Title {
				t.Errorf("%s: the thread was read as %q at version %d", name, th.Title, n)
			}
			return write(store.IfVersion(ctx, "thr_1", n), t, s)
		}
		err := try(ada)
		if e, ok := errors.AsType[*store.Error](err); !ok || e.Code != store.CodeConflict || e.Field != "if_version" {
			t.Errorf("%s: got %v from an outdated read, want a conflict of the version", name, err)
		}
		if got := load(store.WithPrincipal(t.Context(), bob), t, s); got.Title != second.Title {
			t.Errorf("%s: after the conflict another principal reads %q", name, got.Title)
		}
		if err := try(ada); err != nil {
			t.Errorf("%s: the second try ended with %v", name, err)
		}
	}
}

// TestALoadHasNoCondition checks that a load runs under nobody's condition: it is for a caller's write.
func TestALoadHasNoCondition(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 5)
	p.set(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		if callctx.Of(ctx).If.Set != c.Op.IsWrite() {
			t.Errorf("%v has the condition: %t", c.Op, !c.Op.IsWrite())
		}
		return next(ctx)
	})
	for _, read := range readsOfThread {
		read(store.IfVersion(t.Context(), "thr_1", 1), t, s)
	}
	for _, write := range writesOfThread {
		_ = write(store.IfVersion(t.Context(), "thr_1", 100), t, s)
	}
}

// TestWhoJoinsALoadHearsTheVersionOfItsAnswer checks all callers of a load that another process's write overtakes. The reported
// version is that of the answer and not the newer one, so a write under it fails.
func TestWhoJoinsALoadHearsTheVersionOfItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p, base := open(t)
		fill(t, base, 1)
		before := version(t, base)
		p.during(store.OpLoadThread, func() {
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					ctx, read := store.WithVersions(store.IfVersion(t.Context(), "thr_1", uint64(i)))
					th := load(ctx, t, s)
					if n, ok := read.Of("thr_1"); !ok || n != before || th.Title != first.Title {
						t.Errorf("a caller got %q at version %d, %t, want %q at %d", th.Title, n, ok, first.Title, before)
					}
				})
			}
			wg.Wait()
		}, func() {
			synctest.Wait()
			must(t, base.SaveThread(t.Context(), second))
		})
		if n := p.reads.Load(); n != 1 {
			t.Errorf("%d base reads, want 1", n)
		}
		err := s.SaveThread(store.IfVersion(t.Context(), "thr_1", before), first)
		if store.CodeOf(err) != store.CodeConflict {
			t.Errorf("a write under the version of the overtaken load ended with %v, want a conflict", err)
		}
	})
}

// TestAReadThatIsRepeatedBeneathKeepsItsVersion has a layer beneath that reads again after an error, so that a load reports
// two versions. A caller who reads the item, and then the thread after another write, must not get the newer version.
func TestAReadThatIsRepeatedBeneathKeepsItsVersion(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 1)
	p.set(func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		if c.Op == store.OpLoadItem {
			_ = next(ctx) // its answer is lost
			must(t, base.SaveThread(t.Context(), second))
		}
		return next(ctx)
	})
	readItem := func(ctx context.Context) { get[chat.Item](t)(s.LoadItem(ctx, "thr_1", "msg_0")) }
	readItem(t.Context())
	ctx, read := store.WithVersions(t.Context())
	readItem(ctx)
	must(t, s.SaveItem(t.Context(), "thr_1", item(t, "msg_0", 5)))
	load(ctx, t, s)
	n, _ := read.Of("thr_1")
	err := s.SaveItem(store.IfVersion(ctx, "thr_1", n), "thr_1", item(t, "msg_0", 7))
	if store.CodeOf(err) != store.CodeConflict {
		t.Errorf("a save under version %d ended with %v, want a conflict: the item has changed since it was read", n, err)
	}
}

// A repeated read that finds the same version again is cached.
func TestAReadThatIsRepeatedBeneathIsCached(t *testing.T) {
	s, p, base := open(t)
	fill(t, base, 1)
	p.set(func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
		_ = next(ctx) // its answer is lost
		return next(ctx)
	})
	load(t.Context(), t, s)
	p.costs(0, func() { load(t.Context(), t, s) }, "a read after one that was repeated")
}

func TestAMissingItemReportsTheVersionOfItsThread(t *testing.T) {
	s, _, base := open(t)
	fill(t, base, 1)
	ctx, read := store.WithVersions(t.Context())
	if _, err := s.LoadItem(ctx, "thr_1", "msg_none"); store.CodeOf(err) != store.CodeNotFound {
		t.Fatal(err)
	}
	if n, ok := read.Of("thr_1"); !ok || n != version(t, base) {
		t.Errorf("reported %d, %t, want %d", n, ok, version(t, base))
	}
}
