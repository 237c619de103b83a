package storetest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

const versionRule = "a thread's version goes up by one in every transaction that changes the thread or its items, and never restarts for an id; " +
	"a write reports the version before and after it (driver.ReportVersion), a read reports that of its snapshot"

// versions records what one call reports about one thread.
type versions struct {
	mu            sync.Mutex
	reported      bool
	before, after uint64
}

// recorded runs call with a recorder for threadID in u's context. The last report counts.
func recorded(u *user, threadID string, call func(u *user)) *versions {
	v := new(versions)
	call(u.in(callctx.WithVersionRecorder(u.ctx, func(id string, before, after uint64) {
		if id == threadID {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.reported, v.before, v.after = true, before, after
		}
	})))
	return v
}

// versioned returns a check for Stores that report versions.
func versioned(name string, run func(h *harness)) check {
	return check{name, versionRule, func(h *harness) {
		h.t.Helper()
		if !h.reports() {
			if h.cfg.requireVersions {
				h.fatalf("SaveThread reported no version; storetest.WithVersionsRequired requires one")
			}
			h.t.Skipf("skipped: the Store reports no thread versions (storetest.WithVersionsRequired makes that a failure)")
		}
		run(h)
	}}
}

// reports reports whether the Store reports versions. It saves a thread of another user.
func (h *harness) reports() bool {
	h.t.Helper()
	u := h.user(chat.Owner{Subject: h.mint.ID("eve")})
	t := u.thread()
	return recorded(u, t.ID, func(u *user) { u.saveThread(t).ok() }).reported
}

// write wants the call to report a step of one from version from. It returns the new version.
func write(h *harness, threadID, what string, from uint64, call func(u *user)) uint64 {
	h.t.Helper()
	v := recorded(h.ada, threadID, call)
	switch {
	case !v.reported:
		h.fatalf("%s: reported no version of thread %q, want %d before and %d after", what, threadID, from, from+1)
	case v.before != from || v.after != from+1:
		h.fatalf("%s: reported version %d before and %d after, want %d and %d", what, v.before, v.after, from, from+1)
	}
	return v.after
}

// read wants the call to report version want, the same before and after.
func read(h *harness, threadID, what string, want uint64, call func(u *user)) {
	h.t.Helper()
	v := recorded(h.ada, threadID, call)
	switch {
	case !v.reported:
		h.errorf("%s: reported no version of thread %q, want %d", what, threadID, want)
	case v.before != want || v.after != want:
		h.errorf("%s: reported version %d before and %d after, want %d for both", what, v.before, v.after, want)
	}
}

// version returns a thread's version, reported by a read.
func version(h *harness, threadID string) uint64 {
	h.t.Helper()
	v := recorded(h.ada, threadID, func(u *user) { u.items(threadID, store.PageQuery{Limit: 1}).ok() })
	if !v.reported {
		h.fatalf("LoadThreadItems(%q): reported no version", threadID)
	}
	return v.after
}

var versionChecks = []check{
	versioned("SaveThread counts from zero", func(h *harness) {
		t := h.ada.thread()
		v := write(h, t.ID, "SaveThread of a new thread", 0, func(u *user) { u.saveThread(t).ok() })
		t.Title = "another title"
		write(h, t.ID, "SaveThread of an existing thread", v, func(u *user) { u.saveThread(t).ok() })
	}),
	versioned("AddThreadItem counts", func(h *harness) {
		t := h.ada.newThread()
		write(h, t.ID, "AddThreadItem", version(h, t.ID), func(u *user) { u.addItem(t.ID, h.item(at(1), "text")).ok() })
	}),
	versioned("SaveItem counts", func(h *harness) {
		thread, its := itemsAt(h, 1)
		v := version(h, thread)
		v = write(h, thread, "SaveItem of an existing item", v, func(u *user) { u.saveItem(thread, rewritten(h, its[0], 1)).ok() })
		write(h, thread, "SaveItem of a new item", v, func(u *user) { u.saveItem(thread, h.item(at(2), "text")).ok() })
	}),
	versioned("DeleteThreadItem counts", func(h *harness) {
		thread, its := itemsAt(h, 1)
		write(h, thread, "DeleteThreadItem", version(h, thread), func(u *user) { u.deleteItem(thread, its[0].ID).ok() })
	}),
	versioned("DeleteThread counts", func(h *harness) {
		thread, _ := itemsAt(h, 1, 2)
		write(h, thread, "DeleteThread", version(h, thread), func(u *user) { u.deleteThread(thread).ok() })
	}),
	versioned("a thread of a deleted id counts on", func(h *harness) {
		t := h.ada.newThread()
		h.ada.newItem(t.ID, at(1))
		v := write(h, t.ID, "DeleteThread", version(h, t.ID), func(u *user) { u.deleteThread(t.ID).ok() })
		write(h, t.ID, "SaveThread of a deleted id", v, func(u *user) { u.saveThread(t).ok() })
	}),
	versioned("reads report the last write's", func(h *harness) {
		thread, its := itemsAt(h, 1)
		v := version(h, thread)
		for i := range 2 { // the second read comes from a cache, if there is one
			read(h, thread, "LoadThread", v, func(u *user) { u.loadThread(thread).ok() })
			read(h, thread, "LoadThreadItems", v, func(u *user) { u.items(thread, store.PageQuery{}).ok() })
			read(h, thread, "LoadItem", v, func(u *user) { u.loadItem(thread, its[0].ID).ok() })
			if i == 0 {
				v = write(h, thread, "AddThreadItem", v, func(u *user) { u.addItem(thread, h.item(at(2), "text")).ok() })
			}
		}
	}),
	versioned("a failed write does not count", func(h *harness) {
		thread, its := itemsAt(h, 1)
		v := version(h, thread)
		undated, stolen := h.item(at(2), "text"), h.bob.thread()
		undated.CreatedAt, stolen.ID = time.Time{}, thread
		over, cancel := context.WithCancel(h.ada.ctx)
		cancel()
		for _, o := range []outcome[none]{
			h.ada.addItem(thread, its[0]),
			h.ada.mode(store.InsertOnly).saveItem(thread, its[0]),
			h.bob.saveThread(stolen),
			h.ada.addItem(thread, undated),
			h.ada.in(over).addItem(thread, h.item(at(2), "text")),
		} {
			if o.err == nil {
				h.t.Skipf("skipped: %s did not fail, which another check reports", o)
			}
		}
		read(h, thread, "LoadThread after writes that failed", v, func(u *user) { u.loadThread(thread).ok() })
	}),
	versioned("another thread's writes do not count", func(h *harness) {
		thread, _ := itemsAt(h, 1)
		v := version(h, thread)
		other := h.ada.newThread()
		h.ada.newItem(other.ID, at(1))
		h.ada.deleteThread(other.ID).ok()
		read(h, thread, "LoadThread after writes to another thread", v, func(u *user) { u.loadThread(thread).ok() })
	}),
	versioned("concurrent writes get one step each", func(h *harness) {
		const writers, each = 4, 25
		t := h.ada.newThread()
		first := version(h, t.ID)
		var mu sync.Mutex
		seen := make(map[uint64]bool)
		h.parallel(writers, func(i int) error {
			for n := range each {
				it := h.item(at(n), "text")
				var err error
				v := recorded(h.ada, t.ID, func(u *user) { err = u.addItem(t.ID, it).check(nil) })
				if err != nil {
					return err
				}
				if v.after != v.before+1 {
					return fmt.Errorf("AddThreadItem(%q, %q) during other writes: reported version %d before and %d after, want one step", t.ID, it.ID, v.before, v.after)
				}
				mu.Lock()
				taken := seen[v.after]
				seen[v.after] = true
				mu.Unlock()
				if taken {
					return fmt.Errorf("AddThreadItem(%q, %q) during other writes: reported version %d after, which another write reported too", t.ID, it.ID, v.after)
				}
			}
			return nil
		})
		read(h, t.ID, fmt.Sprintf("LoadThread after %d AddThreadItem", writers*each), first+writers*each,
			func(u *user) { u.loadThread(t.ID).ok() })
	}),
	versioned("a read's version is that of its rows", func(h *harness) {
		const adds = 60
		t := h.ada.newThread()
		first := version(h, t.ID)
		done := make(chan struct{})
		h.parallel(3, func(i int) error {
			if i == 0 {
				defer close(done)
				for n := range adds {
					if err := h.ada.addItem(t.ID, h.item(at(n), "text")).check(nil); err != nil {
						return err
					}
					runtime.Gosched()
				}
				return nil
			}
			for {
				var p outcome[store.Page[chat.Item]]
				v := recorded(h.ada, t.ID, func(u *user) { p = u.items(t.ID, store.PageQuery{Limit: store.MaxLimit}) })
				if err := p.check(nil); err != nil {
					return err
				}
				if want := first + uint64(len(p.val.Data)); v.reported && v.after != want {
					return fmt.Errorf("%s while items are added: got %d items and version %d, want version %d for that many", p, len(p.val.Data), v.after, want)
				}
				select {
				case <-done:
					return nil
				default:
					runtime.Gosched()
				}
			}
		})
	}),
}
