// Package chatkit speaks the ChatKit protocol over any store.Store: one HTTP endpoint that a ChatKit front end posts to, and a
// [Responder] that is the assistant.
//
//	h := chatkit.NewHandler(s, answer.NewDemo())
//	http.Handle("POST /chatkit", authenticate(h)) // puts a store.Principal into the request's context
//	defer h.Shutdown(ctx)
//
// Who may see and change what is the store's to say: put a decorator such as authz around it. The handler calls it as the
// ChatKit SDKs' servers do, and keeps three promises to the client: what it was told is done, is stored; a thread that was
// deleted stays deleted; and if it goes away in mid-stream, what it has read of a message is kept.
//
// It is part of an example, to be copied from, and promises no stable interface.
package chatkit
