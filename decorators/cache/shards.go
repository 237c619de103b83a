package cache

import (
	"cmp"
	"hash/maphash"
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

	segment *segment // that it is in; read and changed under its shard's mu

	// answered is set when the entry, or one that it has replaced, answers a read. makeRoom clears it.
	answered atomic.Bool
}

// shard is an S3-FIFO (Yang and others, 2023) with its own lock and its own share of the bounds. A new entry is on probation,
// so that an export does not evict hot entries. When room is needed, the oldest entry goes. If it has answered a read since
// it came or was last looked at, it becomes the newest protected one instead. An entry that comes back soon after it was
// removed is protected at once.
//
// A shard's lock guards its segments and its part of the index.
type shard struct {
	index
	mu         sync.Mutex
	probation  segment
	protected  segment
	gone       []uint64 // marks of entries that were removed lately
	seed       maphash.Seed
	maxEntries int
	maxBytes   int64
	evicted    [len(entryKinds)][numEvictions]uint64
}

// A tenth of the bounds is for entries on probation, however many are protected.
const probationShare = 10

// mostMoved bounds how many entries one fill may keep because they have answered. So a fill holds the lock for a short time
// even if all entries of the shard have answered.
const mostMoved = 64

// segment is a list of nodes. bytes is exactly the sum of its entries' costs.
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

// add makes n the newest node.
func (g *segment) add(n *node) {
	g.lru.Add(n, struct{}{})
	g.bytes += n.entry.Load().bytes
}

// oldest returns the oldest node other than newest, or nil.
func (g *segment) oldest(newest *node) *node {
	n, _, _ := g.lru.GetOldest()
	if n != newest {
		return n
	}
	g.lru.Get(n) // it is the newest again
	if n, _, _ = g.lru.GetOldest(); n != newest {
		return n
	}
	return nil
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
	byPoll                     // the base has another version
	byFlush                    // the bus connected again, the base has a new epoch, or the cache was closed
	numEvictions
)

var evictionNames = [numEvictions]string{"entries", "bytes", "expired", "overtaken", "too_large", "polled", "flushed"}

func newShard(x index, maxEntries int, maxBytes int64) *shard {
	return &shard{
		index: x, probation: newSegment(maxEntries), protected: newSegment(maxEntries), maxEntries: maxEntries, maxBytes: maxBytes,
		gone: make([]uint64, entriesFor(maxEntries, maxBytes)/6+1), seed: maphash.MakeSeed(),
	}
}

// len and bytes count the shard's entries. The caller holds s.mu.
func (s *shard) len() int     { return s.probation.lru.Len() + s.protected.lru.Len() }
func (s *shard) bytes() int64 { return s.probation.bytes + s.protected.bytes }

// trace returns the mark of k, and its place in gone. Many keys have the same hash, few the same mark.
func (s *shard) trace(k key) (mark uint64, gone *uint64) {
	mark = maphash.String(s.seed, k.id) ^ k.hash
	return mark, &s.gone[mark%uint64(len(s.gone))]
}

// index finds the nodes of all shards by their hashes. The nodes of a bucket are in one shard. Reads take no lock. They follow a
// bucket's nodes while others change the bucket: a node is added at the front, and a removed node still leads to the next one.
// So a read finds every node that stays. It may miss one that is added meanwhile.
type index []atomic.Pointer[node]

// newIndex returns an index for usual entries. It is also fast for more that are smaller.
func newIndex(usual int) index { return make(index, 1<<bits.Len(uint(4*usual-1))) }

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

// drop removes e if it is still the entry of k.
func (s *shard) drop(k key, e *entry, why eviction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.find(&k); n != nil && n.entry.Load() == e {
		s.evict(n, why)
	}
}

// replace makes next the entry of k if e still is. now may be a little old.
func (s *shard) replace(k key, e, next *entry, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.get(&k) == e {
		s.put(k, next, now)
	}
}

// remove removes n. The caller holds s.mu, here and in evict.
func (s *shard) remove(n *node) {
	n.segment.remove(n)
	at := s.bucket(n.hash)
	for at.Load() != n {
		at = &at.Load().next
	}
	at.Store(n.next.Load())
}

func (s *shard) evict(n *node, why eviction) {
	s.remove(n)
	mark, gone := s.trace(n.key)
	*gone = mark
	s.evicted[n.kind][why]++
}

// fill makes e the entry of k, unless its tag differs from current, the counter of k. It merges e with an entry of the same
// tag and version. An entry of a newer version stays while it may answer. With whole, e replaces an entry if neither has a version. Replacing an
// entry does not count as an eviction.
func (s *shard) fill(k key, e *entry, current generation.Counter, now time.Duration, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.tag != current {
		return // a write overtook the load: the present entry may be newer
	}
	old := s.get(&k)
	if old != nil && old.tag == e.tag && !old.expired(now) && !old.lapsed(now) && old.version.known == e.version.known {
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
	n := s.find(&k)
	if e.bytes > s.maxBytes {
		if n != nil {
			s.remove(n)
		}
		s.evicted[k.kind][byTooLarge]++
		return
	}
	if n == nil {
		n = &node{key: k, segment: &s.probation}
		if mark, gone := s.trace(k); *gone == mark {
			n.segment = &s.protected
		}
		e.answered = &n.answered
		n.entry.Store(e)
		n.segment.add(n)
		b := s.bucket(k.hash)
		n.next.Store(b.Load())
		b.Store(n)
	} else { // it keeps its place
		e.answered = &n.answered
		n.segment.bytes += e.bytes - n.entry.Swap(e).bytes
	}
	for i := 0; s.len() > s.maxEntries; i++ {
		s.makeRoom(n, byEntries, s.probation.lru.Len() > s.maxEntries/probationShare, now, i)
	}
	for i := 0; s.bytes() > s.maxBytes; i++ {
		s.makeRoom(n, byBytes, s.probation.bytes > s.maxBytes/probationShare, now, i)
	}
}

// makeRoom evicts an entry to make room for newest, or keeps one, and the caller tries again. If probation is crowded, it
// takes more than its share. tried counts the calls before.
func (s *shard) makeRoom(newest *node, why eviction, crowded bool, now time.Duration, tried int) {
	n := s.protected.oldest(newest)
	if n == nil || crowded && !n.entry.Load().expired(now) {
		n = cmp.Or(s.probation.oldest(newest), n)
	}
	switch {
	case n.entry.Load().expired(now): // it was hot once, and has not been renewed since
		s.evict(n, byExpiry)
	case tried < min(mostMoved, s.len()-2) && n.answered.Swap(false): // if all were kept, the first would go
		n.segment.remove(n)
		n.segment = &s.protected
		n.segment.add(n)
	default:
		s.evict(n, why)
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
