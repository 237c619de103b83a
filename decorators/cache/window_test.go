package cache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
	return windowFrom(m.items(), olderNone, n)
}

// windowFrom returns the window of the newest n items. older counts if that is all of them.
func windowFrom(items []chat.Item, older older, n int) window {
	w, ok := windowOf("thr_1", store.OldestFirst, pageOf(items, false), n)
	if !ok {
		panic("contradictory items")
	}
	if len(items) <= n {
		w.older = older
	}
	return w
}

// items returns the items of w, oldest first. It panics unless their number and bytes are what w says.
func (w window) items() (items []chat.Item) {
	bytes := 0
	for _, c := range w.chunks {
		bytes += memory(c[:cap(c)])
		items = append(items, c...)
	}
	if len(items) != int(w.n) || bytes != w.bytes {
		panic(fmt.Sprintf("%d items of %d bytes, the window says %d of %d", len(items), bytes, w.n, w.bytes))
	}
	slices.Reverse(items)
	return items
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
	all, has := m.items(), w.items()
	if len(has) > len(all) || !sameItems(has, all[len(all)-len(has):]) {
		t.Fatalf("%s: the window has %v, the thread has %v", what, has, all)
	}
	more := len(all) > len(has)
	if w.older == olderNone && more || w.older == olderSome && !more {
		t.Fatalf("%s: older is %d in a window of %d items of %d", what, w.older, len(has), len(all))
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
				w, ok = w.put(it, true, size)
			case 1:
				what = fmt.Sprintf("save %v", it)
				m.save(it)
				w, ok = w.put(it, false, size)
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
			agree(t, m, w, fmt.Sprintf("case %d: %s on a window of %d, older %d", n, what, before.n, before.older))
		}
	}
	if kept < 2*lost {
		t.Errorf("%d patches kept the window, %d dropped it: the table drops more than it must", kept, lost)
	}
}

// TestAWriteSharesTheChunksThatItDoesNotChange compares windows after random writes with plain slices. A write copies one chunk
// at most, and changes no earlier window.
func TestAWriteSharesTheChunksThatItDoesNotChange(t *testing.T) {
	type version struct {
		window
		want []chat.Item // oldest first
	}
	var split, cut, emptied int
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		item := func(id string, at time.Time) chat.Item {
			it := testenv.OrPanic(chat.NewItem(id, at, chat.SDKHiddenContext{Content: strings.Repeat("x", r.IntN(100))}))
			it.ThreadID = "thr_1"
			return it
		}
		limit := 1 + r.IntN(40)
		versions := []version{{windowFrom(nil, olderNone, limit), nil}}
		for n := range 200 {
			last := versions[len(versions)-1]
			w, want, ok := last.window, slices.Clone(last.want), true
			switch i := r.IntN(len(want) + 1); {
			case i == len(want) || n%100 < 60 && r.IntN(4) > 0:
				it := item(fmt.Sprint("msg_", n), noon.Add(time.Duration(r.IntN(1+n))*time.Minute))
				at := 0
				for at < len(want) && !want[at].CreatedAt.After(it.CreatedAt) {
					at++
				}
				if w, ok = w.put(it, true, limit); !ok { // an empty window of an unknown rest
					continue
				}
				if at > 0 || last.older == olderNone {
					want = slices.Insert(want, at, it)
				}
				if len(want) > limit {
					want = want[1:]
					cut++
				}
			case n%2 == 0:
				want[i] = item(want[i].ID, want[i].CreatedAt)
				w, ok = w.put(want[i], false, limit)
			default:
				w = w.remove(want[i].ID)
				want = slices.Delete(want, i, i+1)
			}
			if !ok {
				t.Fatalf("seed %d, write %d: the window was lost", seed, n)
			}
			chunks, items := 0, 0
			for _, c := range w.chunks {
				if !slices.ContainsFunc(last.chunks, func(old []chat.Item) bool { return &old[0] == &c[0] }) {
					chunks, items = chunks+1, items+len(c)
				}
			}
			if items > chunkRows+1 {
				t.Fatalf("seed %d, write %d: copied %d items", seed, n, items)
			}
			if chunks == 2 {
				split++
			}
			if len(want) == 0 {
				emptied++
			}
			versions = append(versions, version{w, want})
		}
		for n, v := range versions {
			if got := v.items(); !slices.EqualFunc(got, v.want, chat.Item.Equal) {
				t.Fatalf("seed %d, version %d: the window has %v, want %v", seed, n, got, v.want)
			}
			for i, c := range v.chunks {
				if len(c) == 0 || len(c) > chunkRows || cap(c) > len(c) && i < len(v.chunks)-1 {
					t.Fatalf("seed %d, version %d: chunk %d has %d items, and room for %d", seed, n, i, len(c), cap(c))
				}
			}
		}
	}
	if split < 100 || cut < 100 || emptied < 10 {
		t.Errorf("%d splits, %d items cut off, %d empty windows: the test proves nothing", split, cut, emptied)
	}
}

// Each write patches each kind of window as the table in docs/architecture.md says.
func TestPatchTableRows(t *testing.T) {
	abc := []chat.Item{at("a", 1), at("b", 2), at("c", 2)}
	whole, part, empty := windowFrom(abc, olderNone, 9), windowFrom(abc, olderSome, 9), windowFrom(nil, olderSome, 9)
	type op func(window) (window, bool)
	add := func(it chat.Item) op { return func(w window) (window, bool) { return w.put(it, true, 9) } }
	save := func(it chat.Item) op { return func(w window) (window, bool) { return w.put(it, false, 9) } }
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
			windowFrom(abc, olderUnknown, 9), save(at("d", 0)), "abc", olderSome},
		{"save, new to an incomplete window: drop", part, save(at("d", 2)), "", 0},
		{"delete in the window", part, remove("b"), "ac", olderSome},
		{"delete beyond an incomplete window: older is unknown", part, remove("x"), "abc", olderUnknown},
		{"delete of a missing item of a whole thread", whole, remove("x"), "abc", olderNone},
		{"trimming: older is some", whole, func(w window) (window, bool) { return w.put(at("d", 3), true, 3) }, "bcd", olderSome},
		{"trimming of the new item: older is some", whole, func(w window) (window, bool) { return w.put(at("d", 0), true, 3) }, "abc", olderSome},
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
			for _, it := range got.items() {
				ids += it.ID
			}
			if ids != c.items || got.older != c.older {
				t.Errorf("got %s, older %d; want %s, older %d", ids, got.older, c.items, c.older)
			}
		})
	}
	if !sameItems(whole.items(), abc) || whole.older != olderNone {
		t.Errorf("a patch changed the window before it: %v", whole.items())
	}
}

// After the delete of an older item, a page that ends at the edge of the window cannot be answered: it is not known whether
// more items follow.
func TestAPageThatEndsAtTheEdgeMissesWhenOlderIsUnknown(t *testing.T) {
	w := windowFrom([]chat.Item{at("a", 1), at("b", 2)}, olderUnknown, 9)
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
			w, ok := windowOf("thr_1", c.order, c.page, 9)
			if ok != c.ok {
				t.Fatalf("accepted: %v, want %v", ok, c.ok)
			}
			if ok && (w.items()[0].ID != "a" || (w.older == olderNone) == c.page.HasMore) {
				t.Errorf("got %+v", w)
			}
		})
	}
}
