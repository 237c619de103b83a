package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// at makes an item of a few possible times, so that ties are common.
func at(id string, minute int) chat.Item {
	return chat.Item{ID: id, ThreadID: "thr_1", CreatedAt: noon.Add(time.Duration(minute) * time.Minute)}
}

// model is a whole thread as the contract defines it: rows in the order of CreatedAt, then of insertion.
type model struct {
	rows []row
	seq  int
}

type row struct {
	chat.Item
	seq int
}

func (m *model) sort() {
	slices.SortFunc(m.rows, func(a, b row) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return a.seq - b.seq
	})
}

func (m *model) index(id string) int {
	return slices.IndexFunc(m.rows, func(r row) bool { return r.ID == id })
}

// add reports whether it was inserted. An id that exists is a conflict.
func (m *model) add(it chat.Item) bool {
	if m.index(it.ID) >= 0 {
		return false
	}
	m.seq++
	m.rows = append(m.rows, row{it, m.seq})
	m.sort()
	return true
}

func (m *model) save(it chat.Item) {
	if i := m.index(it.ID); i >= 0 {
		m.rows[i].Item = it
		m.sort()
		return
	}
	m.add(it)
}

func (m *model) remove(id string) {
	m.rows = slices.DeleteFunc(m.rows, func(r row) bool { return r.ID == id })
}

func (m *model) items() []chat.Item {
	items := make([]chat.Item, len(m.rows))
	for i, r := range m.rows {
		items[i] = r.Item
	}
	return items
}

// page returns a base's answer. found is false for an unknown cursor.
func (m *model) page(q store.PageQuery) (p store.Page[chat.Item], found bool) {
	rows := m.items()
	if q.Order == store.NewestFirst {
		slices.Reverse(rows)
	}
	if q.After != "" {
		i := slices.IndexFunc(rows, func(it chat.Item) bool { return it.ID == q.After })
		if i < 0 {
			return p, false
		}
		rows = rows[i+1:]
	}
	n := min(q.Limit, len(rows))
	return pageOf(rows[:n], len(rows) > n), true
}

// window returns the window of the newest n rows, as a load makes it.
func (m *model) window(n int) window {
	w := window{items: m.items(), older: olderNone}
	return w.trim(n)
}

func (m *model) random(r *rand.Rand) chat.Item {
	return at(fmt.Sprintf("msg_%d", r.IntN(12)), r.IntN(6))
}

// sameItems compares rows. cmp.Equal would take minutes for all cases.
func sameItems(a, b []chat.Item) bool {
	return slices.EqualFunc(a, b, func(a, b chat.Item) bool { return a.ID == b.ID && a.CreatedAt.Equal(b.CreatedAt) })
}

// agree fails unless every answer of w equals m's.
func agree(t *testing.T, m *model, w window, what string) {
	t.Helper()
	all := m.items()
	if len(w.items) > len(all) || !sameItems(w.items, all[len(all)-len(w.items):]) {
		t.Fatalf("%s: the window has %v, the thread has %v", what, w.items, all)
	}
	more := len(all) > len(w.items)
	if w.older == olderNone && more || w.older == olderSome && !more {
		t.Fatalf("%s: older is %d in a window of %d items of %d", what, w.older, len(w.items), len(all))
	}
	for _, order := range []store.Order{store.NewestFirst, store.OldestFirst} {
		cursors := []string{"", "msg_unknown"}
		for _, it := range all {
			cursors = append(cursors, it.ID)
		}
		for _, after := range cursors {
			for _, limit := range []int{1, 2, 3, 20} {
				q := store.PageQuery{Limit: limit, After: after, Order: order}
				got, ok := w.page(q)
				if !ok {
					continue
				}
				want, found := m.page(q)
				if !found || got.HasMore != want.HasMore || got.After != want.After || !sameItems(got.Data, want.Data) {
					t.Fatalf("%s: %+v: the window (older %d) answers %v, the base %v", what, q, w.older, got, want)
				}
			}
		}
	}
}

// TestPatchTable applies random writes to a thread and to windows of the thread. A patched window must be true, and most
// patches must keep the window.
func TestPatchTable(t *testing.T) {
	cases := 300_000
	if testenv.Race || testing.Short() {
		cases = 30_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	var kept, lost int
	for n := 0; n < cases; {
		m := &model{}
		for range r.IntN(8) {
			m.save(m.random(r))
		}
		size := 1 + r.IntN(5)
		w := m.window(size)
		for range 12 {
			n++
			before := w
			it := m.random(r)
			ok, what := true, ""
			switch r.IntN(3) {
			case 0:
				what = fmt.Sprintf("add %v", it)
				if !m.add(it) {
					continue // a conflict, which patches nothing
				}
				w, ok = w.add(it)
			case 1:
				what = fmt.Sprintf("save %v", it)
				m.save(it)
				w, ok = w.save(it)
			case 2:
				what = "delete " + it.ID
				m.remove(it.ID)
				w = w.remove(it.ID)
			}
			if !ok {
				lost++
				w = m.window(size)
				continue
			}
			kept++
			w = w.trim(size)
			agree(t, m, w, fmt.Sprintf("case %d: %s on a window of %d, older %d", n, what, len(before.items), before.older))
		}
	}
	if kept < 2*lost {
		t.Errorf("%d patches kept the window, %d dropped it: the table drops more than it must", kept, lost)
	}
}

// Each write patches each kind of window as the table in docs/architecture.md says.
func TestPatchTableRows(t *testing.T) {
	whole := window{items: []chat.Item{at("a", 1), at("b", 2), at("c", 2)}, older: olderNone}
	part := window{items: whole.items, older: olderSome}
	empty := window{older: olderSome}
	type op func(window) (window, bool)
	add := func(it chat.Item) op { return func(w window) (window, bool) { return w.add(it) } }
	save := func(it chat.Item) op { return func(w window) (window, bool) { return w.save(it) } }
	remove := func(id string) op { return func(w window) (window, bool) { return w.remove(id), true } }
	for _, c := range []struct {
		name  string
		w     window
		op    op
		items string // "": the window is dropped
		older older
	}{
		{"add, not older than all: append", part, add(at("d", 2)), "abcd", olderSome},
		{"add, between: insert behind equal times", part, add(at("d", 1)), "adbc", olderSome},
		{"add, older than an incomplete window: older is some", part, add(at("d", 0)), "abc", olderSome},
		{"add, older than a whole thread: insert", whole, add(at("d", 0)), "dabc", olderNone},
		{"add to an empty incomplete window: drop", empty, add(at("d", 9)), "", 0},
		{"add of an id in the window: drop", whole, add(at("b", 9)), "", 0},
		{"save in the window, same time: replace", part, save(at("b", 2)), "abc", olderSome},
		{"save in the window, moved: drop", part, save(at("b", 3)), "", 0},
		{"save, new to a whole thread: insert", whole, save(at("d", 1)), "adbc", olderNone},
		{"save, older than an incomplete window: older is some",
			window{items: whole.items, older: olderUnknown}, save(at("d", 0)), "abc", olderSome},
		{"save, new to an incomplete window: drop", part, save(at("d", 2)), "", 0},
		{"delete in the window", part, remove("b"), "ac", olderSome},
		{"delete beyond an incomplete window: older is unknown", part, remove("x"), "abc", olderUnknown},
		{"delete of a missing item of a whole thread", whole, remove("x"), "abc", olderNone},
		{"trimming: older is some", whole, func(w window) (window, bool) { return w.trim(2), true }, "bc", olderSome},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := c.op(c.w)
			if ok != (c.items != "") {
				t.Fatalf("kept the window: %v, want %v", ok, !ok)
			}
			if !ok {
				return
			}
			ids := ""
			for _, it := range got.items {
				ids += it.ID
			}
			if ids != c.items || got.older != c.older {
				t.Errorf("got %s, older %d; want %s, older %d", ids, got.older, c.items, c.older)
			}
		})
	}
	if ids := fmt.Sprint(whole.items[0].ID, whole.items[1].ID, whole.items[2].ID, len(whole.items)); ids != "abc3" {
		t.Errorf("a patch changed the window before it: %s", ids)
	}
}

// After the delete of an older item, a page that ends at the edge of the window cannot be answered: it is not known whether
// more items follow.
func TestAPageThatEndsAtTheEdgeMissesWhenOlderIsUnknown(t *testing.T) {
	w := window{items: []chat.Item{at("a", 1), at("b", 2)}, older: olderUnknown}
	if _, ok := w.page(store.PageQuery{Limit: 2}); ok {
		t.Error("the window answered a page that ends at its edge, want a miss")
	}
	if p, ok := w.page(store.PageQuery{Limit: 1}); !ok || !p.HasMore || p.After != "b" {
		t.Errorf("a page within the window: got %+v %v, want more after b", p, ok)
	}
}

func TestWindowOfRefusesAnswersThatContradictThemselves(t *testing.T) {
	a, b := at("a", 1), at("b", 2)
	other := at("c", 3)
	other.ThreadID = "thr_2"
	for _, c := range []struct {
		name  string
		order store.Order
		page  store.Page[chat.Item]
		ok    bool
	}{
		{"newest first", store.NewestFirst, pageOf([]chat.Item{b, a}, true), true},
		{"oldest first, all of it", store.OldestFirst, pageOf([]chat.Item{a, b}, false), true},
		{"oldest first, not all", store.OldestFirst, pageOf([]chat.Item{a, b}, true), false},
		{"wrong order", store.NewestFirst, pageOf([]chat.Item{a, b}, true), false},
		{"another thread's item", store.NewestFirst, pageOf([]chat.Item{other, a}, false), false},
		{"an item twice", store.NewestFirst, pageOf([]chat.Item{a, a}, false), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, ok := windowOf("thr_1", c.order, c.page)
			if ok != c.ok {
				t.Fatalf("accepted: %v, want %v", ok, c.ok)
			}
			if ok && (w.items[0].ID != "a" || w.complete() == c.page.HasMore) {
				t.Errorf("got %+v", w)
			}
		})
	}
}
