package store

import (
	"github.com/chatstore/chatstore/chat"
)

// Limits of a page.
const (
	DefaultLimit = 20   // rows if Limit is 0
	MaxLimit     = 1000 // rows if Limit is larger
)

// Order is the direction of a listing. Rows are ordered by CreatedAt. Threads of equal times are ordered by id, and ids compare
// as bytes. Items of equal times are ordered by insertion in their thread. Newest first is the exact reverse of oldest first.
type Order uint8

// The orders. The zero value is NewestFirst.
const (
	NewestFirst Order = iota
	OldestFirst
)

// String returns "desc" or "asc", as in the ChatKit SDKs.
func (o Order) String() string {
	if o == OldestFirst {
		return "asc"
	}
	return "desc"
}

// PageQuery asks for one page of a listing. The zero value asks for the newest [DefaultLimit] rows.
type PageQuery struct {
	// Limit is the maximum number of rows: 0 means DefaultLimit, above MaxLimit means MaxLimit, negative is ErrInvalid.
	Limit int
	// After is the id of a row that is, or was, in the same listing. The page begins behind the place of that row. "" begins
	// at the first row. A deleted row has the place where it stood last; a row that moved or was inserted again has its new
	// place. The places of items end with their thread. Another id, or that of another owner's row, is ErrNotFound.
	After string
	Order Order
}

// ThreadQuery asks for one page of the threads that the Owner filter selects.
type ThreadQuery struct {
	PageQuery
	Owner OwnerFilter
}

// OwnerFilter selects threads by owner. The zero filter selects threads without an owner, never all threads. Package authz
// reads the zero filter as "the caller's own threads".
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

// OwnedBy selects the rows of exactly this owner. With the zero Owner it returns the zero filter.
func OwnedBy(o chat.Owner) OwnerFilter {
	if o.IsZero() {
		return OwnerFilter{}
	}
	return OwnerFilter{mode: filterOwner, owner: o}
}

// InTenant selects the rows of all owners in this tenant. Unowned rows belong to no tenant, not even to "".
func InTenant(tenant string) OwnerFilter {
	return OwnerFilter{mode: filterTenant, owner: chat.Owner{Tenant: tenant}}
}

// AnyOwner selects all rows, including unowned ones.
func AnyOwner() OwnerFilter { return OwnerFilter{mode: filterAny} }

// Match reports whether f selects a row of owner o.
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

// Owner returns the one owner that f selects. ok is false for InTenant and AnyOwner. With Tenant and IsAny, it helps a
// backend to choose an index.
func (f OwnerFilter) Owner() (o chat.Owner, ok bool) {
	return f.owner, f.mode == filterOwner || f.mode == filterUnowned
}

// Tenant returns the tenant that f selects. ok is false unless f comes from InTenant.
func (f OwnerFilter) Tenant() (tenant string, ok bool) {
	return f.owner.Tenant, f.mode == filterTenant
}

// IsAny reports whether f comes from AnyOwner.
func (f OwnerFilter) IsAny() bool { return f.mode == filterAny }

// Intersect returns the filter for rows that both f and g select. ok is false if there can be no such row.
func (f OwnerFilter) Intersect(g OwnerFilter) (both OwnerFilter, ok bool) {
	if f.mode > g.mode {
		f, g = g, f // f is the narrower one
	}
	switch {
	case g.mode == filterAny, f == g:
		return f, true
	case f.mode == filterOwner && g.mode == filterTenant:
		return f, g.Match(f.owner)
	}
	return OwnerFilter{}, false
}
