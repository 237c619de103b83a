package cache

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store/layer"
)

// key names an entry. The partition is a field of its own, so that no id can name an entry of another partition.
type key struct {
	partition layer.Partition
	kind      byte // coherence.ThreadCounter or AttachmentCounter
	id        string
}

// shard is a segmented LRU (Karedla, Love and Wherry, 1994) with its own lock and its own share of the bounds. A new entry
// is on probation. If it has answered a read by the time that it would be evicted, it is protected instead, so that an
// export does not evict hot entries. When the protected entries exceed their share, the least recently used go back on
// probation.
type shard struct {
	mu         sync.Mutex
	probation  segment
	protected  segment // at most protectedShare of the bounds
	maxEntries int
	maxBytes   int64
	evicted    [len(entryKinds)][numEvictions]uint64
}

// protectedShare is the share of the bounds that protected entries may take.
const protectedShare = 0.8

// mostProtected bounds how many entries one fill may protect. So a fill holds the lock for a short time even if all entries
// of the shard have answered.
const mostProtected = 64

// segment is one LRU. bytes is exactly the sum of its entries' costs.
type segment struct {
	lru   *simplelru.LRU[key, *entry]
	bytes int64
}

func newSegment(maxEntries int) segment {
	lru, err := simplelru.NewLRU[key, *entry](maxEntries+1, nil) // one more, so that it evicts nothing by itself
	if err != nil {
		panic(err) // only for a size below 1
	}
	return segment{lru: lru}
}

// put makes e the entry of k, the most recently used.
func (g *segment) put(k key, e *entry) {
	if old, ok := g.lru.Peek(k); ok {
		g.bytes -= old.bytes
	}
	g.lru.Add(k, e)
	g.bytes += e.bytes
}

// remove removes e, the entry of k.
func (g *segment) remove(k key, e *entry) {
	g.lru.Remove(k)
	g.bytes -= e.bytes
}

// entryKinds are the names of the kinds of entries, by the kind of their key.
var entryKinds = [...]string{coherence.ThreadCounter: "thread", coherence.AttachmentCounter: "attachment"}

// eviction says why an entry was removed.
type eviction uint8

const (
	byEntries  eviction = iota // too many entries
	byBytes                    // too many bytes
	byExpiry                   // its TTL ended
	byWrite                    // a write, here or elsewhere, made it outdated
	byTooLarge                 // it, or its items, did not fit into the shard
	byFlush                    // the bus connected again, or the cache was closed
	numEvictions
)

var evictionNames = [numEvictions]string{"entries", "bytes", "expired", "overtaken", "too_large", "flushed"}

func newShard(maxEntries int, maxBytes int64) *shard {
	return &shard{probation: newSegment(maxEntries), protected: newSegment(maxEntries), maxEntries: maxEntries, maxBytes: maxBytes}
}

// len and bytes count the shard's entries. The caller holds s.mu, here and in find.
func (s *shard) len() int     { return s.probation.lru.Len() + s.protected.lru.Len() }
func (s *shard) bytes() int64 { return s.probation.bytes + s.protected.bytes }

// find returns the entry of k and its segment, or nil if there is none.
func (s *shard) find(k key) (*segment, *entry) {
	for _, g := range [...]*segment{&s.protected, &s.probation} {
		if e, ok := g.lru.Peek(k); ok {
			return g, e
		}
	}
	return nil, nil
}

// get returns the entry of k, or nil, and makes it the most recently used.
func (s *shard) get(k key) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.probation.lru.Get(k); ok { // while there is room, all entries are here
		return e
	}
	e, _ := s.protected.lru.Get(k)
	return e
}

// peek returns the entry of k, or nil, and leaves it at its place.
func (s *shard) peek(k key) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, e := s.find(k)
	return e
}

// drop removes e if it is still the entry of k.
func (s *shard) drop(k key, e *entry, why eviction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g, current := s.find(k); current == e {
		s.evict(g, k, e, why)
	}
}

// replace makes next the entry of k if e still is. now may be a little old.
func (s *shard) replace(k key, e, next *entry, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, current := s.find(k); current == e {
		s.put(k, next, now)
	}
}

// evict removes e, the entry of k in g. The caller holds s.mu.
func (s *shard) evict(g *segment, k key, e *entry, why eviction) {
	g.remove(k, e)
	s.evicted[k.kind][why]++
}

// fill makes e the entry of k, unless its tag differs from current, the counter of k. It merges e with an entry of the same
// tag and version. An entry of a newer version stays. With whole, e replaces an entry if neither has a version. Replacing an
// entry does not count as an eviction.
func (s *shard) fill(k key, e *entry, current generation.Counter, now time.Duration, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.tag != current {
		return // a write overtook the load: the present entry may be newer
	}
	_, old := s.find(k)
	if old != nil && old.tag == e.tag && !old.expired(now) && old.version.known == e.version.known {
		switch {
		case old.version == e.version && (!whole || e.version.known):
			e = merge(old, e)
		case old.version.n > e.version.n:
			return // another process has written, and e was loaded before that
		}
	}
	s.put(k, e, now)
}

// put makes e the entry of k. If e is too large, put leaves out its items; if it still is, k has no entry. The caller holds
// s.mu.
func (s *shard) put(k key, e *entry, now time.Duration) {
	e.bytes = e.cost(k)
	if e.bytes > s.maxBytes && e.hasThread && (e.hasWindow || len(e.loose) > 0) {
		// The thread is cached even if its items are too large.
		lean := *e
		lean.window, lean.hasWindow, lean.loose = window{}, false, nil
		lean.bytes = lean.cost(k)
		if lean.bytes <= s.maxBytes {
			s.evicted[k.kind][byTooLarge]++
		}
		e = &lean
	}
	g, old := s.find(k)
	if e.bytes > s.maxBytes {
		if g != nil {
			g.remove(k, old)
		}
		s.evicted[k.kind][byTooLarge]++
		return
	}
	if g != nil {
		e.answered = old.answered
	} else {
		g, e.answered = &s.probation, new(atomic.Bool)
	}
	g.put(k, e)
	s.restrict()
	for n := 0; s.len() > s.maxEntries; n++ {
		s.makeRoom(k, byEntries, now, n < mostProtected)
	}
	for n := 0; s.bytes() > s.maxBytes; n++ {
		s.makeRoom(k, byBytes, now, n < mostProtected)
	}
}

// makeRoom evicts an entry to make room for the entry of newest. If mayProtect, it may protect one instead, and the caller
// tries again. The caller holds s.mu.
func (s *shard) makeRoom(newest key, why eviction, now time.Duration, mayProtect bool) {
	hotKey, hot, some := s.protected.lru.GetOldest()
	if some && hot.expired(now) { // it was hot once, and has not been renewed since
		s.evict(&s.protected, hotKey, hot, byExpiry)
		return
	}
	k, e, ok := s.probation.lru.GetOldest()
	switch {
	case some && (!ok || k == newest): // the protected entries leave too little room for newest
		s.evict(&s.protected, hotKey, hot, why)
	case k == newest: // no entry is protected any more: all others went back on probation, behind newest
		s.probation.lru.Get(k)
		k, e, _ = s.probation.lru.GetOldest()
		s.evict(&s.probation, k, e, why)
	case mayProtect && s.mayProtect(e) && e.answered.Swap(false):
		s.probation.remove(k, e)
		s.protected.put(k, e)
		s.restrict()
	default:
		s.evict(&s.probation, k, e, why)
	}
}

// mayProtect reports whether e alone would fit into the protected share.
func (s *shard) mayProtect(e *entry) bool {
	return float64(s.maxEntries)*protectedShare >= 1 && float64(e.bytes) <= float64(s.maxBytes)*protectedShare
}

// restrict sends protected entries back on probation until the others fit into their share. The caller holds s.mu.
func (s *shard) restrict() {
	g := &s.protected
	for float64(g.lru.Len()) > float64(s.maxEntries)*protectedShare || float64(g.bytes) > float64(s.maxBytes)*protectedShare {
		k, e, _ := g.lru.GetOldest()
		g.remove(k, e)
		s.probation.put(k, e)
	}
}

// flush removes all entries.
func (s *shard) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range [...]*segment{&s.probation, &s.protected} {
		for _, k := range g.lru.Keys() {
			s.evicted[k.kind][byFlush]++
		}
		g.lru.Purge()
		g.bytes = 0
	}
}

// shardsFor returns a power of two, up to 16, that leaves every shard at least 64 entries and 1 MiB.
func shardsFor(entries int, bytes int64) int {
	n := min(int64(entries/64), bytes>>20, 16)
	if n < 2 {
		return 1
	}
	return 1 << (bits.Len64(uint64(n)) - 1)
}
