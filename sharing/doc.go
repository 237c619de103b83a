// Package sharing shares threads: their owner grants other principals the right to read or edit them. A grant is to a subject,
// to all who have a role in a tenant, or to a whole tenant.
//
//	base := sharing.New(memstore.New()) // or a *sqlstore.Store, which keeps grants in its database
//	s := store.Wrap(base, authz.New(authz.AnyOf(authz.OwnerOnly(), authz.Shared(base)), authz.ShareBelow()), cache.New())
//
//	err := sharing.Share(ctx, s, base, threadID, sharing.Grantee{Tenant: "acme", Group: "support"}, sharing.Viewer)
//	page, err := sharing.List(ctx, s, base, "", 20) // what others have shared with the caller
//
// Use it where users share whole threads with each other. It does not share single items, and roles do not inherit from folders,
// teams of teams or other relations. If a relation engine such as SpiceDB or OpenFGA decides that in your program, implement
// [Lookup] over it, and leave the rest of this package out. If only administrators see threads of others, use authz.TenantAdmin
// alone.
//
// Grants are beside the stack, not in it: no cache holds them, and authz asks for them on every call. So a revoked grant ends with
// the next call. A grant ends with its thread: if the owner saves the deleted id again, the new thread is not shared.
//
// Check your own [Grants] with package storetest/grants.
package sharing
