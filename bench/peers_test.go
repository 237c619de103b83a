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

// A peer is a cache that one would put in front of a store by hand: values of one type under strings. Get loads what is missing.
type peer[V any] interface {
	Get(ctx context.Context, key string) (V, error)
	Delete(ctx context.Context, key string)
	Close()
}

// source is what a peer loads from, and how large the peer may get. A peer that counts sizes is bounded by bytes, the others by
// entries.
type source[V any] struct {
	load    func(ctx context.Context, key string) (V, error)
	size    func(V) int
	entries int
	bytes   int
}

// sized is a source of so many entries, each of size 1.
func sized[V any](load func(context.Context, string) (V, error), entries int) source[V] {
	return source[V]{load, func(V) int { return 1 }, entries, entries}
}

// loadFor loads what is missing, for a cache that does not load by itself: set keeps it.
func (s source[V]) loadFor(ctx context.Context, key string, set func(V)) (V, error) {
	v, err := s.load(ctx, key)
	if err == nil {
		set(v)
	}
	return v, err
}

// peerTTL is that of the cache decorator.
const peerTTL = cache.DefaultTTL

// namedPeer makes a peer.
type namedPeer[V any] struct {
	name string
	new  func(source[V]) peer[V]
}

// peersOf are all peers, each set up as its own documentation recommends.
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

// indexOfLRU is where golang-lru is among them: what the others are compared with.
const indexOfLRU = 1

// plain is a map under a mutex, without a bound: the least there can be.
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

// lruPeer is golang-lru: bounded by entries. It neither expires nor shares loads.
type lruPeer[V any] struct {
	source[V]
	c *lru.Cache[string, V]
}

func newLRU[V any](s source[V]) peer[V] {
	c, err := lru.New[string, V](s.entries)
	check(err) // fails for a size below 1
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

// ristrettoPeer is ristretto v2: bounded by cost, here bytes. It sets when it comes to it, or not at all, and shares no loads.
type ristrettoPeer[V any] struct {
	source[V]
	c *ristretto.Cache[string, V]
}

func newRistretto[V any](s source[V]) peer[V] {
	c, err := ristretto.NewCache(&ristretto.Config[string, V]{
		NumCounters: int64(10 * s.entries), MaxCost: int64(s.bytes), BufferItems: 64, IgnoreInternalCost: true, // size says all
	})
	check(err) // fails for a size below 1
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

// sturdycPeer is sturdyc with GetOrFetch, which shares loads: bounded by entries.
type sturdycPeer[V any] struct {
	source[V]
	c *sturdyc.Client[V]
}

func newSturdyc[V any](s source[V]) peer[V] {
	const shards, evicted = 10, 10 // per cent; both as its README has them
	return sturdycPeer[V]{s, sturdyc.New[V](max(s.entries, shards), shards, peerTTL, evicted, sturdyc.WithNoContinuousEvictions())}
}

func (p sturdycPeer[V]) Get(ctx context.Context, key string) (V, error) {
	if v, ok := p.c.Get(key); ok { // which spares a hit the closure
		return v, nil
	}
	return p.c.GetOrFetch(ctx, key, func(ctx context.Context) (V, error) { return p.load(ctx, key) })
}

func (p sturdycPeer[V]) Delete(_ context.Context, key string) { p.c.Delete(key) }
func (p sturdycPeer[V]) Close()                               {}

// gocachePeer is gocache's loadable cache, which shares loads, over its store on ristretto.
type gocachePeer[V any] struct {
	c     *gocache.LoadableCache[V]
	under *ristretto1.Cache
}

func newGocache[V any](s source[V]) peer[V] {
	under, err := ristretto1.NewCache(&ristretto1.Config{NumCounters: int64(10 * s.entries), MaxCost: int64(s.bytes), BufferItems: 64, IgnoreInternalCost: true})
	check(err) // fails for a size below 1
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
