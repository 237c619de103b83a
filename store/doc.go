// Package store is the contract of chatstore: what a program that keeps chat conversations may ask of its storage, and
// what every implementation of [Store] owes it.
//
// The contract is that of the ChatKit backend SDKs (Python openai-chatkit, Node chatkit-node-backend-sdk): threads, the
// items of a thread, and attachments. The package has the interfaces, the values and their JSON, the errors, the identity
// that travels in a context, and the two primitives, [Observe] and [Intercept], from which decorators are made. It imports
// the standard library only.
//
// Use it to write against any backend, to write a backend of your own (check it with package storetest), or to write a
// decorator. It holds no data itself: package memstore does.
//
//	s := store.Wrap(base, tracing.New(), authz.New(authz.OwnerOnly()), cache.New())
//	defer store.Close(s)
//	ctx = store.WithPrincipal(ctx, store.Principal{Owner: store.Owner{Tenant: "acme", Subject: "ada"}})
//	thread, err := s.LoadThread(ctx, "thr_1a2b3c4d")
//	if errors.Is(err, store.ErrNotFound) { … }
package store
