package metrics

import (
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// stats is the Collector of the statistics of the layers beneath. It finds the series once, when the layer wraps its Store,
// because a reporter always reports the same series. So it can describe them, and no scrape fails over one that the registry
// would refuse.
type stats struct {
	reporters []layer.StatsReporter
	families  map[string]*family
	series    map[seriesKey]*series
	dropped   atomic.Int64 // by the last read
	reg       prometheus.Registerer
}

// family is what all series of one name share.
type family struct {
	desc   *prometheus.Desc
	typ    prometheus.ValueType
	labels [3]string // names, sorted; "" means no label
}

// seriesKey identifies a series. The labels are sorted by name, so their order in a Stat does not matter.
type seriesKey struct {
	name   string
	labels [3]layer.Label
}

type series struct {
	family *family
	values []string // of the labels
	parts  int      // the number of stats that one read adds up
}

var _ prometheus.Collector = (*stats)(nil)

// newStats finds the reporters beneath and their series.
func newStats(next store.Store, constant prometheus.Labels) *stats {
	s := &stats{
		reporters: slices.Collect(store.All[layer.StatsReporter](next)),
		families:  make(map[string]*family),
		series:    make(map[seriesKey]*series),
	}
	for _, r := range s.reporters {
		reported, _ := report(r)
		for _, st := range reported {
			s.add(st, constant)
		}
	}
	s.read()
	return s
}

// report asks r, which may be a user's code. A panic in the registry's goroutine would end the process.
func report(r layer.StatsReporter) (reported []layer.Stat, ok bool) {
	defer func() {
		if recover() != nil {
			reported, ok = nil, false
		}
	}()
	return r.AppendStats(nil), true
}

// add adds a series for st, if st can be exported.
func (s *stats) add(st layer.Stat, constant prometheus.Labels) {
	key := keyOf(st)
	if known := s.series[key]; known != nil {
		known.parts++
		return
	}
	if !validName(st) || !validLabels(key.labels) || !utf8.ValidString(st.Help) {
		return
	}
	var names, values []string
	labels := [3]string{}
	for i, l := range key.labels {
		if l.Name != "" {
			names, values = append(names, l.Name), append(values, l.Value)
		}
		labels[i] = l.Name
	}
	f := s.families[st.Name]
	if f == nil {
		help := st.Help
		if help == "" {
			help = "Reported by a layer beneath."
		}
		f = &family{desc: prometheus.NewDesc(st.Name, help, names, constant), typ: prometheus.GaugeValue, labels: labels}
		if st.Counter {
			f.typ = prometheus.CounterValue
		}
		s.families[st.Name] = f
	}
	if f.labels != labels {
		return // all series of a family have the same label names
	}
	s.series[key] = &series{family: f, values: values, parts: 1}
}

func keyOf(st layer.Stat) seriesKey {
	k := seriesKey{name: st.Name, labels: st.Labels}
	slices.SortFunc(k.labels[:], func(a, b layer.Label) int { return strings.Compare(a.Name, b.Name) })
	return k
}

var (
	nameOfMetric = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	notOfMetric  = regexp.MustCompile(`_(count|sum|bucket)$`) // the suffixes of other kinds of metrics
	ownLabels    = []string{"store", "layer", "le", "quantile"}
)

// validName also ensures that a name is not a counter in one layer and a gauge in another, which would fail the scrape.
func validName(st layer.Stat) bool {
	return nameOfMetric.MatchString(st.Name) && !notOfMetric.MatchString(st.Name) &&
		strings.HasSuffix(st.Name, "_total") == st.Counter
}

// validLabels checks single labels. The registry refuses reserved and repeated names, for the whole family.
func validLabels(labels [3]layer.Label) bool {
	for _, l := range labels {
		if l == (layer.Label{}) {
			continue
		}
		if !nameOfMetric.MatchString(l.Name) || slices.Contains(ownLabels, l.Name) || !utf8.ValidString(l.Value) {
			return false
		}
	}
	return true
}

// read asks every reporter once and returns the sums. It leaves out a series if a part is missing because a reporter panicked: a
// counter that falls for one scrape looks like a restart.
func (s *stats) read() map[*series]float64 {
	type sum struct {
		value float64
		parts int
	}
	sums := make(map[*series]*sum, len(s.series))
	for _, known := range s.series {
		sums[known] = &sum{}
	}
	var dropped int64
	for _, r := range s.reporters {
		reported, ok := report(r)
		if !ok {
			dropped++
		}
		for _, st := range reported {
			if sum := sums[s.series[keyOf(st)]]; sum != nil {
				sum.value += st.Value
				sum.parts++
			} else {
				dropped++
			}
		}
	}
	whole := make(map[*series]float64, len(sums))
	for known, sum := range sums {
		if sum.parts == known.parts {
			whole[known] = sum.value
		} else {
			dropped++
		}
	}
	s.dropped.Store(dropped)
	return whole
}

// Describe sends the families that newStats found.
func (s *stats) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range s.families {
		ch <- f.desc
	}
}

// Collect reads the reporters and sends the sums.
func (s *stats) Collect(ch chan<- prometheus.Metric) {
	for known, value := range s.read() {
		ch <- prometheus.MustNewConstMetric(known.family.desc, known.family.typ, value, known.values...)
	}
}

// register registers s with reg. It leaves out families that reg refuses because it has their name with another help text or
// other labels.
func (s *stats) register(reg prometheus.Registerer) {
	if s.tryRegister(reg) {
		return
	}
	for name, f := range s.families {
		if reg.Register(probe{f.desc}) == nil {
			reg.Unregister(probe{f.desc})
		} else {
			s.remove(name)
		}
	}
	if !s.tryRegister(reg) {
		clear(s.families)
		clear(s.series)
	}
	s.read()
}

func (s *stats) tryRegister(reg prometheus.Registerer) bool {
	if len(s.families) == 0 {
		return true // a registry cannot unregister a Collector without descriptions
	}
	if reg.Register(s) != nil {
		return false
	}
	s.reg = reg
	return true
}

func (s *stats) remove(name string) {
	delete(s.families, name)
	for k := range s.series {
		if k.name == name {
			delete(s.series, k)
		}
	}
}

// unregister undoes register.
func (s *stats) unregister() {
	if s.reg != nil {
		s.reg.Unregister(s)
	}
}

// probe is registered to find out whether a registry accepts a description.
type probe struct{ desc *prometheus.Desc }

func (p probe) Describe(ch chan<- *prometheus.Desc) { ch <- p.desc }
func (probe) Collect(chan<- prometheus.Metric)      {}
