package memstore

import (
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// listings are the orders in which threads are listed: all of them, each tenant's, and each owner's, the zero Owner's being
// the unowned ones. A thread's row is in up to three of them.
type listings struct {
	mu      sync.RWMutex
	seq     uint64 // of the thread inserted last
	all     index[chat.Thread]
	tenants map[string]*index[chat.Thread]
	owners  map[chat.Owner]*index[chat.Thread]
}

// insert adds a thread's row. The lock is the caller's.
func (l *listings) insert(r *row[chat.Thread]) {
	l.all.insert(r)
	insertUnder(&l.owners, r.val.Owner, r)
	if !r.val.Owner.IsZero() {
		insertUnder(&l.tenants, r.val.Owner.Tenant, r)
	}
}

// remove takes a thread's row out. The lock is the caller's.
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

// of returns the index of what f selects, nil if that is nothing.
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
