// Package store defines the contract between a chat application and its storage. It has the interface [Store], its errors,
// queries and save modes, the caller's identity, and functions that put layers around a Store.
//
// The contract is the storage contract of the ChatKit backend SDKs (Python openai-chatkit, Node chatkit-node-backend-sdk). A
// Store keeps threads, the items of threads, and attachments. Package chat defines these values.
//
// Use this package to write an application that works with any backend. To write a backend, see package store/driver, and
// check it with package storetest. To write a layer, see package store/layer. This package stores nothing itself; package
// memstore is a store in memory.
//
//	s := store.Wrap(memstore.New(), tracing.New(), authz.New(authz.OwnerOnly()), cache.New())
//	defer store.Close(s)
//	ctx = store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
//	thread, err := s.LoadThread(ctx, "thr_1a2b3c4d")
//	if errors.Is(err, store.ErrNotFound) { … }
package store
