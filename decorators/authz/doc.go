// Package authz controls access to a [store.Store]. Its layer asks a [Policy] about every call and denies by default. With
// [OwnerOnly], users reach only their own threads and attachments. With [Shared], they also reach the threads that others share with
// them.
//
// Use it when one Store keeps the conversations of more than one user:
//
//	s := store.Wrap(base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
//	ctx = store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
//	thread, err := s.LoadThread(ctx, id) // ErrNotFound unless it is ada's
//
// Put it outside of every cache and singleflight layer, and inside of tracing and metrics. A row that the caller may not read
// is answered as if it did not exist. [New] lists the answers.
//
// Do not use it for jobs without a user, such as retention and export: the layer has no bypass. Give such jobs the
// Store beneath this layer, with its cache.
//
// It does not authenticate. Your code authenticates a request and puts the principal into the context. If it takes the
// principal unchecked from the network, no policy can help.
//
// # What it does not do
//
//   - It does not hide timing. With [ShareBelow], response times reveal whether a row is cached. A slow audit function reveals
//     which calls are denied.
//   - It does not hide the load of the base, or that an id is in use or was used once.
//   - It does not guard the base itself: code that holds the base reaches every row. [store.As] and [store.All] do not look
//     through this layer.
//   - It does not look into content, except for the ids of the attachments in user messages.
package authz
