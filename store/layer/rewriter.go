package layer

// Rewriter is implemented by a layer that changes values on their way to the base or back. A cache above it does not patch
// its entries with saved values. The layers between the two must implement [store.Unwrapper].
type Rewriter interface {
	// RewritesValues is never called.
	RewritesValues()
}
