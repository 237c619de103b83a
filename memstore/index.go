package memstore

import (
	"cmp"
	"math"
	"slices"

	"github.com/chatstore/chatstore/store"
)

// row is a row of a listing. key is its place there.
type row[T any] struct {
	key key
	val T
}

// key orders rows by time, and rows of equal time by insertion. No two rows of a listing have equal keys.
type key struct {
	at  int64 // CreatedAt in microseconds since 1970
	seq uint64
}

var (
	minKey = key{at: math.MinInt64}
	maxKey = key{at: math.MaxInt64, seq: math.MaxUint64}
)

func (k key) compare(l key) int {
	if c := cmp.Compare(k.at, l.at); c != 0 {
		return c
	}
	return cmp.Compare(k.seq, l.seq)
}

// fanout is the maximal number of entries of a node.
const fanout = 64

// index is a B+ tree of rows. The rows are in the leaves, and the leaves are a doubly linked list. So a page takes one
// descent and a walk over leaves. Nodes are split when they overflow, and removed when they are empty. They are never
// merged: every leaf has at least one row. The zero index is empty. A nil index can be read, and is empty too.
type index[T any] struct {
	root *node[T]
	len  int
}

// node is a leaf, which has rows, or an inner node, which has kids.
type node[T any] struct {
	keys       []key // of the rows; of an inner node, lower bounds of the kids' keys, where the first is not used
	rows       []*row[T]
	kids       []*node[T]
	prev, next *node[T] // of a leaf
}

func (n *node[T]) leaf() bool { return n.kids == nil }

// find returns the position of k among the keys, and whether n has k.
func (n *node[T]) find(k key) (int, bool) { return slices.BinarySearchFunc(n.keys, k, key.compare) }

// kid returns the position of the kid that k belongs to.
func (n *node[T]) kid(k key) int {
	i, found := slices.BinarySearchFunc(n.keys[1:], k, key.compare)
	if found {
		i++
	}
	return i
}

// insert adds a row.
func (x *index[T]) insert(r *row[T]) {
	if x.root == nil {
		x.root = &node[T]{}
	}
	if low, right := x.root.insert(r); right != nil {
		x.root = &node[T]{keys: []key{minKey, low}, kids: []*node[T]{x.root, right}}
	}
	x.len++
}

// insert adds a row at or beneath n. If n overflows, it is split: insert returns the new right node and its lowest key.
func (n *node[T]) insert(r *row[T]) (low key, right *node[T]) {
	if n.leaf() {
		i, _ := n.find(r.key)
		n.keys = slices.Insert(n.keys, i, r.key)
		n.rows = slices.Insert(n.rows, i, r)
		if len(n.keys) <= fanout {
			return key{}, nil
		}
		mid := len(n.keys) / 2
		if n.next == nil && i == fanout {
			mid = i // rows are inserted in order: keep the left leaf full
		}
		right = &node[T]{keys: slices.Clone(n.keys[mid:]), rows: slices.Clone(n.rows[mid:]), prev: n, next: n.next}
		n.keys, n.rows = slices.Delete(n.keys, mid, len(n.keys)), slices.Delete(n.rows, mid, len(n.rows))
		if n.next != nil {
			n.next.prev = right
		}
		n.next = right
		return right.keys[0], right
	}
	i := n.kid(r.key)
	low, right = n.kids[i].insert(r)
	if right == nil {
		return key{}, nil
	}
	n.keys = slices.Insert(n.keys, i+1, low)
	n.kids = slices.Insert(n.kids, i+1, right)
	if len(n.keys) <= fanout {
		return key{}, nil
	}
	mid := len(n.keys) / 2
	right = &node[T]{keys: slices.Clone(n.keys[mid:]), kids: slices.Clone(n.kids[mid:])}
	n.keys, n.kids = slices.Delete(n.keys, mid, len(n.keys)), slices.Delete(n.kids, mid, len(n.kids))
	return right.keys[0], right
}

// remove removes a row, which x must have.
func (x *index[T]) remove(r *row[T]) {
	x.root.remove(r.key)
	x.len--
	for len(x.root.kids) == 1 {
		x.root = x.root.kids[0]
	}
	if x.len == 0 {
		x.root = nil
	}
}

// remove removes the row of key k at or beneath n.
func (n *node[T]) remove(k key) {
	if n.leaf() {
		i, _ := n.find(k)
		n.keys, n.rows = slices.Delete(n.keys, i, i+1), slices.Delete(n.rows, i, i+1)
		return
	}
	i := n.kid(k)
	kid := n.kids[i]
	kid.remove(k)
	if len(kid.keys) > 0 {
		return
	}
	if kid.prev != nil {
		kid.prev.next = kid.next
	}
	if kid.next != nil {
		kid.next.prev = kid.prev
	}
	n.keys, n.kids = slices.Delete(n.keys, i, i+1), slices.Delete(n.kids, i, i+1)
}

// seek returns the leaf where k is or would be, and its position there.
func (x *index[T]) seek(k key) (*node[T], int) {
	n := x.root
	for !n.leaf() {
		n = n.kids[n.kid(k)]
	}
	i, _ := n.find(k)
	return n, i
}

// step returns the position that follows position i of leaf n in order o. A nil leaf is the end.
func (n *node[T]) step(i int, o store.Order) (*node[T], int) {
	if o == store.OldestFirst {
		if i++; i >= len(n.rows) {
			return n.next, 0
		}
		return n, i
	}
	if i--; i < 0 && n.prev != nil {
		return n.prev, len(n.prev.rows) - 1
	} else if i < 0 {
		return nil, 0
	}
	return n, i
}

// first returns the position where a listing in order o begins: behind the row after, or at the first row if after is nil.
func (x *index[T]) first(after *row[T], o store.Order) (*node[T], int) {
	switch {
	case x == nil || x.root == nil:
		return nil, 0
	case after == nil && o == store.OldestFirst:
		return x.seek(minKey)
	}
	k := maxKey
	if after != nil {
		k = after.key
	}
	n, i := x.seek(k)
	return n.step(i, o)
}

// page returns the page that q asks for. It begins behind the row after, or at the first row if after is nil. id returns the
// id of a value.
func (x *index[T]) page(after *row[T], q store.PageQuery, id func(*T) string) store.Page[T] {
	n, i := x.first(after, q.Order)
	if n == nil {
		return store.Page[T]{}
	}
	p := store.Page[T]{Data: make([]T, 0, min(q.Limit, x.len))}
	for ; n != nil; n, i = n.step(i, q.Order) {
		if len(p.Data) == q.Limit {
			p.HasMore, p.After = true, id(&p.Data[q.Limit-1])
			break
		}
		p.Data = append(p.Data, n.rows[i].val)
	}
	return p
}
