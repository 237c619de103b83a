package cache

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
)

// alone returns the only shard of a cache.
func alone(maxEntries int, maxBytes int64) *shard {
	return newShard(newIndex(entriesFor(maxEntries, maxBytes)), maxEntries, maxBytes)
}

// audit fails unless the shard's bytes are exactly the sum of its entries' costs, and its bounds hold.
func (s *shard) audit(t *testing.T, maxEntries int) {
	t.Helper()
	seen := map[key]bool{}
	for name, g := range map[string]segment{"probation": s.probation, "protected": s.protected} {
		var sum int64
		for _, n := range g.lru.Keys() {
			k, e := n.key, n.entry.Load()
			if n.segment.lru != g.lru {
				t.Fatalf("entry %s is in another segment than its node says", k.id)
			}
			if s.find(&k) != n {
				t.Fatalf("entry %s is not in the index", k.id)
			}
			if e.bytes != e.cost(k) {
				t.Fatalf("entry %s: %d bytes accounted, costs %d", k.id, e.bytes, e.cost(k))
			}
			if seen[k] {
				t.Fatalf("entry %s is in both segments", k.id)
			}
			seen[k] = true
			sum += e.bytes
		}
		if g.bytes != sum {
			t.Fatalf("%s: %d bytes accounted, the entries have %d", name, g.bytes, sum)
		}
	}
	indexed := 0
	for i := range s.index {
		for n := s.index[i].Load(); n != nil; n = n.next.Load() {
			indexed++
		}
	}
	if indexed != s.len() {
		t.Fatalf("the index has %d entries, the segments have %d", indexed, s.len())
	}
	if s.bytes() > s.maxBytes || s.len() > maxEntries {
		t.Fatalf("%d bytes, at most %d; %d entries, at most %d", s.bytes(), s.maxBytes, s.len(), maxEntries)
	}
}

// sized returns an entry of a thread whose title has size bytes.
func sized(id string, size int) *entry {
	return &entry{tag: 1, hasThread: true, thread: chat.Thread{ID: id, Title: strings.Repeat("t", size)}}
}

// fillWith stores a thread whose title has size bytes. answered says whether its entry has answered a read.
func (s *shard) fillWith(id string, size int, answered bool) key {
	k := key{id: id}
	s.fill(k, sized(id, size), 1, 0, true)
	if e := s.get(&k); e != nil && answered {
		e.answered.Store(true)
	}
	return k
}

func TestAccountingIsExactUnderRandomOperations(t *testing.T) {
	const entries, bytes = 20, 40_000
	s := alone(entries, bytes)
	r := rand.New(rand.NewPCG(3, 4))
	most := 0
	for range 50_000 {
		id := r.IntN(40)
		k := key{id: strings.Repeat("x", r.IntN(30)) + fmt.Sprint(id), hash: uint64(id)}
		switch r.IntN(10) {
		case 0:
			if e := s.get(&k); e != nil {
				s.drop(k, e, [...]eviction{byWrite, byPoll}[r.IntN(2)])
			}
		case 1:
			if e := s.get(&k); e != nil {
				e.answered.Store(true)
			}
		case 2:
			if r.IntN(100) == 0 {
				s.flush()
			}
		default:
			e := sized(k.id, r.IntN(3000))
			if r.IntN(50) == 0 {
				e = sized(k.id, bytes) // too large
			}
			for i := range r.IntN(8) {
				e.loose = withLoose(e.loose, at(fmt.Sprint(i), i))
			}
			s.fill(k, e, 1, 0, r.IntN(2) == 0)
		}
		s.audit(t, entries)
		most = max(most, s.protected.lru.Len())
	}
	if most < 4 {
		t.Errorf("at most %d entries were protected: the test proves nothing", most)
	}
	for why, n := range s.evicted[coherence.ThreadCounter] {
		if n == 0 && eviction(why) != byExpiry {
			t.Errorf("no entry was evicted by reason %s: the test proves nothing", evictionNames[why])
		}
	}
}

// New entries have their share, so that they can answer before they are evicted.
func TestNewEntriesStayForATimeHoweverManyAreHot(t *testing.T) {
	const entries = 60
	s := alone(entries, 1<<20)
	for n := range entries {
		s.fillWith(fmt.Sprint("hot ", n), 10, true)
	}
	for n := range 2 * entries {
		for _, hot := range s.protected.lru.Keys() {
			hot.answered.Store(true)
		}
		s.fillWith(fmt.Sprint("new ", n), 10, false)
		for m := max(0, n-entries/probationShare+1); m <= n; m++ {
			if s.get(&key{id: fmt.Sprint("new ", m)}) == nil {
				t.Fatalf("new entry %d was evicted for new entry %d", m, n)
			}
		}
	}
	if n := s.protected.lru.Len(); n != entries-entries/probationShare {
		t.Errorf("%d entries are protected, want all that are not on probation", n)
	}
}

// An entry that has answered is kept for that once. Then it must answer again.
func TestAnEntryIsKeptOnceForHavingAnswered(t *testing.T) {
	const entries = 10
	s := alone(entries, 1<<20)
	for n := range entries {
		s.fillWith(fmt.Sprint("old ", n), 10, true)
	}
	for n := range 3 * entries {
		s.fillWith(fmt.Sprint("new ", n), 10, true)
	}
	for n := range entries {
		if s.get(&key{id: fmt.Sprint("old ", n)}) != nil {
			t.Errorf("old entry %d has not answered again, but was not evicted for entries that have answered since", n)
		}
	}
}

// What has stopped answering goes before what goes on, although both are protected.
func TestWhatStoppedAnsweringGoesFirst(t *testing.T) {
	const entries = 60 // fewer than mostMoved: one fill looks at all of them
	s := alone(entries, 1<<20)
	var hot, stopped []key
	for n := range entries / 2 {
		stopped = append(stopped, s.fillWith(fmt.Sprint("stopped ", n), 10, true))
		hot = append(hot, s.fillWith(fmt.Sprint("hot ", n), 10, true))
	}
	s.fillWith("one more", 10, true) // nearly all others are protected now
	count := func(all []key) (n int) {
		for _, k := range all {
			if e := s.get(&k); e != nil {
				n++
			}
		}
		return n
	}
	if n := s.protected.lru.Len(); n < entries*8/10 || count(hot) < len(hot) {
		t.Fatalf("%d entries are protected, %d of them hot: the test proves nothing", n, count(hot))
	}
	for n := 0; count(stopped) > 0; n++ {
		for _, k := range hot {
			s.get(&k).answered.Store(true)
		}
		s.fillWith(fmt.Sprint("new ", n), 10, true)
		if count(hot) < len(hot) {
			t.Fatalf("a hot entry was evicted while %d stayed that have stopped answering", count(stopped))
		}
		if n == 10*entries {
			t.Fatalf("%d entries stayed that have stopped answering", count(stopped))
		}
	}
}

// An entry that was evicted too early is protected when it comes back, even if it has not answered in its first stay.
func TestAnEntryThatComesBackSoonIsProtected(t *testing.T) {
	const entries = 10
	s := alone(entries, 1<<20)
	back := s.fillWith("back", 10, false)
	for n := range entries {
		s.fillWith(fmt.Sprint("before ", n), 10, false)
	}
	if s.get(&back) != nil {
		t.Fatal("the entry was not evicted: the test proves nothing")
	}
	s.fillWith("back", 10, false)
	for n := range 10 * entries {
		s.fillWith(fmt.Sprint("after ", n), 10, false)
	}
	if s.get(&back) == nil {
		t.Error("an entry that came back was evicted for entries that came once")
	}
}

// An expired entry makes room before any other, although it has answered.
func TestAnExpiredEntryIsNotKept(t *testing.T) {
	const entries, end = 20, 100
	for _, protect := range []bool{false, true} {
		s := alone(entries, 1<<20)
		var old []key
		for n := range entries / 2 {
			old = append(old, s.fillWith(fmt.Sprint("old ", n), 10, true))
		}
		for n := 0; protect && n < entries; n++ {
			s.fillWith(fmt.Sprint("once ", n), 10, false)
		}
		if protect && s.protected.lru.Len() != len(old) {
			t.Fatalf("%d entries are protected, want %d: the test proves nothing", s.protected.lru.Len(), len(old))
		}
		for _, k := range old {
			e := s.get(&k)
			e.expires = end
			e.answered.Store(true)
		}
		room := entries - s.len()
		for n := range entries {
			k := key{id: fmt.Sprint(n)}
			s.fill(k, sized(k.id, 10), 1, end, true)
			if gone, want := s.evicted[coherence.ThreadCounter][byExpiry], uint64(max(0, min(n+1-room, len(old)))); gone != want {
				t.Fatalf("protected: %v: after %d fills %d expired entries were evicted, want %d", protect, n+1, gone, want)
			}
		}
	}
}

// An entry that goes on answering stays, however many others are protected after it.
func TestWhatAnswersAgainAndAgainStays(t *testing.T) {
	const entries = 10
	s := alone(entries, 1<<20)
	hot := s.fillWith("hot", 10, true)
	for n := range 10 * entries {
		s.fillWith(fmt.Sprint("warm ", n), 10, true) // these answer once
		e := s.get(&hot)
		if e == nil {
			t.Fatalf("the hot entry was evicted for warm entry %d", n)
		}
		e.answered.Store(true)
		s.audit(t, entries)
	}
}

// Lookups take no lock. An entry that stays must be found while its neighbours in the bucket come and go.
func TestAnEntryIsFoundWhileItsBucketChanges(t *testing.T) {
	s := alone(100, 1<<20) // all keys have the same hash
	var stays []key
	for n := range 20 {
		stays = append(stays, s.fillWith(fmt.Sprint("stays ", n), 10, false))
		s.fillWith(fmt.Sprint("goes ", n), 10, false)
	}
	done := make(chan struct{})
	var changes sync.WaitGroup
	for g := range 2 {
		changes.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				k := key{id: fmt.Sprint("goes ", (7*n+g)%20)}
				if e := s.get(&k); e != nil {
					s.drop(k, e, byWrite)
				}
				s.fillWith(k.id, 10, false)
			}
		})
	}
	for range 20_000 {
		for _, k := range stays {
			if e := s.get(&k); e == nil || e.thread.ID != k.id {
				t.Errorf("%s was not found", k.id)
			}
		}
		if t.Failed() {
			break
		}
	}
	close(done)
	changes.Wait()
	s.audit(t, 100)
}

// A fill holds the lock for a short time, even if all entries of the shard have answered.
func TestFewAreMovedForOneThatComes(t *testing.T) {
	const entries = 1000
	s := alone(entries, 1<<20)
	for n := range entries {
		s.fillWith(fmt.Sprint(n), 10, true)
	}
	s.fillWith("one more", 10, false)
	if n := s.protected.lru.Len(); n != mostMoved {
		t.Errorf("one fill protected %d entries, want %d", n, mostMoved)
	}
}

// An entry that fits into a shard is stored, whatever is protected.
func TestALargeEntryFindsRoomBesideProtectedOnes(t *testing.T) {
	const entries, bytes = 100, 100_000
	s := alone(entries, bytes)
	for n := range 2 * entries {
		s.fillWith(fmt.Sprint(n), 500, true)
		s.audit(t, entries)
	}
	if n := s.protected.bytes; n < bytes*7/10 {
		t.Fatalf("%d bytes are protected: the test proves nothing", n)
	}
	if k := s.fillWith("large", bytes/2, false); s.get(&k) == nil {
		t.Error("an entry of half a shard was not stored")
	}
	s.audit(t, entries)
}

// Entries of all sizes are stored, grow and answer in random order.
func TestAccountingIsExactWhateverGrows(t *testing.T) {
	const entries, bytes = 20, 40_000
	for seed := range uint64(100) {
		s := alone(entries, bytes)
		r := rand.New(rand.NewPCG(seed, 1))
		for range 1000 {
			k := key{id: fmt.Sprint(r.IntN(40))}
			size := r.IntN(3000)
			if r.IntN(20) == 0 {
				size = r.IntN(38_000)
			}
			s.fill(k, sized(k.id, size), 1, 0, true)
			if s.get(&k) == nil {
				t.Fatalf("an entry of %d bytes was not stored", size)
			}
			if e := s.get(&key{id: fmt.Sprint(r.IntN(40))}); e != nil {
				e.answered.Store(true)
			}
			s.audit(t, entries)
		}
	}
}

func TestAFlushLeavesNothing(t *testing.T) {
	s := alone(20, 1<<20)
	for n := range 100 {
		s.fillWith(fmt.Sprint(n), 10, true)
	}
	if s.protected.lru.Len() == 0 {
		t.Fatal("no entry is protected: the test proves nothing")
	}
	s.flush()
	s.audit(t, 20)
	if s.len() != 0 || s.bytes() != 0 || s.evicted[coherence.ThreadCounter][byFlush] != 20 {
		t.Errorf("%d entries and %d bytes are left, %d were flushed", s.len(), s.bytes(), s.evicted[coherence.ThreadCounter][byFlush])
	}
}

func TestOnlyTheEntryThatWasLookedAtIsReplaced(t *testing.T) {
	s, k := alone(4, 1<<20), key{id: "thr_1"}
	s.fill(k, &entry{tag: 1}, 1, 0, true)
	seen := s.get(&k)
	s.fill(k, &entry{tag: 2}, 2, 0, true)
	s.replace(k, seen, &entry{tag: 3}, 0)
	s.drop(k, seen, byWrite)
	if e := s.get(&k); e == nil || e.tag != 2 {
		t.Errorf("got entry %v, want the newer one, with tag 2", e)
	}
}

func TestAPatchDoesNotForgetThatItsEntryAnswered(t *testing.T) {
	s, k := alone(4, 1<<20), key{id: "thr_1"}
	s.fill(k, &entry{tag: 1}, 1, 0, true)
	e := s.get(&k)
	e.answered.Store(true)
	s.replace(k, e, &entry{tag: 2}, 0)
	if !s.get(&k).answered.Load() {
		t.Error("the patched entry has not answered, but the entry before it has")
	}
}

func TestAFillThatWasOvertakenIsNotStored(t *testing.T) {
	s := alone(4, 1<<20)
	k := key{id: "thr_1"}
	s.fill(k, &entry{tag: 1}, 2, 0, false)
	if s.get(&k) != nil {
		t.Error("an entry was stored though its tag differs from the counter")
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
			s := alone(4, 1<<20)
			s.fill(k, c.old, 1, 0, false)
			s.fill(k, c.fill, 1, 0, false)
			e := s.get(&k)
			if (e.hasThread && e.hasWindow) != c.both || e.version != c.version {
				t.Errorf("got thread %v, window %v, version %v", e.hasThread, e.hasWindow, e.version)
			}
		})
	}
}

func TestAMergedEntryExpiresWithItsFirstPart(t *testing.T) {
	s := alone(4, 1<<20)
	k := key{id: "thr_1"}
	s.fill(k, &entry{tag: 1, expires: 10, hasThread: true}, 1, 0, false)
	s.fill(k, &entry{tag: 1, expires: 20, hasWindow: true}, 1, 5, false)
	if e := s.get(&k); e.expires != 10 || !e.hasThread || !e.hasWindow {
		t.Errorf("got expires %d, thread %v, window %v; want 10 and both", e.expires, e.hasThread, e.hasWindow)
	}
	s.fill(k, &entry{tag: 1, expires: 30, hasWindow: true}, 1, 15, false)
	if e := s.get(&k); e.hasThread || e.expires != 30 {
		t.Errorf("got expires %d, thread %v: an expired part was merged with a new one", e.expires, e.hasThread)
	}
}

// A poll that began before either part says nothing about the whole.
func TestAMergedEntryIsAsNewAsItsNewerPart(t *testing.T) {
	for _, since := range [][2]time.Duration{{1, 2}, {2, 1}} {
		s, k := alone(4, 1<<20), key{id: "thr_1"}
		s.fill(k, &entry{tag: 1, since: since[0], hasThread: true}, 1, 0, false)
		s.fill(k, &entry{tag: 1, since: since[1], hasWindow: true}, 1, 0, false)
		if e := s.get(&k); e.since != 2 || !e.hasThread || !e.hasWindow {
			t.Errorf("parts since %v: got since %d, thread %v, window %v; want 2 and both", since, e.since, e.hasThread, e.hasWindow)
		}
	}
}

func TestTablesAreForAsManyEntriesAsThereIsRoomFor(t *testing.T) {
	for _, c := range []struct {
		entries int
		bytes   int64
		want    int
	}{
		{100, 1 << 30, 100},
		{1 << 20, 100 * usualCost, 100},
		{1, 1, 1},
	} {
		if n := entriesFor(c.entries, c.bytes); n != c.want {
			t.Errorf("%d entries, %d bytes: tables for %d entries, want %d", c.entries, c.bytes, n, c.want)
		}
	}
}

// The documentation of WithMaxBytes has the number.
func TestTablesTakeAFewPerCentOfTheBytes(t *testing.T) {
	for _, bytes := range []int64{4 << 20, 4<<20 + 2*usualCost, 64 << 20, 100 << 20} {
		before := testenv.Heap()
		l := newLayer(memstore.New(), config{maxBytes: bytes, maxEntries: mostEntries})
		const rest = 32 << 10 // of a layer of any size, and of what else the process does meanwhile
		if held := testenv.Heap() - before; int64(held) > bytes*8/100+rest {
			t.Errorf("a bound of %d bytes: an empty cache holds %d, more than 8 %%", bytes, held)
		}
		runtime.KeepAlive(l)
	}
}
