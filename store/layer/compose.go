package layer

import (
	"io"

	"github.com/chatstore/chatstore/internal/confine"
	"github.com/chatstore/chatstore/store"
)

// Guarded reports whether a layer of s is a [store.Barrier]: whether there is one that nobody can look at.
func Guarded(s store.Store) bool {
	seen := 0
	for range store.All[store.Store](s) {
		seen++
	}
	return seen < len(store.Layers(s))
}

func init() { confine.Allow(func(r StatsReporter) StatsReporter { return confinedStats{r} }) }

type confinedStats struct{ r StatsReporter }

func (c confinedStats) AppendStats(dst []Stat) []Stat { return c.r.AppendStats(dst) }

// Rewriter is implemented by a layer, other than a [Barrier], that changes the values that pass through it: what is saved
// beneath it, or loaded through it, is not what came in. A cache above it then does not take what was saved for what a load
// would return; the layers between must be such as can be looked through ([Unwrapper]). RewritesValues is never called.
type Rewriter interface{ RewritesValues() }

// Sharer is implemented by layers that keep principals apart. ShareBetweenPrincipals tells one, before its first call, that
// what it holds may be given to every caller, because the layer that asks decides outside of it who may see what.
type Sharer interface{ ShareBetweenPrincipals() }

// Share asks every [Sharer] in s to share between principals, down to the first [Barrier]: what lies within another guard
// is that guard's to decide.
func Share(s store.Store) {
	for sh := range store.All[Sharer](s) {
		sh.ShareBetweenPrincipals()
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

// closeIf closes x if it is an io.Closer.
func closeIf(x any) error {
	if c, ok := x.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
