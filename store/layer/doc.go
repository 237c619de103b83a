// Package layer helps to write a layer: a Store around another Store, such as a cache, a guard or a retry.
//
// Use the least of four primitives that serves. Each makes a layer of a few lines:
//
//   - [Observe] only watches calls, as metrics or tracing do. It sees ids and codes, no content.
//   - [Admit] refuses calls, as a quota does. It sees ids and the context.
//   - [Transform] changes or refuses content, as encryption, redaction or moderation do.
//   - [Intercept] decides whether, when and how often a call is made, as retries do.
//
// For example, a layer that refuses all writes:
//
//	s := store.Wrap(base, layer.Admit("frozen", func(_ context.Context, c layer.Call) error {
//		if c.Op.IsWrite() {
//			return store.ErrUnavailable
//		}
//		return nil
//	}))
//
// Package decorators/resilience is a complete retry, with pauses, a budget and a circuit breaker.
//
// A layer that answers calls itself implements [store.Store]. It checks arguments with driver.Checks. A guard embeds a
// [store.Barrier]; any other layer implements [store.Unwrapper]. Such layers use the rest of this package: [Hints], [Notes]
// and [Own] during a call, [Share] and [Guarded] while a stack is built.
//
// To call a Store, use package store. To write a base, use package store/driver.
package layer
