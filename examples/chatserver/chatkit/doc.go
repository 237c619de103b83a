// Package chatkit serves the ChatKit protocol over any store.Store. It has one HTTP endpoint for ChatKit front ends, and
// calls a [Responder], which is the assistant.
//
//	h := chatkit.NewHandler(s, answer.NewDemo())
//	http.Handle("POST /chatkit", authenticate(h)) // puts a store.Principal into the request's context
//	defer h.Shutdown(ctx)
//
// The store decides who may see and change what: wrap it in a decorator such as authz. The handler calls the store as the
// servers of the ChatKit SDKs do. It keeps three promises to the client:
//
//   - When the client reads that something is done, it is stored.
//   - A deleted thread stays deleted.
//   - If the client goes away during a message, the part that was sent is kept.
//
// The package is part of an example. Copy from it: its interface is not stable.
package chatkit
