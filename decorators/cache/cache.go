// Package cache keeps hot threads in memory, so that a turn of a chat on a warm thread costs the backend no read.
//
// Its unit is a thread, not a call. An entry holds a thread's metadata, a window of its newest items, and some items loaded by
// id. So one entry answers the newest-20, -6, -2 and -1 reads of a turn, and a write changes the entry in place. Attachments
// are held by id. Listings of threads are not cached, nor are errors and absent rows.
//
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
//	defer store.Close(s)
//
// Do not use it over a read replica: it would keep the replica's lag. Do not use it where an answer depends on more than the
// arguments and the principal.
//
// # Consistency
//
// Within one process reads stay linearizable per thread. A read that begins after a write has returned sees that write,
// and every read equals the base at some instant between its begin and its end. For that, all writes of the process must
// pass through one cache per base.
//
// Writes of other processes are seen after the TTL at the latest ([WithTTL]), or as soon as a [bus.Bus] tells of them
// ([WithBus]). Where the bus delivers before Publish returns ([bus.Local]), a read through any cache sees every write that
// has returned. A write that has not returned yet may be seen through one cache and not through another. [store.WithFresh]
// reads the base.
//
// A write patches its entry only from a known state: the base reports thread versions ([driver.ReportVersion]), and the
// write met the version that the entry has. [WithSoleWriter] replaces the versions by the user's word that nobody else
// writes. Otherwise a write drops the entry.
//
// # Bounds
//
// Entries are bounded in bytes and in number. An entry that has answered a read is protected from rows that are read once,
// as by an export: those compete for a fifth of the bounds.
//
// # Principals
//
// An entry answers the principal that loaded it, and no other, unless an authz layer above says that principals share
// (authz.ShareBelow). A cache around an authz layer would answer without asking the policy: New's Middleware panics there.
package cache

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// The defaults of the options.
const (
	DefaultMaxBytes    = 64 << 20
	DefaultMaxEntries  = 10_000
	DefaultTTL         = 5 * time.Minute
	DefaultWindow      = 64
	DefaultLoadTimeout = 30 * time.Second
)

// mostEntries bounds WithMaxEntries, for which tables are allocated in advance: these of 2 GiB.
const mostEntries = 1 << 24

type config struct {
	maxBytes    int64
	maxEntries  int
	ttl         time.Duration
	window      int
	loadTimeout time.Duration
	quarantine  time.Duration
	soleWriter  bool
	bus         bus.Bus
	logger      *slog.Logger // nil: slog.Default, when something is logged

	counters int            // 0: by the bounds
	jitter   func() float64 // nil: random
}

// Option changes what New makes.
type Option func(*config)

// WithMaxBytes bounds the bytes of all entries together; the default is DefaultMaxBytes. The bound is split over the cache's
// shards: an entry that is larger than a shard's part is not cached. As the allocator rounds sizes up, the entries take a few
// per cent more of the live heap, and at worst 1.3 times as much. WithMaxBytes panics unless n is positive.
func WithMaxBytes(n int64) Option {
	must(n > 0, "WithMaxBytes: the bound must be positive")
	return func(c *config) { c.maxBytes = n }
}

// WithMaxEntries bounds the number of entries; the default is DefaultMaxEntries. An entry is a thread or an attachment, of one
// principal unless they share. Each costs 128 to 256 bytes of fixed tables beside the bytes of WithMaxBytes. New allocates
// the tables, but none for entries that those bytes have no room for. WithMaxEntries panics unless n is 1 to 16,777,216.
func WithMaxEntries(n int) Option {
	must(n > 0 && n <= mostEntries, fmt.Sprintf("WithMaxEntries: the bound must be 1 to %d", mostEntries))
	return func(c *config) { c.maxEntries = n }
}

// WithTTL bounds how long after its load an entry answers; the default is DefaultTTL. Each entry's own time is up to a tenth
// shorter, so that they do not end together. A patch by a write that met the entry's version renews it. 0 means for ever:
// only where no other process writes. WithTTL panics if d is negative.
func WithTTL(d time.Duration) Option {
	must(d >= 0, "WithTTL: the time is negative: use 0 for ever")
	return func(c *config) { c.ttl = d }
}

// WithWindow sets how many of a thread's newest items an entry holds; the default is DefaultWindow. A miss asks the base for
// that many. WithWindow panics unless n is 1 to store.MaxLimit.
func WithWindow(n int) Option {
	must(n > 0 && n <= store.MaxLimit, fmt.Sprintf("WithWindow: the number of items must be 1 to %d", store.MaxLimit))
	return func(c *config) { c.window = n }
}

// WithLoadTimeout limits a load that several callers may wait for, whatever deadlines they have; the default is
// DefaultLoadTimeout. With 0, a load ends when nobody waits for it any more. WithLoadTimeout panics if d is negative.
func WithLoadTimeout(d time.Duration) Option {
	must(d >= 0, "WithLoadTimeout: the time is negative: use 0 for no limit")
	return func(c *config) { c.loadTimeout = d }
}

// WithQuarantine says how long a write with an unknown outcome may still take effect. Until then its thread is neither
// answered from the cache nor stored in it. The default is what the base says ([driver.WriteBounder]), else one minute; the
// larger of the two counts. WithQuarantine panics if d is negative.
func WithQuarantine(d time.Duration) Option {
	must(d >= 0, "WithQuarantine: the time is negative: use 0 where a write never outlives its call")
	return func(c *config) { c.quarantine = d }
}

// WithSoleWriter is the user's word that nothing but this cache writes to the base. Writes then patch entries even if the base
// does not report versions. If the counter is not true, a patch may keep alive until the TTL what another's write made false.
// It contradicts WithBus.
func WithSoleWriter() Option { return func(c *config) { c.soleWriter = true } }

// WithBus tells other caches of this one's writes, and drops what they tell of. Reads pass the cache by while the bus is not
// connected, or beyond its lease ([bus.Leaser]). A write returns when the bus has taken its change, or after 5 seconds. A
// change that the bus does not take is counted (chatstore_cache_unsent_changes_total). Others then see the write when the
// bus notices the gap, or after their TTL. It contradicts WithSoleWriter. WithBus panics if b is nil.
func WithBus(b bus.Bus) Option {
	must(b != nil, "WithBus: the bus is nil: leave the option out where there is none")
	return func(c *config) { c.bus = b }
}

// WithLogger sets where the cache logs; the default is slog.Default. The cache logs one warning at most: a write dropped its
// thread because it reported no version and WithSoleWriter is not set. WithLogger panics if l is nil.
func WithLogger(l *slog.Logger) Option {
	must(l != nil, "WithLogger: the logger is nil: leave the option out for slog.Default")
	return func(c *config) { c.logger = l }
}

// New returns the cache as a Middleware. New panics if two options contradict each other. The Middleware panics around an
// authz layer.
//
// # Loads
//
// Concurrent misses for one key share a load. If the base panics in it, every caller that waits for it panics, with an error
// whose text has the value and the stack of the load. The error unwraps to the value if that is an error. A load that ends
// its goroutine (runtime.Goexit) is CodeInternal, and one that reaches [WithLoadTimeout] is CodeTimeout.
//
// # Statistics
//
// The layer is a [layer.StatsReporter]:
//
//	chatstore_cache_requests_total{kind, result}     kind: thread, items, item, attachment; result: hit, miss, bypass
//	chatstore_cache_evictions_total{kind, reason}    reason: entries, bytes, expired, overtaken, too_large, flushed
//	chatstore_cache_patches_total{result}            writes that met an entry: patched, dropped
//	chatstore_cache_entries, chatstore_cache_bytes   what is held now
//	chatstore_cache_quarantined                      counters held back after writes with an unknown outcome
//	chatstore_cache_unsent_changes_total             changes that the bus did not take
//	chatstore_flights_total{operation, role}         loads: leader, follower
//
// The statistics of a bus that has some are among them.
func New(opts ...Option) store.Middleware {
	c := config{
		maxBytes: DefaultMaxBytes, maxEntries: DefaultMaxEntries, ttl: DefaultTTL, window: DefaultWindow,
		loadTimeout: DefaultLoadTimeout, quarantine: -1,
	}
	for _, o := range opts {
		o(&c)
	}
	must(!c.soleWriter || c.bus == nil, "New: WithSoleWriter and WithBus contradict each other: a bus is there for other writers")
	return func(next store.Store) store.Store {
		must(!layer.Guarded(next), "New: around an authz layer the cache would answer without asking the policy: "+
			"put authz before the cache in store.Wrap")
		return newLayer(next, c)
	}
}

func must(ok bool, sentence string) {
	if !ok {
		panic("cache." + sentence)
	}
}
