// Package authz makes sure that nobody reads or changes what is not theirs: a layer around a [store.Store] that asks a
// [Policy] about every call. It denies by default.
//
// Use it wherever one Store keeps the conversations of more than one user, outside of any cache:
//
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
//	ctx = store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
//	thread, err := s.LoadThread(ctx, id) // ErrNotFound unless it is ada's
//
// Do not use it for jobs that act for nobody, such as retention and export: give them a second stack over the same base,
// without this layer. It has no bypass. It does not authenticate: whoever does puts the principal into the context, and a
// principal that came from the network unchecked is a hole that no policy closes.
//
// A caller gets the same answer for a row that it may not read as for a row that does not exist. [New] lists the answers, call by
// call.
//
// # What it does not do
//
// It does not hide timing. With a layer beneath that is shared between principals ([ShareBelow]), a stranger who measures
// can tell a cached row from none; an audit function that takes long does the same. It does not hide load, or that an id
// was used once. It does not guard what is reached around it: package store's As and All do not look through it, but
// whoever holds the base holds everything. It does not look into content.
package authz
