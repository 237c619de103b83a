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

// Middleware wraps a Store in one more layer. The New function of every decorator returns one.
type Middleware func(Store) Store

// Wrap puts layers around base. The first is the outermost:
//
//	Wrap(base, a, b) == a(b(base))
//
// Every order is correct, with one exception: a cache around a guard such as authz panics. The recommended order is tracing,
// metrics, authz, cache, metrics. It is the fastest and the strictest. Wrap panics if base or a layer is nil.
func Wrap(base Store, mw ...Middleware) Store {
	if base == nil {
		panic("store.Wrap: base is nil: pass the Store to be wrapped")
	}
	s := base
	for i, m := range slices.Backward(mw) {
		if m == nil {
			panic(fmt.Sprintf("store.Wrap: layer %d is nil: pass the Middleware that a New function returned", i))
		}
		if s = m(s); s == nil {
			panic(fmt.Sprintf("store.Wrap: layer %d returned a nil Store", i))
		}
	}
	return s
}

// Unwrapper is implemented by a layer that lets [As] and [All] find capabilities of the Store that it wraps.
type Unwrapper interface{ Unwrap() Store }

// Named is implemented by a layer or base that has a name for [Layers]. Other layers are listed by their Go type.
type Named interface{ LayerName() string }

// Barrier hides the Store inside a guard, such as authz, which embeds it. So the callers of a stack cannot reach the
// unguarded Store. [Layers] and [Close] go past a Barrier. [As] and [All] find only three capabilities past it, none of
// which gives access to stored data: [HealthChecker], layer.StatsReporter and driver.WriteBounder. They return each in a
// wrapper without other methods.
type Barrier struct{ next Store }

// NewBarrier returns the Barrier for a layer around next.
func NewBarrier(next Store) Barrier { return Barrier{next} }

func (b Barrier) behind() Store { return b.next }

type barrier interface{ behind() Store }

// chain yields the layers of s, the outermost first, and whether each is behind a barrier.
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

// Layers returns the names of the layers of s, the outermost first and the base last.
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

// As returns the outermost layer of s that implements the capability T, an interface. It works as errors.As does for errors.
// Past a [Barrier] it finds no capability that gives access to stored data. The writes of a capability that is found past a layer
// that refuses writes, such as package readonly, are refused, too.
func As[T any](s Store) (T, bool) {
	for t := range All[T](s) {
		return t, true
	}
	var zero T
	return zero, false
}

// All yields every layer of s that implements the capability T, the outermost first. It treats a [Barrier] as [As] does.
func All[T any](s Store) iter.Seq[T] {
	return func(yield func(T) bool) {
		var gates []confine.WriteGate // of the layers passed
		for l, behind := range chain(s) {
			t, ok := l.(T)
			for _, g := range slices.Backward(gates) {
				if ok {
					t, ok = confine.Gated(t, g)
				}
			}
			if g, gate := l.(confine.WriteGate); gate {
				gates = append(gates, g)
			}
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

// Close closes every layer of the stacks that is an io.Closer. It closes outer layers before inner ones, and each layer
// once, even if several stacks share it. After an error or a panic it goes on with the other layers. It returns all errors
// joined. A closed decorator of this module passes calls through; closing it again does nothing.
func Close(stacks ...Store) error {
	// A layer that several stacks share moves to its last place, behind all layers around it.
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
	defer func() { err = errors.Join(err, closeAll(layers[1:])) }() // a panic here must not keep the others open
	if c, ok := layers[0].(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// same is ==, but does not panic if a user's Store is not comparable.
func same(a, b Store) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}
