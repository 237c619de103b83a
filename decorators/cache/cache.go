// Package cache keeps hot threads in memory, so that a turn of a chat on a warm thread costs the backend no read.
//
// Its unit is a thread, not a call: per thread it holds the metadata, a window of the newest items, and some items loaded
// by id, so that the newest-20, -6, -2 and -1 reads of a turn are one entry, and a write changes that entry in place instead
// of throwing it away. Attachments are held by id. Listings of threads are not cached.
//
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
//	defer store.Close(s)
//
// Within one process reads stay linearizable per thread: a read that begins after a write has returned sees it, whatever
// the two have in common, and every read equals the base at some instant of its own interval. For that, all writes of the
// process must pass through one cache per base. Between caches on a [store.Bus], the first holds when the Bus delivers before
// Publish returns ([LocalBus]); a read through one cache may still be answered with what a write through another, that has
// not returned yet, is about to end. Writes of other processes are seen after the TTL at the latest ([WithTTL]), or as soon as
// the Bus tells. [store.WithFresh] sees the base.
//
// A write patches its entry only from a known state: if the base reports thread versions ([store.ReportVersion]) and the
// write met the very version that the entry has, or if the user gave their word that no other process writes
// ([WithSoleWriter]). Otherwise it drops the entry.
//
// What is held is bounded, in bytes and entries. What has answered is protected from what came once, as in an export: of the bounds
// a fifth is enough for that.
//
// Principals are kept apart: what one loaded answers no other, unless an authz layer above decides who may see what and
// says so (authz.ShareBelow). Around an authz layer a cache would answer without asking the policy; New's Middleware
// panics there unless told otherwise ([AllowAroundAuthz]).
//
// Three answers of the layer are its own: a panic of the base in a shared load reaches every caller as an error value whose text
// has the value and the stack of the load, and which unwraps to the value if that is an error; a load that ends its goroutine
// (runtime.Goexit) is CodeInternal; and one that reaches [WithLoadTimeout] is CodeTimeout.
//
// It counts ([store.StatsReporter]):
//
//	chatstore_cache_requests_total{kind, result}     kind: thread, items, item, attachment; result: hit, miss, bypass
//	chatstore_cache_evictions_total{kind, reason}    reason: entries, bytes, expired, overtaken, too_large, flushed
//	chatstore_cache_patches_total{result}            writes that met an entry: patched, dropped
//	chatstore_cache_entries, chatstore_cache_bytes   what is held now
//	chatstore_cache_quarantined                      words held back after writes with an unknown outcome
//	chatstore_cache_unsent_changes_total             changes that the bus did not take
//	chatstore_flights_total{operation, role}         loads: leader, follower
//
// and what its bus counts, if that counts.
//
// Do not use it over a read replica (it would keep the replica's lag), nor where an answer depends on more than the arguments and
// the principal. Errors and absent rows are not cached.
package cache

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
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

// wordsPerEntry keeps it rare that a write to one thread makes another's entry useless.
const wordsPerEntry = 16

// leastCost is that of the smallest entry.
const leastCost = int64(entryBytes + lruBytes)

// mostEntries bounds WithMaxEntries, for which tables are allocated in advance: these of 2 GiB.
const mostEntries = 1 << 24

type config struct {
	maxBytes         int64
	maxEntries       int
	ttl              time.Duration
	window           int
	loadTimeout      time.Duration
	quarantine       time.Duration
	soleWriter       bool
	allowAroundAuthz bool
	bus              bus.Bus

	shards int                               // 0: by the bounds
	words  int                               // 0: by the bounds
	hash   func(kind byte, id string) uint64 // nil: random
	jitter func() float64                    // nil: random
}

// Option changes what New makes.
type Option func(*config)

// WithMaxBytes bounds the bytes that the entries hold together; the default is DefaultMaxBytes. The bound is split over the
// cache's shards: an entry that is larger than a shard's part is not cached. Of the process's live heap they take a few per
// cent more than that, and at worst 1.3 times, as the allocator rounds sizes up.
func WithMaxBytes(n int64) Option { return func(c *config) { c.maxBytes = n } }

// WithMaxEntries bounds the number of entries, which are threads and attachments, per principal unless shared; the default is
// DefaultMaxEntries, and 16,777,216 the most. Each costs 128 to 256 bytes of fixed tables, allocated by New, beside the bytes
// of WithMaxBytes; but not those that these bytes have no room for.
func WithMaxEntries(n int) Option { return func(c *config) { c.maxEntries = n } }

// WithTTL bounds how long after its load an entry answers; the default is DefaultTTL. Each entry's own time is up to a tenth
// shorter, so that they do not end together. A patch by a write that met the entry's version renews it. 0 means for ever:
// only where no other process writes.
func WithTTL(d time.Duration) Option { return func(c *config) { c.ttl = d } }

// WithWindow sets how many of a thread's newest items an entry holds; the default is DefaultWindow. A miss asks the base for
// that many. At most store.MaxLimit.
func WithWindow(n int) Option { return func(c *config) { c.window = n } }

// WithLoadTimeout limits a load that several callers may wait for, whatever deadlines they have; the default is
// DefaultLoadTimeout, and 0 means no limit but that somebody waits.
func WithLoadTimeout(d time.Duration) Option { return func(c *config) { c.loadTimeout = d } }

// WithQuarantine says how long a write with an unknown outcome may still take effect. Until then its thread is neither
// answered from the cache nor stored in it. The default is what the base says ([store.WriteBounder]), else one minute; the
// larger of the two counts.
func WithQuarantine(d time.Duration) Option { return func(c *config) { c.quarantine = max(d, 0) } }

// WithSoleWriter is the user's word that nothing but this cache writes to the base. Entries are then patched by writes even if
// the base does not report versions. If it is not true, a patch may keep an entry alive that another's write made false, until
// the TTL. It cannot be had together with WithBus.
func WithSoleWriter() Option { return func(c *config) { c.soleWriter = true } }

// WithBus tells other caches of this one's writes and heeds what they tell. While the bus is not connected, or beyond its
// lease ([store.Leaser]), reads pass the cache by. A write returns when the bus has taken its change, or after 5 seconds; a
// change that the bus does not take is counted (chatstore_cache_unsent_changes_total), and the others then see the write
// when the bus notices the gap, or after their TTL. It cannot be had together with WithSoleWriter.
func WithBus(b bus.Bus) Option { return func(c *config) { c.bus = b } }

// AllowAroundAuthz lets the cache be put around an authz layer. It then answers without asking the policy, within one
// principal's own partition: a change of policy is seen only when entries expire. A TTL is required.
func AllowAroundAuthz() Option { return func(c *config) { c.allowAroundAuthz = true } }

// New returns the cache as a Middleware. It panics if an option makes no sense, with a sentence that says which, and the
// Middleware panics around an authz layer without AllowAroundAuthz.
func New(opts ...Option) store.Middleware {
	c := config{
		maxBytes: DefaultMaxBytes, maxEntries: DefaultMaxEntries, ttl: DefaultTTL, window: DefaultWindow,
		loadTimeout: DefaultLoadTimeout, quarantine: -1,
	}
	for _, o := range opts {
		o(&c)
	}
	must(c.maxBytes > 0, "WithMaxBytes must be positive")
	must(c.maxEntries > 0 && c.maxEntries <= mostEntries, fmt.Sprintf("WithMaxEntries must be 1 to %d", mostEntries))
	must(c.ttl >= 0, "WithTTL must not be negative; 0 is for ever")
	must(c.window > 0 && c.window <= store.MaxLimit, fmt.Sprintf("WithWindow must be 1 to %d", store.MaxLimit))
	must(c.loadTimeout >= 0, "WithLoadTimeout must not be negative; 0 is no limit")
	must(!c.soleWriter || c.bus == nil, "WithSoleWriter and WithBus contradict each other: a bus is there for other writers")
	must(!c.allowAroundAuthz || c.ttl > 0, "AllowAroundAuthz needs a TTL: a change of policy is seen only when entries expire")
	return func(next store.Store) store.Store {
		guarded := layer.Guarded(next)
		must(!guarded || c.allowAroundAuthz, "around an authz layer the cache would answer without asking the policy: "+
			"put the cache inside (authz first in store.Wrap), or say AllowAroundAuthz")
		return newLayer(next, c, guarded)
	}
}

func must(ok bool, sentence string) {
	if !ok {
		panic("cache.New: " + sentence)
	}
}

func newLayer(next store.Store, c config, guarded bool) *stacked {
	shards := c.shards
	if shards == 0 {
		shards = shardsFor(c.maxEntries, c.maxBytes)
	}
	words := c.words
	if words == 0 {
		words = wordsFor(c.maxEntries, c.maxBytes)
	}
	_, rewrites := store.As[layer.Rewriter](next)
	l := &stacked{
		next:   next,
		cfg:    c,
		clock:  time.Now(),
		origin: newOrigin(),
		// A guard below rewrites what is saved (it fills in owners): what came in is not what a load will give.
		mayPatch: !guarded && !rewrites,
		shards:   make([]*shard, shards),
	}
	for i := range l.shards {
		l.shards[i] = newShard(max(1, c.maxEntries/shards), max(1, c.maxBytes/int64(shards)))
	}
	l.core.Words = generation.New(words, c.hash)
	l.core.Limit = c.loadTimeout
	l.core.Quarantine = coherence.Quarantine(next, c.quarantine)
	l.serving.Store(c.bus == nil)
	if c.bus != nil {
		l.subscribe(c.bus)
	}
	return l
}

// wordsFor returns how many words there are: by the entries that the bytes have room for.
func wordsFor(entries int, bytes int64) int {
	return wordsPerEntry * int(min(int64(entries), bytes/leastCost+1))
}

// shardsFor returns a power of two, up to 16, that leaves every shard at least 64 entries and 1 MiB.
func shardsFor(entries int, bytes int64) int {
	n := min(int64(entries/64), bytes>>20, 16)
	if n < 2 {
		return 1
	}
	return 1 << (bits.Len64(uint64(n)) - 1)
}
