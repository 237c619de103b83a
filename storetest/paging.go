package storetest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

const (
	afterRule     = "After is the id of a row that is, or was, in the same listing, and the page begins behind its place; any other id is ErrNotFound, never a silent restart at page one"
	goneRule      = "a deleted row is a cursor at the place where it stood; if the row is there again or has moved, the cursor is at its place now; an item's place ends with its thread"
	pageAfterRule = "HasMore says whether rows follow; Page.After is the id of the last row if HasMore, else \"\""
	orderRule     = "items are ordered by (CreatedAt, order of insertion in the thread), threads by (CreatedAt, id), where ids compare as bytes; newest first is the exact reverse of oldest first"
	tiesRule      = "rows of equal times are neither lost nor repeated across pages: continue behind the whole place of the cursor, not behind its time"
	limitRule     = "a Limit of 0 means 20, a negative one is ErrInvalid, one above 1000 means 1000"
)

// listing is the items of one thread or the threads of one owner, reduced to ids and times. The checks of paging are the
// same for both.
type listing struct {
	h       *harness
	ties    func(ids []string) []string // puts rows of one time in order, oldest first; they come in the order of insertion
	newID   func() string
	page    func(q store.PageQuery) outcome[store.Page[string]]
	insert  func(id string, created time.Time) outcome[none]
	replace func(id string, created time.Time) outcome[none]
	created func(id string) outcome[time.Time]
	remove  func(id string) outcome[none]
}

// add inserts a row created sec seconds after the suite's time and returns its id.
func (l listing) add(sec int) string {
	id, o := l.save(at(sec))
	o.ok()
	return id
}

func (l listing) save(created time.Time) (id string, o outcome[none]) {
	id = l.newID()
	return id, l.insert(id, created)
}

// fill inserts n rows of one time and returns their ids, oldest first.
func (l listing) fill(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = l.add(0)
	}
	return l.ties(ids)
}

// byInsertion and sortedIDs are orders of rows of equal times.
func byInsertion(ids []string) []string { return ids }

func sortedIDs(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

func itemListing(h *harness) listing {
	u, thread := h.ada, h.ada.newThread()
	item := func(id string, created time.Time) chat.Item {
		it := h.itemWithID(id, at(0), "text")
		it.CreatedAt = created
		return it
	}
	return listing{
		h:     h,
		ties:  byInsertion,
		newID: func() string { return h.mint.ID("msg") },
		page: func(q store.PageQuery) outcome[store.Page[string]] {
			return idsOnly(u.items(thread.ID, q))
		},
		insert:  func(id string, created time.Time) outcome[none] { return u.addItem(thread.ID, item(id, created)) },
		replace: func(id string, created time.Time) outcome[none] { return u.saveItem(thread.ID, item(id, created)) },
		created: func(id string) outcome[time.Time] {
			o := u.loadItem(thread.ID, id)
			return with(o, o.val.CreatedAt)
		},
		remove: func(id string) outcome[none] { return u.deleteItem(thread.ID, id) },
	}
}

func threadListing(h *harness) listing {
	u := h.ada
	save := func(id string, created time.Time) outcome[none] {
		t := u.thread()
		t.ID, t.CreatedAt = id, created
		return u.saveThread(t)
	}
	return listing{
		h:     h,
		ties:  sortedIDs,
		newID: func() string { return h.mint.ID("thr") },
		page: func(q store.PageQuery) outcome[store.Page[string]] {
			return idsOnly(u.threads(store.OwnedBy(u.owner), q))
		},
		insert:  save,
		replace: save,
		created: func(id string) outcome[time.Time] {
			o := u.loadThread(id)
			return with(o, o.val.CreatedAt)
		},
		remove: func(id string) outcome[none] { return u.deleteThread(id) },
	}
}

func idsOnly[T any](o outcome[store.Page[T]]) outcome[store.Page[string]] {
	p := store.Page[string]{Data: idsOf(o.val.Data), HasMore: o.val.HasMore, After: o.val.After}
	return with(o, p)
}

// bothListings returns one check for each of the two listings.
func bothListings(name, rule string, run func(h *harness, l listing)) []check {
	return []check{
		{"items: " + name, rule, func(h *harness) { run(h, itemListing(h)) }},
		{"threads: " + name, rule, func(h *harness) { run(h, threadListing(h)) }},
	}
}

// maxPages ends a walk that would never end.
const maxPages = 3000

// walk pages through a whole listing. It calls between after each page except the last, with the cursor of the next.
func (l listing) walk(limit int, order store.Order, between func(page int, cursor string)) []string {
	l.h.t.Helper()
	var ids []string
	q := store.PageQuery{Limit: limit, Order: order}
	for n := range maxPages {
		o := l.page(q)
		p := o.ok()
		ids = append(ids, p.Data...)
		if !p.HasMore {
			return ids
		}
		if len(p.Data) == 0 || p.After == "" {
			l.h.fatalf("%s: got %d rows, HasMore and After %q, want at least one row and a cursor", o, len(p.Data), p.After)
		}
		q.After = p.After
		between(n, p.After)
	}
	l.h.fatalf("walking the listing, %s, by pages of %d: got HasMore on %d pages, want an end", call.Order(order), limit, maxPages)
	return nil
}

func undisturbed(int, string) {}

// reversed returns ids in the other order.
func reversed(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	return ids
}

// behind returns the ids behind one of them.
func behind(ids []string, id string) []string { return slices.Clone(ids[slices.Index(ids, id)+1:]) }

func inOrder(oldestFirst []string, o store.Order) []string {
	if o == store.OldestFirst {
		return oldestFirst
	}
	return reversed(oldestFirst)
}

var afterChecks = slices.Concat(
	bothListings("a page begins behind the cursor", afterRule, func(h *harness, l listing) {
		ids := []string{l.add(1), l.add(2), l.add(3), l.add(4)}
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			want := inOrder(ids, order)
			for i, id := range want {
				lists(l.page(store.PageQuery{After: id, Order: order}), "", want[i+1:])
			}
		}
	}),
	bothListings("unknown cursor is ErrNotFound", afterRule, func(h *harness, l listing) {
		l.add(1)
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			l.page(store.PageQuery{After: l.newID(), Order: order}).is(store.ErrNotFound)
		}
	}),
	bothListings("a deleted row is a cursor", goneRule, func(h *harness, l listing) {
		ids := append(append([]string{l.add(-1)}, l.fill(5)...), l.add(1))
		gone := []string{ids[0], ids[3], ids[4], ids[6]} // both ends, and two neighbours of equal times
		for _, id := range gone {
			l.remove(id).ok()
		}
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			rows := inOrder(ids, order)
			for _, id := range gone {
				want := slices.DeleteFunc(behind(rows, id), func(id string) bool { return slices.Contains(gone, id) })
				lists(l.page(store.PageQuery{After: id, Order: order}), ", a deleted row,", want)
			}
		}
	}),
	bothListings("a walk goes on when its cursor is deleted", goneRule, func(h *harness, l listing) {
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			ids := l.fill(fewTies)
			got := l.walk(3, order, func(_ int, cursor string) { l.remove(cursor).ok() })
			what := "walking rows of equal times by pages of 3, " + call.Order(order) + ", while the last row of each page is deleted"
			sameIDs(h, what, inOrder(ids, order), got)
			for _, id := range l.walk(store.MaxLimit, order, undisturbed) {
				l.remove(id).ok()
			}
		}
	}),
	bothListings("a deleted row is a cursor where it stood last", goneRule, func(h *harness, l listing) {
		a, b, c, moved := l.add(1), l.add(2), l.add(4), l.newID()
		l.insert(moved, at(-9)).ok()
		l.replace(moved, at(3)).ok()
		l.remove(moved).ok()
		lists(l.page(store.PageQuery{After: moved, Order: store.OldestFirst}), ", which was moved and then deleted,", []string{c})
		lists(l.page(store.PageQuery{After: moved}), ", which was moved and then deleted,", []string{b, a})
	}),
	bothListings("a row that is there again is a cursor at its new place", goneRule, func(h *harness, l listing) {
		again := l.newID()
		l.insert(again, at(0)).ok()
		ids := l.ties([]string{l.add(2), l.add(2), l.add(2)})
		l.remove(again).ok()
		l.insert(again, at(3)).ok()
		lists(l.page(store.PageQuery{After: again}), ", which was deleted and inserted with another time,", reversed(ids))
		l.remove(again).ok()
		l.insert(again, at(2)).ok()
		ids = l.ties(append(ids, again)) // an item is inserted behind its ties
		lists(l.page(store.PageQuery{Order: store.OldestFirst}), " after a row was deleted and inserted among rows of its time", ids)
		lists(l.page(store.PageQuery{After: again, Order: store.OldestFirst}), ", which was deleted and inserted,", behind(ids, again))
		l.remove(again).ok()
		lists(l.page(store.PageQuery{After: again, Order: store.OldestFirst}), ", which was deleted twice,", behind(ids, again))
	}),
	bothListings("a row that moves is a cursor at its new place", goneRule, func(h *harness, l listing) {
		a, b, c := l.add(1), l.add(2), l.add(3)
		l.replace(a, at(9)).ok()
		lists(l.page(store.PageQuery{After: a}), ", which was moved to the newest place,", []string{c, b})
		lists(l.page(store.PageQuery{After: a, Order: store.OldestFirst}), ", which was moved to the newest place,", nil)
	}),
	[]check{
		{"items: another thread's item as cursor is ErrNotFound", afterRule, func(h *harness) {
			mine, other := h.ada.newThread(), h.ada.newThread()
			h.ada.newItem(mine.ID, at(1))
			it := h.ada.newItem(other.ID, at(0))
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				h.ada.items(mine.ID, store.PageQuery{After: it.ID, Order: order}).is(store.ErrNotFound)
			}
			h.ada.deleteItem(other.ID, it.ID).ok()
			h.ada.items(mine.ID, store.PageQuery{After: it.ID}).is(store.ErrNotFound)
		}},
		{"items: an item of a deleted thread as cursor is ErrNotFound", goneRule, func(h *harness) {
			thread, its := itemsAt(h, 1, 2, 3)
			h.ada.deleteItem(thread, its[1].ID).ok()
			h.ada.deleteThread(thread).ok()
			for _, it := range its {
				h.ada.items(thread, store.PageQuery{After: it.ID}).is(store.ErrNotFound)
			}
		}},
		{"items: an item of an earlier thread of the id as cursor is ErrNotFound", goneRule, func(h *harness) {
			thread, its := itemsAt(h, 1, 2, 3)
			t := h.ada.loadThread(thread).ok()
			h.ada.deleteItem(thread, its[1].ID).ok()
			h.ada.deleteThread(thread).ok()
			h.ada.saveThread(t).ok()
			added := h.ada.newItem(thread, at(1))
			for _, it := range its {
				h.ada.items(thread, store.PageQuery{After: it.ID}).is(store.ErrNotFound)
			}
			h.ada.deleteItem(thread, added.ID).ok()
			lists(h.ada.items(thread, store.PageQuery{After: added.ID}), ", a deleted item of a thread that was made again,", nil)
		}},
		{"threads: another owner's thread as cursor is ErrNotFound", afterRule, func(h *harness) {
			h.ada.newThread()
			other := h.bob.newThread()
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				q := store.PageQuery{After: other.ID, Order: order}
				h.ada.threads(store.OwnedBy(h.ada.owner), q).is(store.ErrNotFound)
			}
		}},
		{"threads: another owner's deleted thread as cursor is ErrNotFound", goneRule, func(h *harness) {
			h.ada.newThread()
			other := h.bob.newThread()
			h.bob.deleteThread(other.ID).ok()
			h.ada.threads(store.OwnedBy(h.ada.owner), store.PageQuery{After: other.ID}).is(store.ErrNotFound)
		}},
		{"threads: a deleted thread is a cursor of the filters that its owner matches", goneRule, func(h *harness) {
			h.bare()
			owned, unowned := h.ada.newThread(), h.nobody().newThread()
			h.ada.deleteThread(owned.ID).ok()
			h.nobody().deleteThread(unowned.ID).ok()
			for _, f := range []store.OwnerFilter{store.OwnedBy(h.ada.owner), store.InTenant(h.ada.owner.Tenant), store.AnyOwner()} {
				h.ada.threads(f, store.PageQuery{After: owned.ID}).is(nil)
			}
			for _, f := range []store.OwnerFilter{store.OwnedBy(h.bob.owner), store.InTenant(h.bob.owner.Tenant), store.InTenant(""), {}} {
				h.ada.threads(f, store.PageQuery{After: owned.ID}).is(store.ErrNotFound)
			}
			for _, f := range []store.OwnerFilter{{}, store.AnyOwner()} {
				h.nobody().threads(f, store.PageQuery{After: unowned.ID}).is(nil)
			}
			for _, f := range []store.OwnerFilter{store.OwnedBy(h.ada.owner), store.InTenant(h.ada.owner.Tenant), store.InTenant("")} {
				h.ada.threads(f, store.PageQuery{After: unowned.ID}).is(store.ErrNotFound)
			}
		}},
	},
)

var pageAfterChecks = slices.Concat(
	bothListings("the last row's id when there is more", pageAfterRule, func(h *harness, l listing) {
		ids := l.fill(5)
		for limit := 1; limit < len(ids); limit++ {
			o := l.page(store.PageQuery{Limit: limit, Order: store.OldestFirst})
			if p := o.ok(); !p.HasMore || p.After != ids[limit-1] {
				h.errorf("%s with %d rows stored: got HasMore %t, After %q, want HasMore true, After %q", o, len(ids), p.HasMore, p.After, ids[limit-1])
			}
		}
	}),
	bothListings("empty when there is no more", pageAfterRule, func(h *harness, l listing) {
		checkLast := func(q store.PageQuery) {
			o := l.page(q)
			if p := o.ok(); p.HasMore || p.After != "" {
				h.errorf("%s: got HasMore %t, After %q for the last %d rows, want HasMore false, After \"\"", o, p.HasMore, p.After, len(p.Data))
			}
		}
		checkLast(store.PageQuery{}) // no rows
		ids := l.fill(5)
		checkLast(store.PageQuery{Limit: 5})                                           // exactly full
		checkLast(store.PageQuery{Limit: 6})                                           // not full
		checkLast(store.PageQuery{Limit: 2, After: ids[2], Order: store.OldestFirst})  // exactly the rest
		checkLast(store.PageQuery{Limit: 20, After: ids[4], Order: store.OldestFirst}) // behind the last row
	}),
)

var orderChecks = slices.Concat(
	bothListings("by CreatedAt", orderRule, func(h *harness, l listing) {
		c, a, d, b := l.add(3), l.add(1), l.add(4), l.add(2)
		lists(l.page(store.PageQuery{Limit: 50, Order: store.OldestFirst}), " of rows that were not inserted in the order of CreatedAt", []string{a, b, c, d})
	}),
	[]check{
		{"items: equal times by insertion", orderRule, func(h *harness) { equalTimes(h, itemListing(h)) }},
		{"threads: equal times by id", orderRule, func(h *harness) { equalTimes(h, threadListing(h)) }},
		{"threads: ids compare as bytes", orderRule, func(h *harness) {
			l := threadListing(h)
			base := l.newID()
			var ids []string
			// In UTF-16, the last two are in the other order.
			for _, end := range []string{"", " ", "-", "1", "10", "9", "A", "Z", "_", "a", "a1", "b", "z", "é", "ß", "ａ", "😀"} {
				ids = append(ids, base+end)
			}
			for _, id := range reversed(ids) {
				l.insert(id, at(0)).ok()
			}
			lists(l.page(store.PageQuery{Limit: 50, Order: store.OldestFirst}), " of rows of equal times", sortedIDs(ids))
			for i, id := range sortedIDs(ids) {
				lists(l.page(store.PageQuery{Limit: 50, After: id, Order: store.OldestFirst}), "", sortedIDs(ids)[i+1:])
			}
		}},
	},
	bothListings("newest first is the exact reverse", orderRule, func(h *harness, l listing) {
		for i := range 12 {
			l.add(i % 4)
		}
		oldest := l.page(store.PageQuery{Limit: 50, Order: store.OldestFirst}).ok()
		lists(l.page(store.PageQuery{Limit: 50, Order: store.NewestFirst}), " compared with the reverse of oldest first", reversed(oldest.Data))
	}),
	ties(store.OldestFirst),
	ties(store.NewestFirst),
	tiesWhileAdding(store.OldestFirst),
	tiesWhileAdding(store.NewestFirst),
)

// equalTimes inserts rows of equal times.
func equalTimes(h *harness, l listing) {
	late := l.add(9)
	ids := l.fill(12)
	lists(l.page(store.PageQuery{Limit: 50, Order: store.OldestFirst}), " of rows of equal times", append(ids, late))
}

// A walk during additions takes numTies rows of equal times; without additions a few are enough.
const (
	numTies = 200
	fewTies = 50
)

// ties returns checks that walk rows of equal times by pages of several sizes.
func ties(order store.Order) []check {
	words := call.Order(order)
	return bothListings("ties by pages of 1, 3 and 7, "+words, tiesRule, func(h *harness, l listing) {
		ids := []string{l.add(-1)}
		ids = append(ids, l.fill(fewTies)...)
		ids = inOrder(append(ids, l.add(1)), order)
		for _, limit := range []int{1, 3, 7} {
			got := l.walk(limit, order, undisturbed)
			sameIDs(h, fmt.Sprintf("walking %d rows of equal times by pages of %d, %s", fewTies, limit, words), ids, got)
		}
	})
}

// tiesWhileAdding inserts more rows of the same time between the pages of a walk. The walk meets those that lie behind its
// cursor.
func tiesWhileAdding(order store.Order) []check {
	words := call.Order(order)
	return bothListings("ties while others are added, "+words, tiesRule, func(h *harness, l listing) {
		ids := l.fill(numTies)
		for _, limit := range []int{1, 3, 7} {
			passed := make(map[string]bool) // the rows that were added before the cursor
			got := l.walk(limit, order, func(page int, cursor string) {
				if page%5 != 0 || page > 100 {
					return
				}
				id := l.add(0)
				ids = l.ties(append(ids, id))
				passed[id] = !slices.Contains(behind(inOrder(ids, order), cursor), id)
			})
			want := slices.DeleteFunc(slices.Clone(inOrder(ids, order)), func(id string) bool { return passed[id] })
			what := fmt.Sprintf("walking rows of equal times by pages of %d, %s, while rows of that time are added", limit, words)
			sameIDs(h, what, want, got)
		}
	})
}

var limitChecks = slices.Concat(
	bothListings("is kept", limitRule, func(h *harness, l listing) {
		ids := l.fill(25)
		for _, limit := range []int{1, 2, 24, 25, 26} {
			lists(l.page(store.PageQuery{Limit: limit, Order: store.OldestFirst}), "", ids[:min(limit, len(ids))])
		}
	}),
	bothListings("zero is 20", limitRule, func(h *harness, l listing) {
		l.fill(21)
		o := l.page(store.PageQuery{})
		if n := len(o.ok().Data); n != store.DefaultLimit {
			h.errorf("%s with 21 rows stored: got %d rows, want %d", o, n, store.DefaultLimit)
		}
	}),
	bothListings("negative is ErrInvalid", limitRule, func(h *harness, l listing) {
		l.fill(3)
		for _, limit := range []int{-1, math.MinInt} {
			l.page(store.PageQuery{Limit: limit}).is(store.ErrInvalid)
		}
	}),
	bothListings("above 1000 is 1000", limitRule, func(h *harness, l listing) {
		ids := l.fill(store.MaxLimit + 1)
		for _, limit := range []int{store.MaxLimit, store.MaxLimit + 1, math.MaxInt} {
			o := l.page(store.PageQuery{Limit: limit, Order: store.OldestFirst})
			if p := o.ok(); len(p.Data) != store.MaxLimit || !p.HasMore || p.After != ids[store.MaxLimit-1] {
				h.errorf("%s with %d rows stored: got %d rows, HasMore %t, After %q, want %d rows, HasMore true, After %q",
					o, len(ids), len(p.Data), p.HasMore, p.After, store.MaxLimit, ids[store.MaxLimit-1])
			}
		}
	}),
)
