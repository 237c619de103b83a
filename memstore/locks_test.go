package memstore

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

func save(t testing.TB, s *Store, id string, owner chat.Owner, items int) {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testenv.Must(t, s.SaveThread(t.Context(), chat.Thread{ID: id, CreatedAt: at, Owner: owner}))
	for i := range items {
		it := testenv.Value(chat.NewItem(fmt.Sprintf("msg_%d", i), at.Add(time.Duration(i)*time.Second), chat.EndOfTurn{}))(t)
		testenv.Must(t, s.AddThreadItem(t.Context(), id, it))
	}
}

// proceeds fails the test if f does not return by itself.
func proceeds(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(time.Minute): // only when it hangs
		t.Fatalf("%s waits for a lock", what)
	}
}

// readAll makes all reads of one thread.
func readAll(t *testing.T, s *Store, id string) {
	if _, err := s.LoadThread(t.Context(), id); err != nil {
		t.Errorf("LoadThread(%q): %v", id, err)
	}
	if _, err := s.LoadThreadItems(t.Context(), id, store.PageQuery{}); err != nil {
		t.Errorf("LoadThreadItems(%q): %v", id, err)
	}
	if _, err := s.LoadItem(t.Context(), id, "msg_0"); err != nil {
		t.Errorf("LoadItem(%q): %v", id, err)
	}
}

func TestReadersDoNotWaitForWritersOfAnotherThread(t *testing.T) {
	s := New()
	save(t, s, "thr_a", chat.Owner{}, 2)
	save(t, s, "thr_b", chat.Owner{}, 2)
	written := s.thread("thr_a")
	written.mu.Lock() // as while an item of thr_a is written
	defer written.mu.Unlock()
	proceeds(t, "reading b while a is written", func() { readAll(t, s, "thr_b") })
	proceeds(t, "adding to b while a is written", func() { _ = s.DeleteThreadItem(t.Context(), "thr_b", "msg_1") })
	proceeds(t, "listing while an item of a is written", func() {
		if p, err := s.LoadThreads(t.Context(), store.ThreadQuery{}); err != nil || len(p.Data) != 2 {
			t.Errorf("LoadThreads: got %d threads, error %v, want 2", len(p.Data), err)
		}
	})
}

func TestReadersDoNotWaitForListings(t *testing.T) {
	s := New()
	save(t, s, "thr_a", chat.Owner{}, 2)
	s.listings.mu.Lock() // as while a thread is inserted
	defer s.listings.mu.Unlock()
	proceeds(t, "reading while listings are written", func() { readAll(t, s, "thr_a") })
	proceeds(t, "adding while listings are written", func() { _ = s.DeleteThreadItem(t.Context(), "thr_a", "msg_1") })
}

// While a SaveThread waits for a listing, reads of the same thread proceed.
func TestReadersDoNotWaitForAWriterThatWaitsForAListing(t *testing.T) {
	s := New()
	save(t, s, "thr_a", chat.Owner{}, 2)
	s.listings.mu.RLock() // a long listing
	saved := make(chan error)
	go func() { saved <- s.SaveThread(t.Context(), chat.Thread{ID: "thr_a", CreatedAt: time.Unix(1, 0)}) }()
	for s.listings.mu.TryRLock() { // until the writer waits for the lock
		s.listings.mu.RUnlock()
		runtime.Gosched()
	}
	proceeds(t, "reading while a save waits for a listing", func() { readAll(t, s, "thr_a") })
	s.listings.mu.RUnlock()
	testenv.Must(t, <-saved)
}

// A writer of a thread, or of one of its items, waits for the thread's readers.
func TestWritersWaitForReadersOfTheirThread(t *testing.T) {
	s := New()
	save(t, s, "thr_a", chat.Owner{}, 3)
	at := time.Unix(1, 0)
	it := testenv.Value(chat.NewItem("msg_0", at, chat.EndOfTurn{}))(t)
	for _, w := range []struct {
		name  string
		write func() error
	}{
		{"SaveThread", func() error { return s.SaveThread(t.Context(), chat.Thread{ID: "thr_a", CreatedAt: at}) }},
		{"SaveItem", func() error { return s.SaveItem(t.Context(), "thr_a", it) }},
		{"DeleteThreadItem", func() error { return s.DeleteThreadItem(t.Context(), "thr_a", "msg_1") }},
		{"DeleteThread", func() error { return s.DeleteThread(t.Context(), "thr_a") }},
	} {
		read := s.thread("thr_a")
		read.mu.RLock()
		ended := make(chan error, 1)
		go func() { ended <- w.write() }()
		for read.mu.TryRLock() { // until the writer waits for the lock
			read.mu.RUnlock()
			if len(ended) > 0 {
				t.Errorf("%s wrote while its thread was read", w.name)
				break
			}
			runtime.Gosched()
		}
		read.mu.RUnlock()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// While EraseOwner waits for a reader of one thread, no reader finds another row of the owner erased.
func TestEraseOwnerErasesAllRowsAtOnce(t *testing.T) {
	s, ada := New(), chat.Owner{Tenant: "acme", Subject: "ada"}
	for i := range 20 {
		save(t, s, fmt.Sprint("thr_", i), ada, 1)
	}
	var last *thread // that EraseOwner comes to
	s.threads.Range(func(_, v any) bool { last = v.(*thread); return true })
	last.mu.RLock()
	ended := make(chan error)
	go func() { _, err := s.EraseOwner(t.Context(), ada); ended <- err }()
	for last.mu.TryRLock() { // until EraseOwner waits for the lock
		last.mu.RUnlock()
		runtime.Gosched()
	}
	s.threads.Range(func(id, v any) bool {
		if th := v.(*thread); th != last && th.mu.TryRLock() {
			if th.live == nil {
				t.Errorf("a reader finds thread %q erased before the others", id)
			}
			th.mu.RUnlock()
		}
		return true
	})
	if s.attachments.mu.TryRLock() {
		t.Error("a reader may find attachments erased before threads, or threads before attachments")
		s.attachments.mu.RUnlock()
	}
	last.mu.RUnlock()
	testenv.Must(t, <-ended)
}

// InactiveThreads reads a thread's version and its items at one instant, while both change.
func TestInactiveThreadsReadsVersionAndItemsTogether(t *testing.T) {
	s, before := New(), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	save(t, s, "thr_a", chat.Owner{}, 0)
	recent := testenv.Value(chat.NewItem("msg_1", before, chat.EndOfTurn{}))(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20_000 {
			_ = s.AddThreadItem(t.Context(), "thr_a", recent)
			_ = s.DeleteThreadItem(t.Context(), "thr_a", "msg_1")
		}
	}()
	for {
		p, err := s.InactiveThreads(t.Context(), before, store.ThreadQuery{})
		if err != nil || len(p.Data) > 0 && p.Data[0].Version%2 == 0 { // then it has the item
			t.Fatalf("got %v, error %v, want no thread, or one of an odd version", p.Data, err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// A listing of one owner, of one tenant, or of the threads without an owner uses only its own index.
func TestListingsDoNotWalkOtherOwners(t *testing.T) {
	ada, bob := chat.Owner{Tenant: "acme", Subject: "ada"}, chat.Owner{Tenant: "bold", Subject: "bob"}
	for _, f := range []store.OwnerFilter{store.OwnedBy(ada), store.InTenant("acme"), {}} {
		s := New()
		for i := range 300 {
			save(t, s, fmt.Sprint("thr_bob_", i), bob, 0)
		}
		save(t, s, "thr_ada", ada, 0)
		save(t, s, "thr_nobody", chat.Owner{}, 0)
		keep := s.listings.of(f)
		for _, x := range s.listings.owners {
			if x != keep {
				x.root = &node[idKey, chat.Thread]{rows: []*row[idKey, chat.Thread]{nil}} // a listing that comes here panics
			}
		}
		for _, x := range s.listings.tenants {
			if x != keep {
				x.root = &node[idKey, chat.Thread]{rows: []*row[idKey, chat.Thread]{nil}}
			}
		}
		s.listings.all.root = &node[idKey, chat.Thread]{rows: []*row[idKey, chat.Thread]{nil}}
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			p, err := s.LoadThreads(t.Context(), store.ThreadQuery{Owner: f, PageQuery: store.PageQuery{Order: order}})
			if err != nil || len(p.Data) != 1 || p.HasMore {
				t.Errorf("LoadThreads of one owner: got %d threads, more %t, error %v, want one thread", len(p.Data), p.HasMore, err)
			}
		}
	}
}

// A deletion leaves only an id, an owner, a version and a place. Items, titles and the indexes of owners without threads are removed.
func TestDeletionsLeaveLittleBehind(t *testing.T) {
	s := New()
	save(t, s, "thr_a", chat.Owner{Tenant: "acme", Subject: "ada"}, 10)
	testenv.Must(t, s.DeleteThread(t.Context(), "thr_a"))
	if s.thread("thr_a").live != nil {
		t.Error("the deleted thread still has its content")
	}
	l := &s.listings
	if len(l.owners) != 0 || len(l.tenants) != 0 || l.all.root != nil {
		t.Errorf("the listings have %d owners, %d tenants and the root %p, want none", len(l.owners), len(l.tenants), l.all.root)
	}
}
