package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"

	"github.com/chatstore/chatstore/internal/confine"
)

// Middleware wraps a Store in one more layer. Every decorator's New returns one.
type Middleware func(Store) Store

// Wrap puts the layers around base. The first is the outermost:
//
//	Wrap(base, a, b) == a(b(base))
//
// Every order is correct, except that a cache around a guard panics. The fastest and strictest order is tracing, metrics, authz,
// cache, metrics. Wrap panics if base or a layer is nil.
func Wrap(base Store, mw ...Middleware) Store {
	if base == nil {
		panic("store.Wrap: base is nil: pass the Store to be wrapped")
	}
	s := base
	for i, m := range slices.Backward(mw) {
		if m == nil {
			panic(fmt.Sprintf("store.Wrap: layer %d is nil: pass what a New returned without an error", i))
		}
		if s = m(s); s == nil {
			panic(fmt.Sprintf("store.Wrap: layer %d returned a nil Store", i))
		}
	}
	return s
}

// Unwrapper is implemented by a layer that may be looked through: [As] and [All] go on to what it wraps.
type Unwrapper interface{ Unwrap() Store }

// Named is implemented by a layer, or a base, that has a name for [Layers] to show. Without it, it is its Go type.
type Named interface{ LayerName() string }

// Barrier is embedded by a layer that must not be looked through, such as one that guards access: whoever holds the stack
// must not reach the unguarded Store within. [Layers] and [Close] walk past it; [As] and [All] find beyond it only
// [HealthChecker] and the two others of this module that carry no stored data (statistics, and how long a write may take), in
// wrappers that have no other method.
type Barrier struct{ next Store }

// NewBarrier returns the Barrier for a layer around next.
func NewBarrier(next Store) Barrier { return Barrier{next} }

func (b Barrier) behind() Store { return b.next }

type barrier interface{ behind() Store }

// chain yields the layers of s from outside in, and whether each lies behind a barrier.
func chain(s Store) iter.Seq2[Store, bool] {
	return func(yield func(Store, bool) bool) {
		behind := false
		for s != nil && yield(s, behind) {
			switch l := s.(type) {
			case barrier:
				behind = true
				s = l.behind()
			case Unwrapper:
				s = l.Unwrap()
			default:
				return
			}
		}
	}
}

// Layers returns the names of s's layers from outside in, the base last.
func Layers(s Store) []string {
	var names []string
	for l := range chain(s) {
		if n, ok := l.(Named); ok {
			names = append(names, n.LayerName())
		} else {
			names = append(names, fmt.Sprintf("%T", l))
		}
	}
	return names
}

// As returns the outermost layer of s that implements the capability T, an interface, as errors.As does for errors. A
// capability that answers from stored data must not be offered past a [Barrier], and is not found there.
func As[T any](s Store) (T, bool) {
	for t := range All[T](s) {
		return t, true
	}
	var zero T
	return zero, false
}

// All yields every layer of s that implements the capability T, from outside in.
func All[T any](s Store) iter.Seq[T] {
	return func(yield func(T) bool) {
		for l, behind := range chain(s) {
			t, ok := l.(T)
			if !ok {
				continue
			}
			if behind {
				if t, ok = confine.Strip(t); !ok {
					continue
				}
			}
			if !yield(t) {
				return
			}
		}
	}
}

func init() { confine.Allow(func(h HealthChecker) HealthChecker { return confinedHealth{h} }) }

type confinedHealth struct{ h HealthChecker }

func (c confinedHealth) CheckHealth(ctx context.Context) error { return c.h.CheckHealth(ctx) }

// Close closes every layer of the stacks that is an io.Closer: each once, however many stacks share it, a layer before
// what it wraps, and so the bases last. It goes on after an error, or a panic, and returns the errors joined. A closed decorator of this
// module lets calls pass through, and closing it again does nothing.
func Close(stacks ...Store) error {
	// Where stacks share a layer, its last place in the joined chains is behind all that wrap it.
	var order []Store
	for _, s := range stacks {
		for l := range chain(s) {
			order = slices.DeleteFunc(order, func(o Store) bool { return same(o, l) })
			order = append(order, l)
		}
	}
	return closeAll(order)
}

func closeAll(layers []Store) (err error) {
	if len(layers) == 0 {
		return nil
	}
	defer func() { err = errors.Join(err, closeAll(layers[1:])) }() // also when this one panics
	if c, ok := layers[0].(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// same compares like ==, but does not panic where a user's Store is not comparable.
func same(a, b Store) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}
