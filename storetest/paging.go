package storetest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/internal/call"
)

const (
	afterRule     = "After is the id of a row of the same listing, and the page begins behind it; any other id is ErrNotFound, never a silent restart at page one"
	pageAfterRule = "HasMore says whether rows follow; Page.After is the id of the last row if HasMore, else \"\""
	orderRule     = "rows are ordered by (CreatedAt, order of insertion), and newest first is the exact reverse of oldest first"
	tiesRule      = "rows of equal times are neither lost nor repeated across pages: continue behind (CreatedAt, order of insertion), not behind a time"
	limitRule     = "a Limit of 0 means 20, a negative one is ErrInvalid, one above 1000 means 1000"
)

// listing is the items of one thread or the threads of one owner, reduced to ids and times. The checks of paging are the
// same for both.
type listing struct {
	h       *harness
	newID   func() string
	page    func(q store.PageQuery) outcome[store.Page[string]]
	insert  func(id string, created time.Time) outcome[none]
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
	return ids
}

func itemListing(h *harness) listing {
	u, thread := h.ada, h.ada.newThread()
	return listing{
		h:     h,
		newID: func() string { return h.mint.ID("msg") },
		page: func(q store.PageQuery) outcome[store.Page[string]] {
			return idsOnly(u.items(thread.ID, q))
		},
		insert: func(id string, created time.Time) outcome[none] {
			it := h.itemWithID(id, at(0), "text")
			it.CreatedAt = created
			return u.addItem(thread.ID, it)
		},
		created: func(id string) outcome[time.Time] {
			o := u.loadItem(thread.ID, id)
			return with(o, o.val.CreatedAt)
		},
		remove: func(id string) outcome[none] { return u.deleteItem(thread.ID, id) },
	}
}

func threadListing(h *harness) listing {
	u := h.ada
	return listing{
		h:     h,
		newID: func() string { return h.mint.ID("thr") },
		page: func(q store.PageQuery) outcome[store.Page[string]] {
			return idsOnly(u.threads(store.OwnedBy(u.owner), q))
		},
		insert: func(id string, created time.Time) outcome[none] {
			t := u.thread()
			t.ID, t.CreatedAt = id, created
			return u.saveThread(t)
		},
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

// walk pages through a whole listing. It calls between after each page except the last.
func (l listing) walk(limit int, order store.Order, between func(page int)) []string {
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
		between(n)
	}
	l.h.fatalf("walking the listing, %s, by pages of %d: got HasMore on %d pages, want an end", call.Order(order), limit, maxPages)
	return nil
}

func undisturbed(int) {}

// reversed returns ids in the other order.
func reversed(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Reverse(ids)
	return ids
}

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
	bothListings("a deleted row as cursor is ErrNotFound", afterRule, func(h *harness, l listing) {
		l.add(1)
		id := l.add(2)
		l.add(3)
		l.remove(id).ok()
		for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
			l.page(store.PageQuery{After: id, Order: order}).is(store.ErrNotFound)
		}
	}),
	[]check{
		{"items: another thread's item as cursor is ErrNotFound", afterRule, func(h *harness) {
			mine, other := h.ada.newThread(), h.ada.newThread()
			h.ada.newItem(mine.ID, at(1))
			it := h.ada.newItem(other.ID, at(0))
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				h.ada.items(mine.ID, store.PageQuery{After: it.ID, Order: order}).is(store.ErrNotFound)
			}
		}},
		{"threads: another owner's thread as cursor is ErrNotFound", afterRule, func(h *harness) {
			h.ada.newThread()
			other := h.bob.newThread()
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				q := store.PageQuery{After: other.ID, Order: order}
				h.ada.threads(store.OwnedBy(h.ada.owner), q).is(store.ErrNotFound)
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
	bothListings("equal times by insertion", orderRule, func(h *harness, l listing) {
		late := l.add(9)
		ids := l.fill(12)
		lists(l.page(store.PageQuery{Limit: 50, Order: store.OldestFirst}), " of rows of equal times", append(ids, late))
	}),
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

// tiesWhileAdding inserts more rows of the same time between the pages of a walk. Oldest first, they follow at the end.
// Newest first, they lie before the cursor already.
func tiesWhileAdding(order store.Order) []check {
	words := call.Order(order)
	return bothListings("ties while others are added, "+words, tiesRule, func(h *harness, l listing) {
		ids := l.fill(numTies)
		for _, limit := range []int{1, 3, 7} {
			want := inOrder(ids, order)
			got := l.walk(limit, order, func(page int) {
				if page%5 != 0 || page > 100 {
					return
				}
				id := l.add(0)
				ids = append(ids, id)
				if order == store.OldestFirst {
					want = append(want, id)
				}
			})
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
