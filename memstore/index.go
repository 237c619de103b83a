package memstore

import (
	"cmp"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/store"
)

// row is a row of a listing. key is its place there.
type row[K, T any] struct {
	key K
	val T
}

// ordered is a key of an index. No two rows of an index have equal keys.
type ordered[K any] interface{ compare(K) int }

// idKey orders threads by time, and threads of equal time by id. Attachments are ordered by id: they have no time.
type idKey struct {
	at int64 // CreatedAt in microseconds since 1970
	id string
}

func (k idKey) compare(l idKey) int {
	if c := cmp.Compare(k.at, l.at); c != 0 {
		return c
	}
	return strings.Compare(k.id, l.id)
}

// itemKey orders items by time, and items of equal time by insertion.
type itemKey struct {
	at  int64 // CreatedAt in microseconds since 1970
	seq uint64
}

func (k itemKey) compare(l itemKey) int {
	if c := cmp.Compare(k.at, l.at); c != 0 {
		return c
	}
	return cmp.Compare(k.seq, l.seq)
}

// fanout is the maximal number of entries of a node. With the entry that splits it, a node has the 64 to which its slices grow.
const fanout = 63

// index is a B+ tree of rows. The rows are in the leaves, and the leaves are a doubly linked list. So a page takes one
// descent and a walk over leaves. Nodes are split when they overflow, and removed when they are empty. They are never
// merged: every leaf has at least one row. The zero index is empty. A nil index can be read, and is empty too.
type index[K ordered[K], T any] struct {
	root *node[K, T]
	len  int
}

// node is a leaf, which has rows, or an inner node, which has kids.
type node[K ordered[K], T any] struct {
	keys       []K // of the rows; of an inner node, lower bounds of the kids' keys, where the first is not used
	rows       []*row[K, T]
	kids       []*node[K, T]
	prev, next *node[K, T] // of a leaf
}

func (n *node[K, T]) leaf() bool { return n.kids == nil }

// find returns the position of k among the keys, and whether n has k.
func (n *node[K, T]) find(k K) (int, bool) { return slices.BinarySearchFunc(n.keys, k, K.compare) }

// kid returns the position of the kid that k belongs to.
func (n *node[K, T]) kid(k K) int {
	i, found := slices.BinarySearchFunc(n.keys[1:], k, K.compare)
	if found {
		i++
	}
	return i
}

// insert adds a row.
func (x *index[K, T]) insert(r *row[K, T]) {
	if x.root == nil {
		x.root = &node[K, T]{}
	}
	if low, right := x.root.insert(r); right != nil {
		x.root = &node[K, T]{keys: []K{low, low}, kids: []*node[K, T]{x.root, right}}
	}
	x.len++
}

// insert adds a row at or beneath n. If n overflows, it is split: insert returns the new right node and its lowest key.
func (n *node[K, T]) insert(r *row[K, T]) (low K, right *node[K, T]) {
	if n.leaf() {
		i, _ := n.find(r.key)
		n.keys = slices.Insert(n.keys, i, r.key)
		n.rows = slices.Insert(n.rows, i, r)
		if len(n.keys) <= fanout {
			return low, nil
		}
		mid := len(n.keys) / 2
		if n.next == nil && i == fanout {
			mid = i // rows are inserted in order: keep the left leaf full
		}
		right = &node[K, T]{keys: slices.Clone(n.keys[mid:]), rows: slices.Clone(n.rows[mid:]), prev: n, next: n.next}
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
		return low, nil
	}
	n.keys = slices.Insert(n.keys, i+1, low)
	n.kids = slices.Insert(n.kids, i+1, right)
	if len(n.keys) <= fanout {
		return low, nil
	}
	mid := len(n.keys) / 2
	right = &node[K, T]{keys: slices.Clone(n.keys[mid:]), kids: slices.Clone(n.kids[mid:])}
	n.keys, n.kids = slices.Delete(n.keys, mid, len(n.keys)), slices.Delete(n.kids, mid, len(n.kids))
	return right.keys[0], right
}

// remove removes a row, which x must have.
func (x *index[K, T]) remove(r *row[K, T]) {
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
func (n *node[K, T]) remove(k K) {
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

// seek returns the leaf where k is or would be, its position there, and whether the leaf has it.
func (x *index[K, T]) seek(k K) (n *node[K, T], i int, found bool) {
	n = x.root
	for !n.leaf() {
		n = n.kids[n.kid(k)]
	}
	i, found = n.find(k)
	return n, i, found
}

// end returns the leaf and the position of the first row in order o.
func (x *index[K, T]) end(o store.Order) (*node[K, T], int) {
	n := x.root
	for !n.leaf() {
		if o == store.OldestFirst {
			n = n.kids[0]
		} else {
			n = n.kids[len(n.kids)-1]
		}
	}
	if o == store.OldestFirst {
		return n, 0
	}
	return n, len(n.rows) - 1
}

// step returns the position that follows position i of leaf n in order o. A nil leaf is the end.
func (n *node[K, T]) step(i int, o store.Order) (*node[K, T], int) {
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

// first returns the position where a listing in order o begins: behind the place after, or at the first row if after is nil.
// There need not be a row at that place.
func (x *index[K, T]) first(after *K, o store.Order) (*node[K, T], int) {
	if x == nil || x.root == nil {
		return nil, 0
	}
	if after == nil {
		return x.end(o)
	}
	n, i, found := x.seek(*after)
	if o == store.OldestFirst && !found {
		i-- // the row at i is the first one behind the place
	}
	return n.step(i, o)
}

// page returns the page that q asks for. It begins behind the place after, or at the first row if after is nil. id returns the
// id of a value.
func (x *index[K, T]) page(after *K, q store.PageQuery, id func(*T) string) store.Page[T] {
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
