package layer

import "github.com/chatstore/chatstore/internal/confine"

// Label is a name and a value of a [Stat]. The zero Label is absent.
type Label struct{ Name, Value string }

// Stat is one number that a layer counts, named as a Prometheus series is.
type Stat struct {
	Name, Help string
	Counter    bool // it only grows; otherwise a gauge
	Labels     [3]Label
	Value      float64
}

// StatsReporter is the capability of a layer that counts. [store.All] finds it also beneath a [store.Barrier].
type StatsReporter interface {
	// AppendStats appends the current numbers to dst: always the same series in the same order. It is safe for concurrent
	// use and calls nothing beneath.
	AppendStats(dst []Stat) []Stat
}

func init() { confine.Allow(func(r StatsReporter) StatsReporter { return confinedStats{r} }) }

type confinedStats struct{ r StatsReporter }

func (c confinedStats) AppendStats(dst []Stat) []Stat { return c.r.AppendStats(dst) }
