package bench

import (
	"context"
	"sync"

	ristretto1 "github.com/dgraph-io/ristretto"
	"github.com/dgraph-io/ristretto/v2"
	gocache "github.com/eko/gocache/lib/v4/cache"
	gostore "github.com/eko/gocache/lib/v4/store"
	goristretto "github.com/eko/gocache/store/ristretto/v4"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"
	"github.com/viccon/sturdyc"

	"github.com/chatstore/chatstore/decorators/cache"
)

// A peer is a cache that a user could put before a store by hand. It caches values of one type by a string. Get loads
// missing values.
type peer[V any] interface {
	Get(ctx context.Context, key string) (V, error)
	Delete(ctx context.Context, key string)
	Close()
}

// source has the load function and the bounds of a peer. A peer that counts sizes is bounded by bytes, any other by entries.
type source[V any] struct {
	load    func(ctx context.Context, key string) (V, error)
	size    func(V) int
	entries int
	bytes   int
}

// sized returns a source for that many entries of size 1.
func sized[V any](load func(context.Context, string) (V, error), entries int) source[V] {
	return source[V]{load, func(V) int { return 1 }, entries, entries}
}

// loadFor loads a missing value, for a cache that does not load by itself. set stores it.
func (s source[V]) loadFor(ctx context.Context, key string, set func(V)) (V, error) {
	v, err := s.load(ctx, key)
	if err == nil {
		set(v)
	}
	return v, err
}

// peerTTL is the default TTL of the cache decorator.
const peerTTL = cache.DefaultTTL

// namedPeer makes a peer.
type namedPeer[V any] struct {
	name string
	new  func(source[V]) peer[V]
}

// peersOf returns all peers, each configured as its documentation recommends.
func peersOf[V any]() []namedPeer[V] {
	return []namedPeer[V]{
		{"map and mutex", newPlain[V]},
		{"golang-lru", newLRU[V]},
		{"otter v2", newOtter[V]},
		{"ristretto v2", newRistretto[V]},
		{"sturdyc", newSturdyc[V]},
		{"gocache", newGocache[V]},
	}
}

// indexOfLRU is the index of golang-lru. The others are compared with it.
const indexOfLRU = 1

// plain is a map with a mutex and no bound, as the simplest cache.
type plain[V any] struct {
	source[V]
	mu sync.Mutex
	m  map[string]V
}

func newPlain[V any](s source[V]) peer[V] { return &plain[V]{source: s, m: map[string]V{}} }

func (p *plain[V]) Get(ctx context.Context, key string) (V, error) {
	p.mu.Lock()
	v, ok := p.m[key]
	p.mu.Unlock()
	if ok {
		return v, nil
	}
	return p.loadFor(ctx, key, func(v V) {
		p.mu.Lock()
		p.m[key] = v
		p.mu.Unlock()
	})
}

func (p *plain[V]) Delete(_ context.Context, key string) {
	p.mu.Lock()
	delete(p.m, key)
	p.mu.Unlock()
}

func (p *plain[V]) Close() {}

// lruPeer is golang-lru. It is bounded by entries, has no TTL and does not share loads.
type lruPeer[V any] struct {
	source[V]
	c *lru.Cache[string, V]
}

func newLRU[V any](s source[V]) peer[V] {
	c, err := lru.New[string, V](s.entries)
	check(err) // fails only for a size below 1
	return lruPeer[V]{s, c}
}

func (p lruPeer[V]) Get(ctx context.Context, key string) (V, error) {
	if v, ok := p.c.Get(key); ok {
		return v, nil
	}
	return p.loadFor(ctx, key, func(v V) { p.c.Add(key, v) })
}

func (p lruPeer[V]) Delete(_ context.Context, key string) { p.c.Remove(key) }
func (p lruPeer[V]) Close()                               {}

// otterPeer is otter v2 with its loading Get, which shares loads.
type otterPeer[V any] struct {
	c    *otter.Cache[string, V]
	load otter.Loader[string, V]
}

func newOtter[V any](s source[V]) peer[V] {
	return otterPeer[V]{
		c: otter.Must(&otter.Options[string, V]{
			MaximumWeight: uint64(s.bytes), Weigher: func(_ string, v V) uint32 { return uint32(s.size(v)) },
			ExpiryCalculator: otter.ExpiryWriting[string, V](peerTTL),
		}),
		load: otter.LoaderFunc[string, V](s.load),
	}
}

func (p otterPeer[V]) Get(ctx context.Context, key string) (V, error) {
	return p.c.Get(ctx, key, p.load)
}
func (p otterPeer[V]) Delete(_ context.Context, key string) { p.c.Invalidate(key) }
func (p otterPeer[V]) Close()                               { p.c.StopAllGoroutines() }

// ristrettoPeer is ristretto v2. It is bounded by cost, here bytes. It sets values later or drops them, and does not share
// loads.
type ristrettoPeer[V any] struct {
	source[V]
	c *ristretto.Cache[string, V]
}

func newRistretto[V any](s source[V]) peer[V] {
	c, err := ristretto.NewCache(&ristretto.Config[string, V]{
		NumCounters: int64(10 * s.entries), MaxCost: int64(s.bytes), BufferItems: 64, IgnoreInternalCost: true, // size returns the whole cost
	})
	check(err) // fails only for a size below 1
	return ristrettoPeer[V]{s, c}
}

func (p ristrettoPeer[V]) Get(ctx context.Context, key string) (V, error) {
	if v, ok := p.c.Get(key); ok {
		return v, nil
	}
	return p.loadFor(ctx, key, func(v V) { p.c.SetWithTTL(key, v, int64(p.size(v)), peerTTL) })
}

func (p ristrettoPeer[V]) Delete(_ context.Context, key string) { p.c.Del(key) }
func (p ristrettoPeer[V]) Close()                               { p.c.Close() }

// sturdycPeer is sturdyc with GetOrFetch, which shares loads. It is bounded by entries.
type sturdycPeer[V any] struct {
	source[V]
	c *sturdyc.Client[V]
}

func newSturdyc[V any](s source[V]) peer[V] {
	const shards, evicted = 10, 10 // in percent; both as in its README
	return sturdycPeer[V]{s, sturdyc.New[V](max(s.entries, shards), shards, peerTTL, evicted, sturdyc.WithNoContinuousEvictions())}
}

func (p sturdycPeer[V]) Get(ctx context.Context, key string) (V, error) {
	if v, ok := p.c.Get(key); ok { // spares a hit the closure
		return v, nil
	}
	return p.c.GetOrFetch(ctx, key, func(ctx context.Context) (V, error) { return p.load(ctx, key) })
}

func (p sturdycPeer[V]) Delete(_ context.Context, key string) { p.c.Delete(key) }
func (p sturdycPeer[V]) Close()                               {}

// gocachePeer is gocache's loadable cache, which shares loads, over its ristretto store.
type gocachePeer[V any] struct {
	c     *gocache.LoadableCache[V]
	under *ristretto1.Cache
}

func newGocache[V any](s source[V]) peer[V] {
	under, err := ristretto1.NewCache(&ristretto1.Config{NumCounters: int64(10 * s.entries), MaxCost: int64(s.bytes), BufferItems: 64, IgnoreInternalCost: true})
	check(err) // fails only for a size below 1
	load := func(ctx context.Context, key any) (V, []gostore.Option, error) {
		v, err := s.load(ctx, key.(string))
		if err != nil {
			return v, nil, err
		}
		return v, []gostore.Option{gostore.WithCost(int64(s.size(v))), gostore.WithExpiration(peerTTL)}, nil
	}
	return gocachePeer[V]{gocache.NewLoadable[V](load, gocache.New[V](goristretto.NewRistretto(under))), under}
}

func (p gocachePeer[V]) Get(ctx context.Context, key string) (V, error) { return p.c.Get(ctx, key) }

func (p gocachePeer[V]) Delete(ctx context.Context, key string) {
	_ = p.c.Delete(ctx, key) // cannot fail in memory
}

func (p gocachePeer[V]) Close() {
	_ = p.c.Close()
	p.under.Close()
}
