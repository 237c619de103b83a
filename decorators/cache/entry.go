package cache

import (
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store/layer"
)

// maxLoose bounds the items that an entry keeps beside its window.
const maxLoose = 16

// entry holds a thread or an attachment as of one state of the base. It is not changed once it is in a shard, except for
// answered.
type entry struct {
	tag     generation.Counter // the counter at which the entry is valid
	version version
	expires time.Duration // on the layer's clock; 0: never
	since   time.Duration // begin of its load, or end of the write that patched it
	lease   *lease        // nil: needs none
	bytes   int64         // its cost, set by put

	answered *atomic.Bool // its node's, set by put

	thread     chat.Thread
	window     window
	hasThread  bool
	hasWindow  bool
	loose      []chat.Item // loaded by id and not in the window, in the order of their loads
	attachment *chat.Attachment
}

// version is a thread's version. known is false if the base reported none.
type version struct {
	n     uint64
	known bool
}

// expired reports whether e may no longer answer.
func (e *entry) expired(now time.Duration) bool { return e.expires != 0 && now >= e.expires }

// lapsed reports whether e may not answer until a poll confirms it.
func (e *entry) lapsed(now time.Duration) bool { return e.lease != nil && now >= e.lease.end() }

// outdated reports whether the versions say that answer is newer than e.
func (e *entry) outdated(answer *entry) bool { return e.sure(answer) && e.version.n < answer.version.n }

// sure reports whether e and answer both have versions, so that it is known which one is newer.
func (e *entry) sure(answer *entry) bool { return e.version.known && answer.version.known }

// item finds an item by id.
func (e *entry) item(id string) (chat.Item, bool) {
	if _, it := e.window.find(byID(id)); it != nil {
		return *it, true
	}
	for _, it := range e.loose {
		if it.ID == id {
			return it, true
		}
	}
	return chat.Item{}, false
}

// withLoose returns the loose items and it, in a new slice.
func withLoose(loose []chat.Item, it chat.Item) []chat.Item {
	loose = append(slices.Clip(withoutLoose(loose, it.ID)), it)
	return slices.Clone(loose[max(0, len(loose)-maxLoose):])
}

// withoutLoose returns the loose items without that id. It does not change the slice that it gets.
func withoutLoose(loose []chat.Item, id string) []chat.Item {
	i := slices.IndexFunc(loose, func(it chat.Item) bool { return it.ID == id })
	if i < 0 {
		return loose
	}
	return slices.Delete(slices.Clone(loose), i, i+1)
}

// merge returns an entry with the parts of both, which must have the same tag and version. If both have a part, it takes
// fill's.
func merge(old, fill *entry) *entry {
	m := *fill
	if !m.hasThread {
		m.thread, m.hasThread = old.thread, old.hasThread
	}
	if !m.hasWindow {
		m.window, m.hasWindow = old.window, old.hasWindow
	}
	m.loose = old.loose
	for _, it := range fill.loose {
		m.loose = withLoose(m.loose, it)
	}
	m.expires = min(old.expires, fill.expires) // both are 0, or none is
	m.since = max(old.since, fill.since)
	if m.lease != nil {
		m.lease.set(min(m.lease.end(), old.lease.end()))
	}
	return &m
}

// The fixed costs of an entry:
//   - lruBytes: the node, and the LRU's list element of 64 bytes and place in a map.
//   - partitionBytes: package unique holds this much for a principal, beside its text.
const (
	entryBytes      = int(unsafe.Sizeof(entry{}))
	itemBytes       = int(unsafe.Sizeof(chat.Item{}))
	attachmentBytes = int(unsafe.Sizeof(chat.Attachment{}))
	leaseBytes      = int(unsafe.Sizeof(lease{}))
	chunkHeader     = int(unsafe.Sizeof([]chat.Item{})) // in a window's table of chunks
	lruBytes        = int(unsafe.Sizeof(node{})) + 64 + 40
	partitionBytes  = 200
)

// cost returns the bytes that an entry of key k holds, before the allocator rounds them up. A principal's entries share its
// name. The name counts for each of them, because it stays in memory until the last one is removed.
func (e *entry) cost(k key) int64 {
	n := entryBytes + lruBytes + len(k.id)
	if k.partition != (layer.Partition{}) {
		n += partitionBytes + len(k.partition.Key())
	}
	if e.attachment != nil {
		n += attachmentBytes + e.attachment.Footprint()
	}
	if e.lease != nil {
		n += leaseBytes
	}
	n += e.thread.Footprint() + e.window.bytes + chunkHeader*cap(e.window.chunks) + memory(e.loose[:cap(e.loose)])
	return int64(n)
}
