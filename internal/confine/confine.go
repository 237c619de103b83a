// Package confine knows the capabilities that store.As may hand out past a store.Barrier, and how each is stripped of all
// else. The packages that define them say so when they are initialised; nobody outside this module can.
package confine

import "reflect"

var strips = map[reflect.Type]func(any) any{}

// Allow lets T, an interface, be found behind a barrier. strip returns a value that has T's methods and no others. It is
// called by init functions only.
func Allow[T any](strip func(T) T) {
	strips[reflect.TypeFor[T]()] = func(v any) any { return strip(v.(T)) }
}

// Strip returns t with nothing but T's methods; ok is false if T is not to be found behind a barrier.
func Strip[T any](t T) (bare T, ok bool) {
	strip, ok := strips[reflect.TypeFor[T]()]
	if !ok {
		return t, false
	}
	return strip(t).(T), true
}
