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
// # What a caller gets
//
// Arguments are checked first. A call without a principal, or with one that cannot own rows, is [store.ErrUnauthenticated],
// and the base is not called. A call on a row that the caller may not read is answered as if there were no such row. Value, code
// and error text are the same, and so are the calls of the base and of the policy:
//
//   - loads, and saves of items: [store.ErrNotFound]
//   - LoadThreadItems: an empty page; with After, ErrNotFound
//   - deletes: nil, and nothing is deleted
//   - SaveThread and SaveAttachment: [store.ErrConflict], as for any id that is taken; under [store.UpdateOnly], ErrNotFound.
//     An id once used is its owner's, so this alone tells that an id is taken: draw ids that cannot be guessed
//     ([store.LongIDs])
//
// A row that may be read, but not changed or deleted, is [store.ErrDenied], and so is the creation of a row for an owner for
// whom the caller may not create rows. A policy that fails is [store.ErrUnavailable]; nothing was written then, and the
// error also is [store.ErrNotApplied].
//
// Errors of the base reach the caller in this layer's words, with the same code. The base's own error is their cause only
// where it is a failure (timeout, unavailable, internal): for logs, never for callers.
//
// # Owners
//
// Whose a row is, the stored row says, never the input. A row without an owner is nobody's, and out of reach for all but
// [HasRole]. A new row without an owner becomes the caller's. An existing one is saved [store.UpdateOnly] and a new one
// [store.InsertOnly], whatever else the caller's save mode asks, so that the row that was decided about is the one written.
// Only an Upsert of the caller's own row that came or went under two looks is left to the base to decide.
//
// # Listings
//
// LoadThreads with the zero filter lists the caller's own. The policy narrows the filter before the base is asked, so pages
// are full and cursors hold; pages are not filtered afterwards. Granted threads are reached by id.
//
// # Attachments
//
// An attachment is its owner's, whatever thread it names: Attachment.ThreadID grants nothing, and is not checked. A user
// message may name only attachments that its sender can read; those that the stored message already names are not asked
// about again, so that others may save it. One that may not be read and one that is not there are the same ErrNotFound.
// The ids are checked, not what the message says about them. Items of other types are written by the server, and not
// looked into: a server that stores items from its clients unseen must not let them choose the type.
//
// # The base
//
// The rows of the base are checked. Rows with another id, of another thread, or outside of the listing are withheld: the call is
// an internal error, counted as chatstore_authz_stray_rows_total. Decisions are counted as chatstore_authz_decisions_total,
// for package metrics to export.
//
// # What it does not do
//
// It does not hide timing. With a layer beneath that is shared between principals ([ShareBelow]), a stranger who measures
// can tell a cached row from none; an audit function that takes long does the same. It does not hide load, or that an id
// was used once. It does not guard what is reached around it: package store's As and All do not look through it, but
// whoever holds the base holds everything. It does not look into content.
package authz
