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

// window is the newest items of a thread, oldest first, in the order of the base: by CreatedAt, then by insertion. It has
// every item that is newer than its first one. A window is immutable: its methods return new ones.
type window struct {
	items []chat.Item
	older older
}

func (w window) complete() bool { return w.older == olderNone }

func (w window) index(id string) int {
	return slices.IndexFunc(w.items, func(it chat.Item) bool { return it.ID == id })
}

// page answers q, a checked query, as the base would. ok is false if the window does not have the whole answer.
func (w window) page(q store.PageQuery) (p store.Page[chat.Item], ok bool) {
	at := -1
	if q.After != "" {
		if at = w.index(q.After); at < 0 {
			return p, false // the cursor may be older than the window, or unknown: the base decides
		}
	}
	if q.Order == store.OldestFirst {
		if at < 0 && !w.complete() {
			return p, false
		}
		rest := w.items[at+1:]
		n := min(q.Limit, len(rest))
		return pageOf(slices.Clone(rest[:n]), len(rest) > n), true
	}
	rest := w.items
	if at >= 0 {
		rest = w.items[:at]
	}
	n := min(q.Limit, len(rest))
	if len(rest) == n && w.older != olderNone && (n < q.Limit || w.older == olderUnknown) {
		return p, false
	}
	data := make([]chat.Item, n)
	for i := range data {
		data[i] = rest[len(rest)-1-i]
	}
	return pageOf(data, len(rest) > n || w.older == olderSome), true
}

// pageOf returns a page of data. more says whether further rows follow.
func pageOf(data []chat.Item, more bool) store.Page[chat.Item] {
	p := store.Page[chat.Item]{Data: data, HasMore: more}
	if more && len(data) > 0 {
		p.After = data[len(data)-1].ID
	}
	return p
}

// windowOf makes a window from the base's answer to a query without a cursor. ok is false if the answer contradicts itself
// or lacks the newest item.
func windowOf(threadID string, order store.Order, p store.Page[chat.Item]) (w window, ok bool) {
	items := slices.Clone(p.Data)
	w.older = olderNone
	if p.HasMore {
		w.older = olderSome
	}
	if order == store.NewestFirst {
		slices.Reverse(items)
	} else if p.HasMore {
		return window{}, false
	}
	seen := make(map[string]struct{}, len(items))
	for i, it := range items {
		if it.ThreadID != threadID || i > 0 && it.CreatedAt.Before(items[i-1].CreatedAt) {
			return window{}, false
		}
		if _, twice := seen[it.ID]; twice {
			return window{}, false
		}
		seen[it.ID] = struct{}{}
	}
	w.items = items
	return w, true
}

// trim keeps the newest n items.
func (w window) trim(n int) window {
	if len(w.items) > n {
		w.items = slices.Clone(w.items[len(w.items)-n:]) // a subslice would keep the larger array in memory
		w.older = olderSome
	}
	return w
}

// insert puts it behind all items that are not newer, as the base does with a new item.
func (w window) insert(it chat.Item) window {
	at := len(w.items)
	for at > 0 && w.items[at-1].CreatedAt.After(it.CreatedAt) {
		at--
	}
	items := make([]chat.Item, 0, len(w.items)+1)
	items = append(items, w.items[:at]...)
	items = append(items, it)
	w.items = append(items, w.items[at:]...)
	return w
}

// beyond reports whether it, an item that is not in w, is older than w. sure is false if that is not known.
func (w window) beyond(it chat.Item) (yes, sure bool) {
	switch {
	case w.complete():
		return false, true
	case len(w.items) == 0:
		return false, false
	case it.CreatedAt.Before(w.items[0].CreatedAt):
		return true, true
	}
	return false, true
}

// add returns the window after a successful AddThreadItem(it). ok is false if that is not known.
func (w window) add(it chat.Item) (_ window, ok bool) {
	if w.index(it.ID) >= 0 {
		return window{}, false // the base had no such item, so w is outdated
	}
	beyond, sure := w.beyond(it)
	switch {
	case !sure:
		return window{}, false
	case beyond:
		w.older = olderSome
		return w, true
	}
	return w.insert(it), true
}

// save returns the window after a successful SaveItem(it). ok is false if that is not known.
func (w window) save(it chat.Item) (_ window, ok bool) {
	if i := w.index(it.ID); i >= 0 {
		if !w.items[i].CreatedAt.Equal(it.CreatedAt) {
			return window{}, false // it moved, perhaps out of the window
		}
		w.items = slices.Clone(w.items)
		w.items[i] = it
		return w, true
	}
	if w.complete() {
		return w.insert(it), true
	}
	if beyond, sure := w.beyond(it); sure && beyond {
		w.older = olderSome
		return w, true
	}
	return window{}, false // new, or it was older than the window and moved: its place among equal times is not known
}

// remove returns the window after a successful DeleteThreadItem(id).
func (w window) remove(id string) window {
	switch i := w.index(id); {
	case i >= 0:
		w.items = slices.Delete(slices.Clone(w.items), i, i+1)
	case !w.complete():
		w.older = olderUnknown // it may have been the only older item
	}
	return w
}
