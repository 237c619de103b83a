// Package layer is for those who write a layer: a Store around another Store, such as a cache, a guard or a retry.
//
// Use [Observe] for what only looks at calls, as metrics and traces do, and [Intercept] for what decides whether, when and
// how often a call goes on. Both need a few lines:
//
//	func retries(ctx context.Context, c layer.Call, next func(context.Context) error) error {
//		err := next(ctx)
//		if errors.Is(err, store.ErrNotApplied) {
//			err = next(ctx)
//		}
//		return err
//	}
//
//	s := store.Wrap(base, layer.Intercept("retries", layer.InterceptorFunc(retries)))
//
// A layer that answers calls itself implements [store.Store]. It checks arguments by driver.Checks. It implements
// [store.Unwrapper], unless it guards access: then it embeds a [store.Barrier]. The rest of this package is for such layers:
// [Hints], [Notes] and [Own] in the course of a call, [Share] and [Guarded] when a stack is made.
//
// Do not use it to call a Store, which package store is for, nor to write one: package driver is for that.
package layer
