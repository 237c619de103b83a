// Package confine lists the capabilities that store.As may return past a store.Barrier, with a function that strips each of
// other methods. The packages that define these capabilities register them in init functions. Code outside of this module
// cannot.
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
