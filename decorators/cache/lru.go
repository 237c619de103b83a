package cache

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store"
)

// key names an entry. The partition is part of it as a value of its own, so no id can reach into another's.
type key struct {
	partition store.Partition
	kind      byte // coherence.ThreadWord or AttachmentWord
	id        string
}

// shard is one LRU with its own lock and its own share of the bounds. Its accounts are exact: bytes is the sum of the costs
// of its entries.
type shard struct {
	mu       sync.Mutex
	lru      *simplelru.LRU[key, *entry]
	bytes    int64
	maxBytes int64
	why      eviction // the reason of the removal under way, for the callback
	evicted  [len(entryKinds)][numEvictions]uint64
}

// entryKinds are the kinds of entries, by the kind of their key.
var entryKinds = [...]string{coherence.ThreadWord: "thread", coherence.AttachmentWord: "attachment"}

// eviction says why an entry went.
type eviction uint8

const (
	byEntries  eviction = iota // too many entries
	byBytes                    // too many bytes
	byExpiry                   // its time was over
	byWrite                    // a write, or a change elsewhere, overtook it
	byTooLarge                 // it would not fit at all
	byFlush                    // the bus had a gap, or the cache was closed
	numEvictions
)

var evictionNames = [numEvictions]string{"entries", "bytes", "expired", "overtaken", "too_large", "flushed"}

func newShard(maxEntries int, maxBytes int64) *shard {
	s := &shard{maxBytes: maxBytes}
	lru, err := simplelru.NewLRU[key, *entry](maxEntries, func(k key, e *entry) {
		s.bytes -= e.bytes
		s.evicted[k.kind][s.why]++
	})
	if err != nil {
		panic(err) // only for a size below 1, which New refuses
	}
	s.lru = lru
	return s
}

// get returns the entry of k, the most recently used now.
func (s *shard) get(k key) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.lru.Get(k)
	return e
}

// peek returns the entry of k and leaves its place.
func (s *shard) peek(k key) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.lru.Peek(k)
	return e
}

// drop removes e, if it is still what k has.
func (s *shard) drop(k key, e *entry, why eviction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now, ok := s.lru.Peek(k); ok && now == e {
		s.why = why
		s.lru.Remove(k)
	}
}

// fill puts e under k, merged with what is there if both are true at the same state. current is the word of k, now is the
// time. An entry that is replaced is not an eviction.
func (s *shard) fill(k key, e *entry, current generation.Word, now time.Duration, whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.tag != current {
		return // overtaken: what is there may be newer
	}
	old, ok := s.lru.Peek(k)
	if ok && old.tag == e.tag && !old.expired(now) && old.version.known == e.version.known {
		switch {
		case old.version == e.version && (!whole || e.version.known):
			e = merge(old, e)
		case old.version.n > e.version.n:
			return // another process's write came between: the older answer is no use
		}
	}
	s.put(k, e)
}

// put makes e the entry of k: without its items if they make it too large, or none at all if it still is. s.mu is held.
func (s *shard) put(k key, e *entry) {
	e.bytes = e.cost(k)
	if e.bytes > s.maxBytes && e.hasThread && (e.hasWindow || len(e.loose) > 0) {
		// Large items must not cost the thread its place.
		lean := *e
		lean.window, lean.hasWindow, lean.loose = window{}, false, nil
		lean.bytes = lean.cost(k)
		if lean.bytes <= s.maxBytes {
			s.evicted[k.kind][byTooLarge]++
		}
		e = &lean
	}
	if e.bytes > s.maxBytes {
		if s.why = byTooLarge; !s.lru.Remove(k) {
			s.evicted[k.kind][byTooLarge]++
		}
		return
	}
	// Add calls the eviction callback for another key, but not for the value it replaces.
	if old, ok := s.lru.Peek(k); ok {
		s.bytes -= old.bytes
	}
	s.bytes += e.bytes
	s.why = byEntries
	s.lru.Add(k, e)
	for s.why = byBytes; s.bytes > s.maxBytes; {
		s.lru.RemoveOldest()
	}
}

// flush removes everything.
func (s *shard) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = byFlush
	s.lru.Purge()
}

// expired reports whether e's time is over.
func (e *entry) expired(now time.Duration) bool { return e.expires != 0 && now >= e.expires }
