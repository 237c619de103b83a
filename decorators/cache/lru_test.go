package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/store"
)

// audit fails unless the shard's accounts are exactly what its entries cost, counted anew.
func (s *shard) audit(t *testing.T, maxEntries int) {
	t.Helper()
	var sum int64
	for _, k := range s.lru.Keys() {
		e, _ := s.lru.Peek(k)
		if e.bytes != e.cost(k) {
			t.Fatalf("%s has %d bytes on its account and costs %d", k.id, e.bytes, e.cost(k))
		}
		sum += e.bytes
	}
	if s.bytes != sum {
		t.Fatalf("the account says %d bytes, the entries have %d", s.bytes, sum)
	}
	if s.bytes > s.maxBytes || s.lru.Len() > maxEntries {
		t.Fatalf("%d bytes of %d, %d entries of %d", s.bytes, s.maxBytes, s.lru.Len(), maxEntries)
	}
}

func TestAccountingIsExactUnderRandomOperations(t *testing.T) {
	const entries, bytes = 20, 40_000
	s := newShard(entries, bytes)
	r := rand.New(rand.NewPCG(3, 4))
	for range 50_000 {
		k := key{id: strings.Repeat("x", r.IntN(30)) + fmt.Sprint(r.IntN(40))}
		switch r.IntN(10) {
		case 0:
			if e := s.peek(k); e != nil {
				s.drop(k, e, byWrite)
			}
		case 1:
			s.get(k)
		case 2:
			if r.IntN(100) == 0 {
				s.flush()
			}
		default:
			e := &entry{tag: 1, hasThread: true, thread: store.Thread{ID: k.id, Title: strings.Repeat("t", r.IntN(3000))}}
			if r.IntN(50) == 0 {
				e.thread.Title = strings.Repeat("t", bytes) // too large
			}
			for i := range r.IntN(8) {
				e.loose = withLoose(e.loose, at(fmt.Sprint(i), i))
			}
			s.fill(k, e, 1, 0, r.IntN(2) == 0)
		}
		s.audit(t, entries)
	}
	for why, n := range s.evicted[coherence.ThreadWord] {
		if n == 0 && eviction(why) != byExpiry {
			t.Errorf("no eviction by %s in all that: the test is blind there", evictionNames[why])
		}
	}
}

func TestAFillThatWasOvertakenIsNotStored(t *testing.T) {
	s := newShard(4, 1<<20)
	k := key{id: "thr_1"}
	s.fill(k, &entry{tag: 1}, 2, 0, false)
	if s.peek(k) != nil {
		t.Error("stored under a word that has moved on")
	}
}

func TestPartsOfTwoVersionsNeverShareAnEntry(t *testing.T) {
	k := key{id: "thr_1"}
	thread := func(v version) *entry { return &entry{tag: 1, version: v, hasThread: true} }
	window := func(v version) *entry { return &entry{tag: 1, version: v, hasWindow: true} }
	for _, c := range []struct {
		name      string
		old, fill *entry
		both      bool
		version   version
	}{
		{"equal", thread(version{3, true}), window(version{3, true}), true, version{3, true}},
		{"newer", thread(version{3, true}), window(version{4, true}), false, version{4, true}},
		{"older", thread(version{3, true}), window(version{2, true}), false, version{3, true}},
		{"unknown", thread(version{3, true}), window(version{}), false, version{}},
		{"neither", thread(version{}), window(version{}), true, version{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShard(4, 1<<20)
			s.fill(k, c.old, 1, 0, false)
			s.fill(k, c.fill, 1, 0, false)
			e := s.peek(k)
			if (e.hasThread && e.hasWindow) != c.both || e.version != c.version {
				t.Errorf("got thread %v, window %v, version %v", e.hasThread, e.hasWindow, e.version)
			}
		})
	}
}

func TestAMergedEntryExpiresWithItsFirstPart(t *testing.T) {
	s := newShard(4, 1<<20)
	k := key{id: "thr_1"}
	s.fill(k, &entry{tag: 1, expires: 10, hasThread: true}, 1, 0, false)
	s.fill(k, &entry{tag: 1, expires: 20, hasWindow: true}, 1, 5, false)
	if e := s.peek(k); e.expires != 10 || !e.hasThread || !e.hasWindow {
		t.Errorf("expires %d with thread %v and window %v", e.expires, e.hasThread, e.hasWindow)
	}
	s.fill(k, &entry{tag: 1, expires: 30, hasWindow: true}, 1, 15, false)
	if e := s.peek(k); e.hasThread || e.expires != 30 {
		t.Error("a part whose time was over lives on with a new one")
	}
}
