// Package store is the contract between a program that keeps chat conversations and its storage: the interface [Store], its
// errors, queries and save modes, the identity of the caller, and how layers are put around a Store.
//
// The contract is the storage contract of the ChatKit backend SDKs (Python openai-chatkit, Node chatkit-node-backend-sdk):
// threads, the items of a thread, and attachments. Package chat has their values.
//
// Use this package to write an application against any backend. To write a backend, see package store/driver and check it
// with package storetest. To write a layer, see package store/layer. This package holds no data; package memstore does.
//
//	s := store.Wrap(memstore.New(), tracing.New(), authz.New(authz.OwnerOnly()), cache.New())
//	defer store.Close(s)
//	ctx = store.WithPrincipal(ctx, store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
//	thread, err := s.LoadThread(ctx, "thr_1a2b3c4d")
//	if errors.Is(err, store.ErrNotFound) { … }
package store
