package cache

import (
	"cmp"
	"context"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chatstore/chatstore/bus"
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/internal/stripe"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

var checks = driver.Checks{Versions: true}

// cached is a Store that keeps hot rows in memory.
type cached struct {
	// What every call reads. It is rarely written, so that processors keep it in their caches.
	next     store.Store
	cfg      config
	core     coherence.Core
	mayPatch bool
	index    index
	shards   []*shard
	seed     maphash.Seed // of the partitions' hashes
	clock    time.Time    // the zero of the layer's clock
	requests *stripe.Counters
	serving  atomic.Bool // false: all calls go to the base
	closed   atomic.Bool
	lease    bus.Leaser // nil if the bus has no lease
	origin   string     // this cache's name on the bus
	_        [64]byte

	stats  stats
	warned atomic.Bool   // see warnUnversioned
	state  sync.Mutex    // guards changes of serving and closed
	writes atomic.Uint64 // announced so far
	unsure numbers       // of writes with an unknown outcome
	stop   func()        // ends the subscription; nil without a bus

	reminders reminders
	polls     *poller // nil without WithRevalidation

	threads     coherence.Group[string, chat.Thread]
	items       coherence.Group[itemArgs, chat.Item]
	pages       coherence.Group[pageArgs, store.Page[chat.Item]]
	attachments coherence.Group[string, chat.Attachment]
}

var (
	_ store.Store         = (*cached)(nil)
	_ store.Unwrapper     = (*cached)(nil)
	_ store.Named         = (*cached)(nil)
	_ layer.Sharer        = (*cached)(nil)
	_ layer.StatsReporter = (*cached)(nil)
)

func newLayer(next store.Store, c config) *cached {
	shards := shardsFor(c.maxEntries, c.maxBytes)
	usual := entriesFor(c.maxEntries, c.maxBytes)
	counters := cmp.Or(c.counters, countersPerEntry*usual)
	_, rewrites := store.As[layer.Rewriter](next)
	l := &cached{
		next:   next,
		cfg:    c,
		clock:  time.Now(),
		origin: newOrigin(),
		// Beneath a layer that rewrites values, a load returns something else than the caller saved.
		mayPatch: !rewrites,
		index:    newIndex(usual),
		shards:   make([]*shard, shards),
		seed:     maphash.MakeSeed(),
		requests: stripe.New(int(numKinds) * int(numResults)),
	}
	for i := range l.shards {
		l.shards[i] = newShard(l.index, max(1, c.maxEntries/shards), max(1, c.maxBytes/int64(shards)))
	}
	l.core.Counters = generation.New(counters)
	l.core.Limit = c.loadTimeout
	l.core.Quarantine = coherence.Quarantine(next, c.quarantine)
	if c.revalidate > 0 {
		base, _ := store.As[driver.VersionReader](next)
		l.polls = newPoller(base, c.revalidate)
	}
	l.serving.Store(c.bus == nil || l.polls != nil)
	if c.bus != nil {
		l.subscribe(c.bus)
	}
	if l.polls != nil {
		l.startPolling()
	}
	return l
}

// countersPerEntry makes it rare that two threads of the usual cost share a counter. If they do, a write to one invalidates the
// other's entry.
const countersPerEntry = 16

// usualCost is the cost of an entry by which the tables are sized. If entries are smaller, more of them share a counter.
const usualCost = 4 << 10

// entriesFor returns for how many entries of the usual cost there is room.
func entriesFor(entries int, bytes int64) int {
	return int(min(int64(entries), max(1, bytes/usualCost)))
}

func (l *cached) Unwrap() store.Store     { return l.next }
func (l *cached) LayerName() string       { return "cache" }
func (l *cached) ShareBetweenPrincipals() { l.core.Share() }

// Close empties the cache, and stops its timers, its polls and its subscription. From then on all calls go to the base.
func (l *cached) Close() error {
	l.state.Lock()
	was := l.closed.Swap(true)
	l.serving.Store(false)
	l.state.Unlock()
	if was {
		return nil
	}
	if l.stop != nil {
		l.stop()
	}
	l.reminders.close()
	if l.polls != nil {
		l.polls.close()
	}
	l.core.Counters.Close()
	for _, s := range l.shards {
		s.flush()
	}
	return nil
}

// now returns the time on the layer's clock. It is never 0, which as an entry's end means never.
func (l *cached) now() time.Duration { return time.Since(l.clock) + 1 }

// serves reports whether entries may answer at the time now.
func (l *cached) serves(now time.Duration) bool {
	return l.serving.Load() && (l.lease == nil || now < l.lease.LeasedUntil().Sub(l.clock)+1)
}

// bypassed reports whether a read goes to the base without a lookup.
func (l *cached) bypassed(h layer.Hints) bool {
	return h.Fresh() || !l.serving.Load() || l.lease != nil && !l.serves(l.now())
}

// expiry returns when an entry expires whose load began at begin. Jitter only shortens its life.
func (l *cached) expiry(begin time.Duration) time.Duration {
	if l.cfg.ttl == 0 {
		return 0
	}
	jitter := rand.Float64
	if l.cfg.jitter != nil {
		jitter = l.cfg.jitter
	}
	return begin + l.cfg.ttl - time.Duration(jitter()*float64(l.cfg.ttl)/10)
}

func (l *cached) GenerateThreadID(ctx context.Context) string { return l.next.GenerateThreadID(ctx) }

func (l *cached) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return l.next.GenerateItemID(ctx, kind, thread)
}
