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
	hash      uint64 // of the other fields
}

// node is the place of a key's entry in a shard.
type node struct {
	key
	entry atomic.Pointer[entry]
	next  atomic.Pointer[node] // in the bucket

	// answered is set when the entry, or one that it has replaced, answers a read. It is cleared when the node is protected.
	answered atomic.Bool
}

// shard is a segmented LRU (Karedla, Love and Wherry, 1994) with its own lock and its own share of the bounds. A new entry
// is on probation. If it has answered a read by the time that it would be evicted, it is protected instead, so that an
// export does not evict hot entries. When the protected entries exceed their share, the oldest go back on probation.
//
// A shard's lock guards its segments and its part of the index.
type shard struct {
	index      index
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
	lru   *simplelru.LRU[*node, struct{}]
	bytes int64
}

func newSegment(maxEntries int) segment {
	lru, err := simplelru.NewLRU[*node, struct{}](maxEntries+1, nil) // one more, so that it evicts nothing by itself
	if err != nil {
		panic(err) // only for a size below 1
	}
	return segment{lru: lru}
}

// put makes e the entry of n, the most recently used.
func (g *segment) put(n *node, e *entry) {
	if g.lru.Contains(n) {
		g.bytes -= n.entry.Load().bytes
	}
	n.entry.Store(e)
	g.lru.Add(n, struct{}{})
	g.bytes += e.bytes
}

// remove removes n.
func (g *segment) remove(n *node) {
	g.lru.Remove(n)
	g.bytes -= n.entry.Load().bytes
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
	return &shard{
		index:     newIndex(entriesFor(maxEntries, maxBytes)),
		probation: newSegment(maxEntries), protected: newSegment(maxEntries), maxEntries: maxEntries, maxBytes: maxBytes,
	}
}

// len and bytes count the shard's entries. The caller holds s.mu, here and in segment.
func (s *shard) len() int     { return s.probation.lru.Len() + s.protected.lru.Len() }
func (s *shard) bytes() int64 { return s.probation.bytes + s.protected.bytes }

// segment returns the segment of n. A new node is on probation.
func (s *shard) segment(n *node) *segment {
	if s.protected.lru.Contains(n) {
		return &s.protected
	}
	return &s.probation
}

// index finds the nodes of all shards by their hashes. The nodes of a bucket are in one shard. Reads take no lock. They follow a
// bucket's nodes while others change it: a node is added at the front, and a removed node still leads to the next one.
type index []atomic.Pointer[node]

func newIndex(entries int) index { return make(index, 1<<bits.Len(uint(entries-1))) }

func (x index) bucket(hash uint64) *atomic.Pointer[node] { return &x[hash&uint64(len(x)-1)] }

// find returns the node of k, or nil.
func (x index) find(k *key) *node {
	n := x.bucket(k.hash).Load()
	for n != nil && (n.hash != k.hash || n.id != k.id || n.kind != k.kind || n.partition != k.partition) {
		n = n.next.Load()
	}
	return n
}

// get returns the entry of k, or nil.
func (x index) get(k *key) *entry {
	if n := x.find(k); n != nil {
		return n.entry.Load()
	}
	return nil
}

func (s *shard) find(k key) *node { return s.index.find(&k) }
func (s *shard) get(k key) *entry { return s.index.get(&k) }

// drop removes e if it is still the entry of k.
func (s *shard) drop(k key, e *entry, why eviction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.find(k); n != nil && n.entry.Load() == e {
		s.evict(n, why)
	}
}

// replace makes next the entry of k if e still is. now may be a little old.
func (s *shard) replace(k key, e, next *entry, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.get(k) == e {
		s.put(k, next, now)
	}
}

// remove removes n. The caller holds s.mu, here and in evict.
func (s *shard) remove(n *node) {
	s.segment(n).remove(n)
	at := s.index.bucket(n.hash)
	for at.Load() != n {
		at = &at.Load().next
	}
	at.Store(n.next.Load())
}

func (s *shard) evict(n *node, why eviction) {
	s.remove(n)
	s.evicted[n.kind][why]++
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
	old := s.get(k)
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
	n := s.find(k)
	if e.bytes > s.maxBytes {
		if n != nil {
			s.remove(n)
		}
		s.evicted[k.kind][byTooLarge]++
		return
	}
	known := n != nil
	if !known {
		n = &node{key: k}
	}
	e.answered = &n.answered
	s.segment(n).put(n, e)
	if !known {
		b := s.index.bucket(k.hash)
		n.next.Store(b.Load())
		b.Store(n)
	}
	s.restrict()
	for i := 0; s.len() > s.maxEntries; i++ {
		s.makeRoom(n, byEntries, now, i < mostProtected)
	}
	for i := 0; s.bytes() > s.maxBytes; i++ {
		s.makeRoom(n, byBytes, now, i < mostProtected)
	}
}

// makeRoom evicts an entry to make room for the entry of newest. If mayProtect, it may protect one instead, and the caller
// tries again. The caller holds s.mu.
func (s *shard) makeRoom(newest *node, why eviction, now time.Duration, mayProtect bool) {
	hot, _, some := s.protected.lru.GetOldest()
	if some && hot.entry.Load().expired(now) { // it was hot once, and has not been renewed since
		s.evict(hot, byExpiry)
		return
	}
	n, _, ok := s.probation.lru.GetOldest()
	switch {
	case some && (!ok || n == newest): // the protected entries leave too little room for newest
		s.evict(hot, why)
	case n == newest: // no entry is protected any more: all others went back on probation, behind newest
		s.probation.lru.Get(n)
		n, _, _ = s.probation.lru.GetOldest()
		s.evict(n, why)
	case mayProtect && s.mayProtect(n.entry.Load()) && n.answered.Swap(false):
		s.probation.remove(n)
		s.protected.put(n, n.entry.Load())
		s.restrict()
	default:
		s.evict(n, why)
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
		n, _, _ := g.lru.GetOldest()
		g.remove(n)
		s.probation.put(n, n.entry.Load())
	}
}

// flush removes all entries.
func (s *shard) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range [...]*segment{&s.probation, &s.protected} {
		for _, n := range g.lru.Keys() {
			s.evict(n, byFlush)
		}
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
