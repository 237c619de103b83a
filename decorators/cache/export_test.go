package cache

import "github.com/chatstore/chatstore/store"

// OneWord makes all ids share one generation word.
func OneWord() Option { return func(c *config) { c.words = 1 } }

// NoJitter gives every entry its whole TTL.
func NoJitter() Option { return func(c *config) { c.jitter = func() float64 { return 0 } } }

// Audit returns the bytes on the accounts of s, a cache, and what its entries cost, counted anew.
func Audit(s store.Store) (account, counted int64, entries int) {
	for _, sh := range s.(*layer).shards {
		sh.mu.Lock()
		account += sh.bytes
		for _, k := range sh.lru.Keys() {
			e, _ := sh.lru.Peek(k)
			counted += e.cost(k)
			entries++
		}
		sh.mu.Unlock()
	}
	return account, counted, entries
}

// Numbers is the set of writes that ended unknown.
type Numbers struct{ n numbers }

func NewNumbers() *Numbers           { return new(Numbers) }
func (n *Numbers) Add(w uint64)      { n.n.add(w) }
func (n *Numbers) Has(w uint64) bool { return n.n.has(w) }
func (n *Numbers) Len() int          { return len(n.n.set) }
