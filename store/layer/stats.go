package layer

import "github.com/chatstore/chatstore/internal/confine"

// Label is the name and value of a label of a [Stat]. The zero Label means no label.
type Label struct{ Name, Value string }

// Stat is one number that a layer counts, with the name, help text and labels of a Prometheus series. Unused Labels are
// zero.
type Stat struct {
	Name, Help string
	Counter    bool // a counter, which only grows; otherwise a gauge
	Labels     [3]Label
	Value      float64
}

// StatsReporter is the capability of a layer with statistics. [store.All] also finds it behind a [store.Barrier].
type StatsReporter interface {
	// AppendStats appends the current numbers to dst. It always appends the same series in the same order. It is safe for
	// concurrent use and makes no calls to other layers.
	AppendStats(dst []Stat) []Stat
}

func init() { confine.Allow(func(r StatsReporter) StatsReporter { return confinedStats{r} }) }

type confinedStats struct{ r StatsReporter }

func (c confinedStats) AppendStats(dst []Stat) []Stat { return c.r.AppendStats(dst) }
