// Package layer helps to write a layer: a Store around another Store, such as a cache, a guard or a retry.
//
// Use [Observe] for a layer that only watches calls, such as metrics or tracing. Use [Intercept] for a layer that decides
// whether, when and how often a call is made. Both need a few lines:
//
//	func retries(ctx context.Context, c layer.Call, next func(context.Context) error) error {
//		err := next(ctx)
//		if errors.Is(err, store.ErrUnavailable) && errors.Is(err, store.ErrNotApplied) {
//			err = next(ctx)
//		}
//		return err
//	}
//
//	s := store.Wrap(base, layer.Intercept("retries", layer.InterceptorFunc(retries)))
//
// Package decorators/resilience is a complete retry, with pauses, a budget and a circuit breaker.
//
// A layer that answers calls itself implements [store.Store]. It checks arguments with driver.Checks. A guard embeds a
// [store.Barrier]; any other layer implements [store.Unwrapper]. Such layers use the rest of this package: [Hints], [Notes]
// and [Own] during a call, [Share] and [Guarded] while a stack is built.
//
// To call a Store, use package store. To write a base, use package store/driver.
package layer
