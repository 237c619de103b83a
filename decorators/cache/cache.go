// Package cache keeps hot threads in memory, so that a chat turn on a cached thread reads nothing from the backend.
//
// The unit is a thread, not a call. An entry holds a thread's metadata, a window of its newest items, and some items loaded
// by id. So one entry answers all reads of a turn, such as the newest 20, 6, 2 and 1 items.
// Attachments have entries of their own. Thread lists, errors and missing rows are not cached.
//
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
//	defer store.Close(s)
//
// Do not use it over a read replica: stale rows would stay in the cache. Do not use it where an answer depends on more than
// the arguments and the principal.
//
// # Consistency
//
// Within one process reads are linearizable per thread. A read that begins after a write has returned sees that write, and
// every read equals the base at some instant between its start and its end. For that, send all writes of the process through one
// cache per base.
//
// A write of another process is seen when a [bus.Bus] delivers it ([WithBus]), when a poll of the base finds it
// ([WithRevalidation]), or else after the TTL ([WithTTL]). With polls, an answer is at most twice their interval old. If the bus
// delivers before Publish returns ([bus.Local]), a read through any cache sees every write that has returned. A write under way
// may be seen through one cache and not through another. [store.WithFresh] reads from the base. So does the next read after a
// conflict of [store.IfVersion].
//
// A write patches its entry if the base reports thread versions ([driver.ReportVersion]) and the version before the write
// is the entry's. Over a base without versions, it does so if [WithSoleWriter] says that nothing else writes. Otherwise it
// drops the entry. Attachments have no versions.
//
// # Bounds
//
// Bytes and entries are bounded. Entries that have answered are protected. Rows that are read once, as by an export, compete for a
// tenth of the bounds.
//
// # Principals
//
// An entry answers only the principal that loaded it, unless a guard above lets principals share (authz.ShareBelow). A cache
// around a guard, such as authz, would answer without asking it, so New's Middleware panics there.
package cache

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
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

// mostEntries bounds WithMaxEntries. The tables of so many entries are allocated in advance and take 2.5 GiB.
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
	revalidate  time.Duration // 0: no polls
	logger      *slog.Logger  // nil: slog.Default, when something is logged

	counters int            // 0: the bounds decide
	jitter   func() float64 // nil: random
}

// Option configures New.
type Option func(*config)

// WithMaxBytes bounds the bytes of all entries together; the default is DefaultMaxBytes, 64 MiB. The bound is split evenly
// over at most 16 shards. An entry that is larger than a shard's part is not cached, but a thread may be cached without its
// items. The allocator rounds sizes up: entries take a few per cent more of the live heap than the bound, at worst 1.3 times
// as much. The tables of counters and entries are allocated in advance, and take at most another 8 % of the bound.
// WithMaxBytes panics unless n is positive.
func WithMaxBytes(n int64) Option {
	must(n > 0, "WithMaxBytes: the bound must be positive")
	return func(c *config) { c.maxBytes = n }
}

// WithMaxEntries bounds the number of entries; the default is DefaultMaxEntries, 10,000. An entry is a thread or an
// attachment, for one principal unless principals share. The tables take 160 to 320 bytes for each, within the 8 % of
// WithMaxBytes. They suit entries of 4 KiB. Of smaller ones, such as threads without items, more share a counter, and a write to
// one makes the others miss. WithMaxEntries panics unless n is 1 to 16,777,216.
func WithMaxEntries(n int) Option {
	must(n > 0 && n <= mostEntries, fmt.Sprintf("WithMaxEntries: the bound must be 1 to %d", mostEntries))
	return func(c *config) { c.maxEntries = n }
}

// WithTTL sets how long an entry answers, counted from the start of its load; the default is DefaultTTL, 5 minutes. Each
// entry lives up to a tenth shorter, so that entries do not expire together. A write that patches an entry by its version
// renews the entry's TTL. With 0, entries never expire: use that only with [WithRevalidation], or where no other process writes.
// WithTTL panics if d is negative.
func WithTTL(d time.Duration) Option {
	must(d >= 0, "WithTTL: the time is negative: use 0 for ever")
	return func(c *config) { c.ttl = d }
}

// WithWindow sets how many of a thread's newest items an entry holds; the default is DefaultWindow, 64. A miss of the newest
// items loads at least that many. WithWindow panics unless n is 1 to store.MaxLimit.
func WithWindow(n int) Option {
	must(n > 0 && n <= store.MaxLimit, fmt.Sprintf("WithWindow: the number of items must be 1 to %d", store.MaxLimit))
	return func(c *config) { c.window = n }
}

// WithLoadTimeout limits a shared load, regardless of its callers' deadlines; the default is DefaultLoadTimeout, 30 seconds.
// With 0, a load is cancelled only when its last caller has gone. WithLoadTimeout panics if d is negative.
func WithLoadTimeout(d time.Duration) Option {
	must(d >= 0, "WithLoadTimeout: the time is negative: use 0 for no limit")
	return func(c *config) { c.loadTimeout = d }
}

// WithQuarantine sets how long a write with an unknown outcome may still take effect. For that time, the quarantine, its
// thread is neither answered from the cache nor stored in it. The default is the bound that the base states
// ([driver.WriteBounder]), or one minute if it states none. If the base states a bound, the larger of that and d
// counts. A write reported by [driver.ReportPending] is held back until it ends, however long that is. WithQuarantine panics
// if d is negative.
func WithQuarantine(d time.Duration) Option {
	must(d >= 0, "WithQuarantine: the time is negative: use 0 where a write never outlives its call")
	return func(c *config) { c.quarantine = d }
}

// WithSoleWriter states that nothing but this cache writes to the base. Writes then patch entries even if the base reports
// no versions. If the statement is false, a patched entry may show outdated rows until its TTL ends. New panics if
// WithSoleWriter and WithBus are combined.
func WithSoleWriter() Option { return func(c *config) { c.soleWriter = true } }

// WithBus publishes this cache's writes on b, and drops the entries that other caches' changes name. While b is disconnected,
// or its lease has ended ([bus.Leaser]), reads go to the base. With [WithRevalidation], entries answer within their own leases
// instead. A write returns when b has accepted its change, or after 5 seconds. A change that b does not accept is counted (chatstore_cache_unsent_changes_total).
// Other caches then see the write when the bus notices the gap, by their next poll, or after their TTL. WithBus panics if b is
// nil. New panics if WithBus and WithSoleWriter are combined.
func WithBus(b bus.Bus) Option {
	must(b != nil, "WithBus: the bus is nil: leave the option out where there is none")
	return func(c *config) { c.bus = b }
}

// WithRevalidation makes the cache ask its base for changes, and bounds the age of its answers. An entry answers only for a lease of
// twice every after its load, or after a poll that found its version in the base. Both count from their begin. So no read shows a
// state that is older than the lease before the read began, whoever writes.
//
// A poll asks for the versions of all threads in the cache ([driver.VersionReader]), 1,000 in a call, without a principal, and past
// the layers between. It drops threads that have changed. If the epoch is new, it drops everything. Polls begin every apart, or up to
// a tenth sooner, and never overlap. A poll must take less than every, else leases end before they are renewed. While the base
// does not answer, leases end and reads go to the base. Polls do not renew the TTL. Attachments, and threads that are loaded without
// a version, expire with their first lease. Without live threads, there is no call. The page docs/polling.md has the details.
//
// Have no other cache and no singleflight beneath this one or above: each would add the age of its answers. Where nodes of the base
// lag, loads and ThreadVersions must wait for acknowledged writes. Do not suspend the machine: its clock stands still meanwhile.
//
// The first failure of polls is logged, and the recovery ([WithLogger]). Close ends the polls. A cache that is not closed polls for
// the life of the process.
//
// WithRevalidation panics unless every is positive and at most 73 years. New panics if WithRevalidation and WithSoleWriter are
// combined. The Middleware panics if the base is no VersionReader, or if a layer named "cache" or "singleflight" is beneath.
func WithRevalidation(every time.Duration) Option {
	// A lease and the layer's clock must not overflow.
	must(every > 0 && every <= math.MaxInt64/4, "WithRevalidation: the interval must be positive, and at most 73 years")
	return func(c *config) { c.revalidate = every }
}

// WithLogger sets where the cache logs; the default is slog.Default. The cache logs one warning when a write first drops its
// thread because the base reported no version and WithSoleWriter is not set. With [WithRevalidation] it also logs each panic of the
// base in a poll. It logs the first call of a poll that fails, and then nothing until a whole poll is answered, which it logs, too.
// WithLogger panics if l is nil.
func WithLogger(l *slog.Logger) Option {
	must(l != nil, "WithLogger: the logger is nil: leave the option out for slog.Default")
	return func(c *config) { c.logger = l }
}

// New returns the cache as a Middleware. New panics if two options contradict each other. The Middleware panics around a
// guard, such as authz.
//
// # Loads
//
// Concurrent identical misses share a load. If the base panics in it, every waiting caller panics with an error. The text
// of the error has the panic's value and the stack of the load. It unwraps to the value if that is an error. If the load
// ends its goroutine (runtime.Goexit), callers get CodeInternal. If it reaches [WithLoadTimeout], they get CodeTimeout.
//
// # Statistics
//
// The layer is a [layer.StatsReporter]:
//
//	chatstore_cache_requests_total{kind, result}     kind: thread, items, item, attachment; result: hit, miss, bypass
//	chatstore_cache_evictions_total{kind, reason}    reason: entries, bytes, expired, overtaken, too_large, polled, flushed
//	chatstore_cache_patches_total{result}            writes that found an entry to patch; result: patched, dropped
//	chatstore_cache_entries, chatstore_cache_bytes   current size
//	chatstore_cache_quarantined                      counters in quarantine after writes with an unknown outcome
//	chatstore_cache_unsent_changes_total             changes that the bus did not accept
//	chatstore_cache_polls_total{result}              calls of WithRevalidation; result: answered, failed
//	chatstore_cache_polled_threads_total             threads that these calls asked for
//	chatstore_cache_poll_seconds                     duration of the last poll
//	chatstore_flights_total{operation, role}         callers of shared loads; role: leader, follower
//
// If the bus is a StatsReporter, the cache reports its statistics too.
func New(opts ...Option) store.Middleware {
	c := config{
		maxBytes: DefaultMaxBytes, maxEntries: DefaultMaxEntries, ttl: DefaultTTL, window: DefaultWindow,
		loadTimeout: DefaultLoadTimeout, quarantine: -1,
	}
	for _, o := range opts {
		o(&c)
	}
	must(!c.soleWriter || c.bus == nil, "New: WithSoleWriter and WithBus contradict each other: a bus is there for other writers")
	must(!c.soleWriter || c.revalidate == 0, "New: WithSoleWriter and WithRevalidation contradict each other: polls look for other writers")
	return func(next store.Store) store.Store {
		must(!layer.Guarded(next), "New: around a guard, such as authz, the cache would answer without asking it: "+
			"put the guard before the cache in store.Wrap")
		if c.revalidate > 0 {
			_, ok := store.As[driver.VersionReader](next)
			must(ok, "New: WithRevalidation needs a base that tells the versions of threads: implement driver.VersionReader, or use WithBus")
			for l := range store.All[store.Named](next) {
				name := l.LayerName()
				must(name != "cache" && name != "singleflight", "New: WithRevalidation needs loads that read the base: "+
					"leave out the "+name+" beneath")
			}
		}
		return newLayer(next, c)
	}
}

func must(ok bool, sentence string) {
	if !ok {
		panic("cache." + sentence)
	}
}
