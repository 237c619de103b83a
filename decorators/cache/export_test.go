package cache

import (
	"context"

	"github.com/chatstore/chatstore/store"
)

// OneCounter makes all ids share one generation counter.
func OneCounter() Option { return func(c *config) { c.counters = 1 } }

// NoJitter gives every entry the full TTL, and every poll the full interval.
func NoJitter() Option { return Jitter(func() float64 { return 0 }) }

// Jitter draws from f, which returns numbers from 0 to 1.
func Jitter(f func() float64) Option { return func(c *config) { c.jitter = f } }

// Audit returns the bytes that s, a cache, has accounted for, the bytes counted from its entries, and the number of entries.
func Audit(s store.Store) (account, counted int64, entries int) {
	for _, sh := range s.(*cached).shards {
		sh.mu.Lock()
		account += sh.bytes()
		for _, g := range [...]segment{sh.probation, sh.protected} {
			for _, n := range g.lru.Keys() {
				e := n.entry.Load()
				e.window.items() // counts the window's bytes
				counted += e.cost(n.key)
				entries++
			}
		}
		sh.mu.Unlock()
	}
	return account, counted, entries
}

// Numbers is the set of writes with an unknown outcome.
type Numbers struct{ n numbers }

func NewNumbers() *Numbers           { return new(Numbers) }
func (n *Numbers) Add(w uint64)      { n.n.add(w) }
func (n *Numbers) Has(w uint64) bool { return n.n.has(w) }
func (n *Numbers) Len() int          { return len(n.n.set) }

// Counter returns one of the counters of s, a cache.
func Counter(s store.Store) uint64 { return uint64(s.(*cached).core.Counters.Load(0)) }

// Serving and Closed return the state of s, a cache.
func Serving(s store.Store) bool { return s.(*cached).serving.Load() }
func Closed(s store.Store) bool  { return s.(*cached).closed.Load() }

// HoldShards locks all entries of s, a cache, until release is called.
func HoldShards(s store.Store) (release func()) {
	shards := s.(*cached).shards
	for _, sh := range shards {
		sh.mu.Lock()
	}
	return func() {
		for _, sh := range shards {
			sh.mu.Unlock()
		}
	}
}

// Poll makes a poll of s, a cache.
func Poll(s store.Store) { s.(*cached).poll(context.Background()) }
