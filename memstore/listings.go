package memstore

import (
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// listings has the indexes of threads or of attachments: one of all rows, one per tenant and one per owner. The zero Owner's has
// the rows without an owner. A row is in two or three of them.
type listings[T any] struct {
	mu      sync.RWMutex
	all     index[idKey, T]
	tenants map[string]*index[idKey, T]
	owners  map[chat.Owner]*index[idKey, T]
}

// insert adds a row of owner. The caller holds l.mu.
func (l *listings[T]) insert(owner chat.Owner, r *row[idKey, T]) {
	l.all.insert(r)
	insertUnder(&l.owners, owner, r)
	if !owner.IsZero() {
		insertUnder(&l.tenants, owner.Tenant, r)
	}
}

// remove removes a row of owner. The caller holds l.mu.
func (l *listings[T]) remove(owner chat.Owner, r *row[idKey, T]) {
	l.all.remove(r)
	removeUnder(l.owners, owner, r)
	if !owner.IsZero() {
		removeUnder(l.tenants, owner.Tenant, r)
	}
}

func insertUnder[N comparable, T any](m *map[N]*index[idKey, T], name N, r *row[idKey, T]) {
	x := (*m)[name]
	if x == nil {
		if *m == nil {
			*m = map[N]*index[idKey, T]{}
		}
		x = &index[idKey, T]{}
		(*m)[name] = x
	}
	x.insert(r)
}

func removeUnder[N comparable, T any](m map[N]*index[idKey, T], name N, r *row[idKey, T]) {
	x := m[name]
	if x.remove(r); x.len == 0 {
		delete(m, name)
	}
}

// of returns the index of the rows that f matches, or nil if there are none.
func (l *listings[T]) of(f store.OwnerFilter) *index[idKey, T] {
	if f.IsAny() {
		return &l.all
	}
	if tenant, ok := f.Tenant(); ok {
		return l.tenants[tenant]
	}
	owner, _ := f.Owner()
	return l.owners[owner]
}
