// Package lifecycle moves, exports, imports, erases and prunes conversations, in any [store.Store]. The command chatstore does the
// same from a shell; docs/lifecycle.md is the guide.
//
//	_, err := lifecycle.Copy(ctx, postgres, sqlite, lifecycle.WithJournal("move.journal"))
//	receipt, err := lifecycle.Erase(ctx, s, ada)
//	_, err := lifecycle.Prune(ctx, s, store.AnyOwner(), lifecycle.WithInactive(30*24*time.Hour))
//
// Use it in programs for operators: no guard asks who the caller is. Only Fork is for a call in a user's name. Do not use the rest
// in a request: most functions walk the whole store.
//
// Pass the stack as it is inside of the guard: the cache and what is beneath it. Then caches drop what is deleted or replaced.
// Reads bypass caches. Some functions need a capability of the base, such as [driver.Eraser]; memstore and sqlstore have them all.
// Without one, the error is [errors.ErrUnsupported], and nothing is changed.
//
// A call after an error, a cancelled context or a crash finishes what is left. But Fork makes another thread, and Export begins anew.
// Functions are safe beside other callers of the store. They need constant memory, unless they say more.
package lifecycle
