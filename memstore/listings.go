package memstore

import (
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// listings has the indexes of threads: one of all threads, one per tenant and one per owner. The zero Owner's has the threads
// without an owner. A thread's row is in two or three of them.
type listings struct {
	mu      sync.RWMutex
	seq     uint64 // of the thread inserted last
	all     index[chat.Thread]
	tenants map[string]*index[chat.Thread]
	owners  map[chat.Owner]*index[chat.Thread]
}

// insert adds a thread's row. The caller holds l.mu.
func (l *listings) insert(r *row[chat.Thread]) {
	l.all.insert(r)
	insertUnder(&l.owners, r.val.Owner, r)
	if !r.val.Owner.IsZero() {
		insertUnder(&l.tenants, r.val.Owner.Tenant, r)
	}
}

// remove removes a thread's row. The caller holds l.mu.
func (l *listings) remove(r *row[chat.Thread]) {
	l.all.remove(r)
	removeUnder(l.owners, r.val.Owner, r)
	if !r.val.Owner.IsZero() {
		removeUnder(l.tenants, r.val.Owner.Tenant, r)
	}
}

func insertUnder[K comparable, T any](m *map[K]*index[T], k K, r *row[T]) {
	x := (*m)[k]
	if x == nil {
		if *m == nil {
			*m = map[K]*index[T]{}
		}
		x = &index[T]{}
		(*m)[k] = x
	}
	x.insert(r)
}

func removeUnder[K comparable, T any](m map[K]*index[T], k K, r *row[T]) {
	x := m[k]
	if x.remove(r); x.len == 0 {
		delete(m, k)
	}
}

// of returns the index of the threads that f matches, or nil if there are none.
func (l *listings) of(f store.OwnerFilter) *index[chat.Thread] {
	if f.IsAny() {
		return &l.all
	}
	if tenant, ok := f.Tenant(); ok {
		return l.tenants[tenant]
	}
	owner, _ := f.Owner()
	return l.owners[owner]
}
