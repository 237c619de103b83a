// Package confine lists two kinds of capabilities. Some may be found past a store.Barrier, each with a function that strips it of
// other methods. Some write, each with a function that makes it ask a [WriteGate] first. The packages that define these
// capabilities register them in init functions. Code outside of this module cannot.
package confine

import "reflect"

var strips = map[reflect.Type]func(any) any{}

// Allow registers the interface T as a capability that may be found past a Barrier. strip returns a value with the methods
// of T and no others. Call Allow only in init functions: it is not safe for concurrent use.
func Allow[T any](strip func(T) T) {
	strips[reflect.TypeFor[T]()] = func(v any) any { return strip(v.(T)) }
}

// Strip returns t with the methods of T only. ok is false if T is not registered.
func Strip[T any](t T) (bare T, ok bool) {
	strip, ok := strips[reflect.TypeFor[T]()]
	if !ok {
		return t, false
	}
	return strip(t).(T), true
}

// WriteGate is a layer that may refuse writes. Capabilities found beneath it ask it too.
type WriteGate interface {
	// WriteRefusal returns the error of a write that begins now, or nil.
	WriteRefusal() error
}

var gates = map[reflect.Type]func(any, WriteGate) any{}

// Gate registers the interface T as a capability that writes. gated returns a value that asks the gate before each write.
// Call Gate only in init functions: it is not safe for concurrent use.
func Gate[T any](gated func(T, WriteGate) T) {
	gates[reflect.TypeFor[T]()] = func(v any, g WriteGate) any { return gated(v.(T), g) }
}

// Gated returns t behind the gate if T is registered, and t itself if T cannot write. ok is false if T writes under another type,
// which has the methods of a registered interface: such a T cannot be put behind the gate.
func Gated[T any](t T, g WriteGate) (gated T, ok bool) {
	typ := reflect.TypeFor[T]()
	if gate, ok := gates[typ]; ok {
		return gate(t, g).(T), true
	}
	for writes := range gates {
		if typ.Kind() != reflect.Interface || typ.Implements(writes) {
			return t, false
		}
	}
	return t, true
}
