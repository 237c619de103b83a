package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"reflect"
	"slices"
	"time"
)

// Middleware wraps a Store in one more layer. A layer that changes the values passing through says so: see [Rewriter].
type Middleware func(Store) Store

// Wrap puts the layers around base. The first is the outermost:
//
//	Wrap(base, a, b) == a(b(base))
//
// Every order is correct for the data; package documentation and README name the fastest and strictest one. Wrap panics on
// a nil base or layer: only a programmer can make that mistake.
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
// [StatsReporter], [HealthChecker] and [WriteBounder], in wrappers that offer nothing else.
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

// Guarded reports whether a layer of s is a [Barrier].
func Guarded(s Store) bool {
	for l := range chain(s) {
		if _, ok := l.(barrier); ok {
			return true
		}
	}
	return false
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
				if t, ok = confined(t); !ok {
					continue
				}
			}
			if !yield(t) {
				return
			}
		}
	}
}

// confined returns what of a layer behind a barrier may be handed out: a bare capability that is no Store.
func confined[T any](t T) (T, bool) {
	var bare any
	switch p := any(&t).(type) {
	case *StatsReporter:
		bare = confinedStats{*p}
	case *HealthChecker:
		bare = confinedHealth{*p}
	case *WriteBounder:
		bare = confinedBound{*p}
	default:
		return t, false
	}
	return bare.(T), true
}

type confinedStats struct{ r StatsReporter }

func (c confinedStats) AppendStats(dst []Stat) []Stat { return c.r.AppendStats(dst) }

type confinedHealth struct{ h HealthChecker }

func (c confinedHealth) CheckHealth(ctx context.Context) error { return c.h.CheckHealth(ctx) }

type confinedBound struct{ w WriteBounder }

func (c confinedBound) LongestWrite() time.Duration { return c.w.LongestWrite() }

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
	return closeIf(layers[0])
}

// closeIf closes x if it is an io.Closer.
func closeIf(x any) error {
	if c, ok := x.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// same compares like ==, but does not panic where a user's Store is not comparable.
func same(a, b Store) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// Rewriter is implemented by a layer, other than a [Barrier], that changes the values that pass through it: what is saved
// beneath it, or loaded through it, is not what came in. A cache above it then does not take what was saved for what a load
// would return; the layers between must be such as can be looked through ([Unwrapper]). RewritesValues is never called.
type Rewriter interface{ RewritesValues() }

// Sharer is implemented by layers that keep principals apart. ShareBetweenPrincipals tells one, before its first call, that
// what it holds may be given to every caller, because the layer that asks decides outside of it who may see what.
type Sharer interface{ ShareBetweenPrincipals() }

// Share asks every [Sharer] in s to share between principals, down to the first [Barrier]: what lies within another guard
// is that guard's to decide.
func Share(s Store) {
	for l, behind := range chain(s) {
		if _, isBarrier := l.(barrier); behind || isBarrier {
			return
		}
		if sh, ok := l.(Sharer); ok {
			sh.ShareBetweenPrincipals()
		}
	}
}

// Label is a name and a value of a [Stat]. The zero Label is absent.
type Label struct{ Name, Value string }

// Stat is one number that a layer counts, named as a Prometheus series is.
type Stat struct {
	Name, Help string
	Counter    bool // it only grows; otherwise a gauge
	Labels     [3]Label
	Value      float64
}

// StatsReporter is the capability of a layer that counts. AppendStats appends its current numbers to dst: always the same
// series in the same order. It is safe for concurrent use and calls nothing beneath.
type StatsReporter interface{ AppendStats(dst []Stat) []Stat }
