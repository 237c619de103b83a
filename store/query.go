package store

import (
	"github.com/chatstore/chatstore/chat"
)

// Limits of a page.
const (
	DefaultLimit = 20   // what a Limit of zero means
	MaxLimit     = 1000 // a larger Limit is cut to this
)

// Order is the direction of a listing. Rows are ordered by their CreatedAt, and rows of equal time by when they were
// inserted; newest first is the exact reverse of oldest first.
type Order uint8

// The orders. The zero value is NewestFirst.
const (
	NewestFirst Order = iota
	OldestFirst
)

// String returns "desc" or "asc", the words of the ChatKit wire.
func (o Order) String() string {
	if o == OldestFirst {
		return "asc"
	}
	return "desc"
}

// PageQuery asks for one page of a listing. The zero value asks for the newest [DefaultLimit] rows.
type PageQuery struct {
	// Limit is the most rows to return: 0 means DefaultLimit, above MaxLimit means MaxLimit, negative is ErrInvalid.
	Limit int
	// After is the id of a row of the same listing, which the page begins behind; "" begins at the first row. An id that
	// is not in the listing is ErrNotFound.
	After string
	Order Order
}

// ThreadQuery asks for one page of the threads that Owner matches.
type ThreadQuery struct {
	PageQuery
	Owner OwnerFilter
}

// OwnerFilter selects threads by owner. The zero filter selects threads without an owner (package authz reads it as "the
// caller's own"): an empty filter never means everybody's.
type OwnerFilter struct {
	mode  filterMode
	owner chat.Owner
}

type filterMode uint8

const (
	filterUnowned filterMode = iota
	filterOwner
	filterTenant
	filterAny
)

// OwnedBy selects the rows of exactly this owner. OwnedBy(Owner{}) is the zero filter.
func OwnedBy(o chat.Owner) OwnerFilter {
	if o.IsZero() {
		return OwnerFilter{}
	}
	return OwnerFilter{mode: filterOwner, owner: o}
}

// InTenant selects the rows of every owner of this tenant; unowned rows are in no tenant, not even in "".
func InTenant(tenant string) OwnerFilter {
	return OwnerFilter{mode: filterTenant, owner: chat.Owner{Tenant: tenant}}
}

// AnyOwner selects every row, unowned ones too.
func AnyOwner() OwnerFilter { return OwnerFilter{mode: filterAny} }

// Match reports whether a row of owner o is selected.
func (f OwnerFilter) Match(o chat.Owner) bool {
	switch f.mode {
	case filterOwner:
		return o == f.owner
	case filterTenant:
		return o.Tenant == f.owner.Tenant && !o.IsZero()
	case filterAny:
		return true
	}
	return o.IsZero()
}

// Owner returns the one owner that f selects: ok is false unless f is OwnedBy of an owner or the zero filter. Backends use
// it, with Tenant and IsAny, to choose an index.
func (f OwnerFilter) Owner() (o chat.Owner, ok bool) {
	return f.owner, f.mode == filterOwner || f.mode == filterUnowned
}

// Tenant returns the tenant that f selects; ok is false unless f is InTenant.
func (f OwnerFilter) Tenant() (tenant string, ok bool) {
	return f.owner.Tenant, f.mode == filterTenant
}

// IsAny reports whether f is AnyOwner.
func (f OwnerFilter) IsAny() bool { return f.mode == filterAny }

// Intersect returns the filter that selects what both f and g select; ok is false when no row can match both.
func (f OwnerFilter) Intersect(g OwnerFilter) (both OwnerFilter, ok bool) {
	if f.mode > g.mode {
		f, g = g, f // the narrower first
	}
	switch {
	case g.mode == filterAny, f == g:
		return f, true
	case f.mode == filterOwner && g.mode == filterTenant:
		return f, g.Match(f.owner)
	}
	return OwnerFilter{}, false
}
