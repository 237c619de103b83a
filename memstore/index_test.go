package memstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/chatstore/chatstore/store"
)

// sorted is the model of an index: the same rows in a sorted slice.
type sorted []*row[itemKey, string]

func (s *sorted) insert(r *row[itemKey, string]) {
	i, _ := slices.BinarySearchFunc(*s, r, compareRows)
	*s = slices.Insert(*s, i, r)
}

func (s *sorted) remove(r *row[itemKey, string]) {
	i, _ := slices.BinarySearchFunc(*s, r, compareRows)
	*s = slices.Delete(*s, i, i+1)
}

func compareRows(a, b *row[itemKey, string]) int { return a.key.compare(b.key) }

// page is a slow and simple index.page.
func (s sorted) page(after *itemKey, q store.PageQuery) store.Page[string] {
	rows := slices.Clone(s)
	if q.Order == store.NewestFirst {
		slices.Reverse(rows)
	}
	if after != nil {
		rows = slices.DeleteFunc(rows, func(r *row[itemKey, string]) bool {
			c := r.key.compare(*after)
			return c == 0 || (c < 0) == (q.Order == store.OldestFirst)
		})
	}
	var p store.Page[string]
	for _, r := range rows[:min(q.Limit, len(rows))] {
		p.Data = append(p.Data, r.val)
	}
	if len(rows) > q.Limit {
		p.HasMore, p.After = true, rows[q.Limit-1].val
	}
	return p
}

func self(s *string) string { return *s }

func equalPages(a, b store.Page[string]) bool {
	return slices.Equal(a.Data, b.Data) && a.HasMore == b.HasMore && a.After == b.After
}

// shape checks the shape of the tree, which bounds the cost of all operations, and returns its depth:
//   - A node has at most fanout entries.
//   - All leaves have the same depth, and no leaf is empty.
//   - The linked list has all leaves, from left to right.
func shape(t interface{ Fatalf(string, ...any) }, x *index[itemKey, string]) int {
	depth := -1
	var leaves []*node[itemKey, string]
	var walk func(n *node[itemKey, string], d int)
	walk = func(n *node[itemKey, string], d int) {
		if len(n.keys) == 0 || len(n.keys) > fanout || len(n.keys) != len(n.rows)+len(n.kids) {
			t.Fatalf("a node at depth %d has %d keys, %d rows and %d kids", d, len(n.keys), len(n.rows), len(n.kids))
		}
		if n.leaf() {
			if depth >= 0 && d != depth {
				t.Fatalf("leaves at depths %d and %d", depth, d)
			}
			depth = d
			leaves = append(leaves, n)
			return
		}
		for _, k := range n.kids {
			walk(k, d+1)
		}
	}
	if x.root == nil {
		return 0
	}
	if len(x.root.kids) == 1 {
		t.Fatalf("the root has only one kid")
	}
	walk(x.root, 0)
	for i, l := range leaves {
		var prev, next *node[itemKey, string]
		if i > 0 {
			prev = leaves[i-1]
		}
		if i+1 < len(leaves) {
			next = leaves[i+1]
		}
		if l.prev != prev || l.next != next {
			t.Fatalf("leaf %d of %d is not linked to its neighbours", i, len(leaves))
		}
	}
	return depth
}

// An index equals a sorted slice after inserts in rising, falling and random order, removals and moves.
func TestIndexEqualsSortedSlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index[itemKey, string]
		var want sorted
		seq := uint64(0)
		var places []itemKey
		insert := func(at int64) {
			seq++
			r := &row[itemKey, string]{itemKey{at, seq}, fmt.Sprint(seq)}
			x.insert(r)
			want.insert(r)
			places = append(places, r.key)
		}
		remove := func(i int) *row[itemKey, string] {
			r := want[i]
			x.remove(r)
			want.remove(r)
			return r
		}
		for range rapid.IntRange(1, 12).Draw(t, "phases") {
			n := rapid.IntRange(1, 600).Draw(t, "n")
			base := rapid.Int64Range(-1000, 1000).Draw(t, "base")
			switch rapid.IntRange(0, 6).Draw(t, "phase") {
			case 0:
				for i := range n {
					insert(base + int64(i))
				}
			case 1:
				for i := range n {
					insert(base - int64(i))
				}
			case 2: // ties
				for range n {
					insert(base)
				}
			case 3:
				for range min(n, 100) {
					insert(rapid.Int64Range(-1000, 1000).Draw(t, "at"))
				}
			case 4: // a run of removals
				if len(want) > 0 {
					from := rapid.IntRange(0, len(want)-1).Draw(t, "from")
					for range min(n, len(want)-from) {
						remove(from)
					}
				}
			case 5: // every other row
				for i := len(want) - 1; i >= 0; i -= 2 {
					remove(i)
				}
			case 6: // moves
				for range min(n, len(want), 50) {
					r := remove(rapid.IntRange(0, len(want)-1).Draw(t, "which"))
					r.key.at = rapid.Int64Range(-1000, 1000).Draw(t, "to")
					x.insert(r)
					want.insert(r)
				}
			}
			if x.len != len(want) {
				t.Fatalf("len: got %d, want %d", x.len, len(want))
			}
			shape(t, &x)
			for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
				q := store.PageQuery{Limit: rapid.SampledFrom([]int{1, 3, 64, 65, 1000}).Draw(t, "limit"), Order: order}
				var after *itemKey
				if len(places) > 0 && rapid.Bool().Draw(t, "cursor") { // the place of a row, or of one that was removed or moved
					after = &places[rapid.IntRange(0, len(places)-1).Draw(t, "after")]
				}
				if got, want := x.page(after, q, self), want.page(after, q); !equalPages(got, want) {
					t.Fatalf("page %+v (-want +got):\n%s", q, cmp.Diff(want, got))
				}
			}
			if got := ascending(&x); !slices.Equal(got, want) {
				t.Fatalf("ascending: got %d rows, want the %d rows of the slice in the same order", len(got), len(want))
			}
		}
	})
}

func ascending(x *index[itemKey, string]) (rows []*row[itemKey, string]) {
	for n, i := x.first(nil, store.OldestFirst); n != nil; n, i = n.step(i, store.OldestFirst) {
		rows = append(rows, n.rows[i])
	}
	return rows
}

// The depth is O(log n) in every order of insertion. A node's size is bounded, so an insertion, a move and a removal cost
// O(log n).
func TestDepthIsLogarithmic(t *testing.T) {
	const n = 200_000
	orders := map[string]func(i int) int64{
		"rising":  func(i int) int64 { return int64(i) },
		"falling": func(i int) int64 { return int64(-i) },
		"equal":   func(int) int64 { return 0 },
		"random":  func(int) int64 { return rand.Int64() },
		"inwards": func(i int) int64 { return int64((n - i) * (i%2*2 - 1)) },
		"falling behind a full leaf": func(i int) int64 {
			if i < fanout {
				return int64(i)
			}
			return int64(2*n - i)
		},
	}
	for name, at := range orders {
		t.Run(name, func(t *testing.T) {
			var x index[itemKey, string]
			for i := range n {
				x.insert(&row[itemKey, string]{key: itemKey{at(i), uint64(i)}})
			}
			// A split leaves at least fanout/2 entries in every node except the last of a level.
			if d := shape(t, &x); d > 3 {
				t.Errorf("depth of %d rows: got %d, want at most log %d to the base %d: 3", n, d, n, fanout/2)
			}
			leaves := 0
			for l, _ := x.end(store.OldestFirst); l != nil; l = l.next {
				leaves++
			}
			if most := 2*n/fanout + 1; leaves > most {
				t.Errorf("leaves of %d rows: got %d, want at most %d, as if half full", n, leaves, most)
			}
		})
	}
}

// A page needs one descent and the leaves of its rows. The test empties all other leaves.
func TestPageTouchesOnlyItsRows(t *testing.T) {
	for _, order := range []store.Order{store.OldestFirst, store.NewestFirst} {
		for _, depth := range []int{0, 100, 50_000, 99_900} {
			var x index[itemKey, string]
			var rows []*row[itemKey, string]
			for i := range 100_000 {
				r := &row[itemKey, string]{itemKey{int64(i / 3), uint64(i)}, fmt.Sprint(i)}
				x.insert(r)
				rows = append(rows, r)
			}
			q := store.PageQuery{Limit: 20, Order: order}
			want := sorted(rows).page(&rows[depth].key, q)
			near := map[*node[itemKey, string]]bool{}
			n, _, _ := x.seek(rows[depth].key)
			for _, l := range []*node[itemKey, string]{n.prev, n, n.next} {
				near[l] = true
			}
			cut := 0
			for l, _ := x.end(store.OldestFirst); l != nil; {
				next := l.next
				if !near[l] {
					*l = node[itemKey, string]{} // a walk that comes here finds no rows
					cut++
				}
				l = next
			}
			if got := x.page(&rows[depth].key, q, self); !equalPages(got, want) {
				t.Errorf("page %s behind row %d, with %d other leaves emptied: got %+v, want %+v", order, depth, cut, got, want)
			}
		}
	}
}
