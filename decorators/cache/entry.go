package cache

import (
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/coherence"
	"github.com/chatstore/chatstore/internal/generation"
	"github.com/chatstore/chatstore/store/layer"
)

// maxLoose bounds the items that an entry keeps beside its window.
const maxLoose = 16

// entry is what is known of a thread, or an attachment, at one state of the base. It is never changed once it can be found, but
// for answered.
type entry struct {
	tag     generation.Counter // the counter at which all of it is true
	version version
	expires time.Duration // on the layer's clock; 0: never
	bytes   int64         // its cost, set when it is put into a shard

	// answered is set when a read was answered from the entry, or from one that it replaces, and unset when it is protected for
	// that. It is made when an entry is put into a shard.
	answered *atomic.Bool

	thread    chat.Thread
	hasThread bool
	window    window
	hasWindow bool
	loose     []chat.Item // loaded by id, not in the window; the oldest load first

	attachment chat.Attachment
}

// version is a thread's version as the base reported it, if it did.
type version struct {
	n     uint64
	known bool
}

// expired reports whether e's time is over.
func (e *entry) expired(now time.Duration) bool { return e.expires != 0 && now >= e.expires }

// outdated reports whether answer is known to be of a later state than e.
func (e *entry) outdated(answer *entry) bool { return e.sure(answer) && e.version.n < answer.version.n }

// sure reports whether versions tell which of e and answer is later.
func (e *entry) sure(answer *entry) bool { return e.version.known && answer.version.known }

// reports is what a read of the thread reports.
func (v version) reports(threadID string) []coherence.Report {
	if !v.known {
		return nil
	}
	return []coherence.Report{{ThreadID: threadID, Before: v.n, After: v.n}}
}

// item finds an item by id.
func (e *entry) item(id string) (chat.Item, bool) {
	if i := e.window.index(id); i >= 0 {
		return e.window.items[i], true
	}
	for _, it := range e.loose {
		if it.ID == id {
			return it, true
		}
	}
	return chat.Item{}, false
}

// withLoose returns the loose items with it among them, in a new slice.
func withLoose(loose []chat.Item, it chat.Item) []chat.Item {
	loose = append(slices.Clip(withoutLoose(loose, it.ID)), it)
	if len(loose) > maxLoose {
		loose = slices.Clone(loose[len(loose)-maxLoose:])
	}
	return loose
}

// withoutLoose returns the loose items without that id. It changes nothing in place.
func withoutLoose(loose []chat.Item, id string) []chat.Item {
	i := slices.IndexFunc(loose, func(it chat.Item) bool { return it.ID == id })
	if i < 0 {
		return loose
	}
	return slices.Delete(slices.Clone(loose), i, i+1)
}

// merge returns an entry with the parts of both, which have one tag and one version; where both have a part, fill's counts.
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
	m.expires = earlier(old.expires, fill.expires)
	return &m
}

// earlier returns the first of two ends, of which 0 is never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// The fixed costs of an entry. lruBytes is for the list and the map of the LRU: the key twice, an element, and the map's spare
// room. partitionBytes is what package unique holds for a principal beside its text.
const (
	entryBytes     = int(unsafe.Sizeof(entry{}))
	itemBytes      = int(unsafe.Sizeof(chat.Item{}))
	lruBytes       = 2*int(unsafe.Sizeof(key{})) + 120 + 8 // with what answered points to
	partitionBytes = 200
)

// cost returns the bytes that an entry holds under k. It is exact but for what the allocator rounds up. What a principal's
// entries share counts for each of them, as it stays until the last one has gone.
func (e *entry) cost(k key) int64 {
	n := entryBytes + lruBytes + len(k.id)
	if k.partition != (layer.Partition{}) {
		n += partitionBytes + len(k.partition.Key())
	}
	n += e.thread.Footprint() + e.attachment.Footprint()
	n += itemBytes * (cap(e.window.items) + cap(e.loose))
	for _, it := range e.window.items {
		n += it.Footprint()
	}
	for _, it := range e.loose {
		n += it.Footprint()
	}
	return int64(n)
}

// patchItem makes e what it is after it was written, where place says what becomes of the window; false: not known.
func (e *entry) patchItem(it chat.Item, limit int, place func(window, chat.Item) (window, bool)) bool {
	e.loose = withoutLoose(e.loose, it.ID)
	if !e.hasWindow {
		return true
	}
	w, ok := place(e.window, it)
	if !ok {
		// The window is lost, but not what else is known of the thread.
		e.window, e.hasWindow = window{}, false
		return true
	}
	e.window = w.trim(limit)
	return true
}
