package cache

import (
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// older says whether the base has items that are older than a window. A boolean would not do: after the delete of an older
// item the answer is unknown.
type older uint8

const (
	olderUnknown older = iota
	olderNone          // the window has all items of the thread
	olderSome
)

// chunkRows is the most items of a chunk. A chunk of up to eight items fills a size class of the allocator.
const chunkRows = 8

// window is the newest items of a thread, newest first: by CreatedAt, then by insertion, as the base orders them. It has every
// item that is newer than its last one. The zero window answers nothing.
//
// A window is immutable: its methods return new ones, which share the unchanged chunks.
type window struct {
	chunks [][]chat.Item // of 1 to chunkRows items
	bytes  int           // the memory of the chunks
	n      int32         // items
	older  older
}

// memory returns the bytes that items take.
func memory(items []chat.Item) int {
	n := itemBytes * len(items)
	for i := range items {
		n += items[i].Footprint()
	}
	return n
}

// find returns the newest item that matches, and how many are newer. It returns nil if none does.
func (w window) find(match func(*chat.Item) bool) (newer int, it *chat.Item) {
	for _, c := range w.chunks {
		for i := range c {
			if match(&c[i]) {
				return newer + i, &c[i]
			}
		}
		newer += len(c)
	}
	return newer, nil
}

func byID(id string) func(*chat.Item) bool { return func(it *chat.Item) bool { return it.ID == id } }

// page answers q, a checked query, as the base would. ok is false if the window does not have the whole answer.
func (w window) page(q store.PageQuery) (p store.Page[chat.Item], ok bool) {
	from, to := 0, int(w.n) // of the items behind the cursor
	oldest := q.Order == store.OldestFirst
	if q.After != "" {
		i, it := w.find(byID(q.After))
		switch {
		case it == nil:
			return p, false // the cursor may be older than the window, or unknown: the base decides
		case oldest:
			to = i
		default:
			from = i + 1
		}
	} else if oldest && w.older != olderNone {
		return p, false
	}
	n, more := min(q.Limit, to-from), to-from > q.Limit
	switch {
	case oldest:
		from = to - n
	case !more && (w.older == olderUnknown || w.older == olderSome && n < q.Limit):
		return p, false
	default:
		more = more || w.older == olderSome
	}
	data := make([]chat.Item, 0, n)
	for i := 0; len(data) < n; i++ {
		c := w.chunks[i]
		if from < len(c) {
			data = append(data, c[from:min(len(c), from+n-len(data))]...)
		}
		from = max(0, from-len(c))
	}
	if oldest {
		slices.Reverse(data)
	}
	return pageOf(data, more), true
}

// pageOf returns a page of data. more says whether further rows follow.
func pageOf(data []chat.Item, more bool) store.Page[chat.Item] {
	p := store.Page[chat.Item]{Data: data, HasMore: more}
	if more && len(data) > 0 {
		p.After = data[len(data)-1].ID
	}
	return p
}

// windowOf makes a window of at most limit items from the base's answer to a query without a cursor. ok is false in two cases: the
// answer contradicts itself, or it lacks the newest item.
func windowOf(threadID string, order store.Order, p store.Page[chat.Item], limit int) (w window, ok bool) {
	items := p.Data
	if order == store.OldestFirst {
		if p.HasMore {
			return window{}, false
		}
		items = slices.Clone(items)
		slices.Reverse(items)
	}
	seen := make(map[string]bool, len(items))
	for i, it := range items {
		if it.ThreadID != threadID || seen[it.ID] || i > 0 && it.CreatedAt.After(items[i-1].CreatedAt) {
			return window{}, false
		}
		seen[it.ID] = true
	}
	w.older = olderNone
	if p.HasMore || len(items) > limit {
		w.older = olderSome
	}
	return w.splice(0, 0, items[:min(len(items), limit)]...), true
}

// splice returns the window with put in place of n items of one chunk, from index i. Its table of chunks is a new one.
func (w window) splice(i, n int, put ...chat.Item) window {
	at := 0
	for ; at < len(w.chunks)-1 && i >= len(w.chunks[at]); at++ {
		i -= len(w.chunks[at])
	}
	var chunk []chat.Item
	rest := w.chunks[at:]
	if len(rest) > 0 && (i > 0 || n > 0 || len(rest[0]) < chunkRows) { // nothing joins a full chunk at its front
		chunk, rest = rest[0], rest[1:]
	}
	w.bytes += memory(put) - memory(chunk[i:i+n]) - memory(chunk[len(chunk):cap(chunk)])
	w.n += int32(len(put) - n)
	size, room := chunkRows, [chunkRows + 1]chat.Item{}
	items := append(append(append(room[:0], chunk[:i]...), put...), chunk[i+n:]...)
	if len(items) == len(room) {
		size = len(room)/2 + 1 // both halves have room for others
	}
	chunks := append(make([][]chat.Item, 0, at+(len(items)+size-1)/size+len(rest)), w.chunks[:at]...)
	for len(items) > 0 {
		k := min(size, len(items))
		chunks = append(chunks, slices.Concat(items[:k])) // slices.Clone would move room to the heap
		items = items[k:]
	}
	w.chunks = append(chunks, rest...)
	return w
}

// put returns the window after a successful AddThreadItem, if added, or SaveItem. It keeps the newest limit items. ok is false if
// the window is not known.
func (w window) put(it chat.Item, added bool, limit int) (_ window, ok bool) {
	if i, old := w.find(byID(it.ID)); old != nil {
		if added || !old.CreatedAt.Equal(it.CreatedAt) {
			return window{}, false // the base had no such item, so w is outdated; or it moved, perhaps out of the window
		}
		return w.splice(i, 1, it), true
	}
	at, next := w.find(func(old *chat.Item) bool { return !old.CreatedAt.After(it.CreatedAt) })
	whole, beyond := w.older == olderNone, next == nil // beyond: older than all items
	switch {
	case !whole && beyond && w.n > 0:
		w.older = olderSome
		return w, true
	case !whole && (beyond || !added):
		return window{}, false // new, or it was older than the window and moved: its place among equal times is not known
	}
	if w = w.splice(at, 0, it); int(w.n) > limit {
		w.n, w.older = w.n-1, olderSome
		last := &w.chunks[len(w.chunks)-1] // in the new table
		if *last = (*last)[:len(*last)-1]; len(*last) == 0 {
			w.bytes -= memory((*last)[:cap(*last)])
			w.chunks = slices.Delete(w.chunks, len(w.chunks)-1, len(w.chunks))
		}
	}
	return w, true
}

// remove returns the window after a successful DeleteThreadItem(id).
func (w window) remove(id string) window {
	if i, it := w.find(byID(id)); it != nil {
		return w.splice(i, 1)
	}
	if w.older != olderNone {
		w.older = olderUnknown // it may have been the only older item
	}
	return w
}
