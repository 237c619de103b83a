// Package chatkit serves the ChatKit protocol over any store.Store. A [Responder] is your assistant. If OpenAI hosts the assistant,
// you do not need this package.
//
//	h := chatkit.NewHandler(s, responder)
//	http.Handle("POST /chatkit", authenticate(h)) // puts a store.Principal into the context
//	defer h.Shutdown(ctx)
//
// What a client reads as done is stored. A deleted thread stays deleted. If the client goes away during a message, the part that
// was sent is kept. A thread has one answer at a time, also with several servers on one database; over a Store that keeps no
// versions, this holds within one process. The store decides who may see and change what: wrap it in a decorator such as authz.
package chatkit
