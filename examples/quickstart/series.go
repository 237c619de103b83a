package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// printSeries prints every counter and gauge of the registry that is not zero, and the number of observations of its
// histograms.
func printSeries(w io.Writer, registry prometheus.Gatherer) (moved, all int, err error) {
	families, err := registry.Gather()
	if err != nil {
		return 0, 0, err
	}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "chatstore_")
		var fed, observations int
		for _, m := range f.GetMetric() {
			all++
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if n := m.GetHistogram().GetSampleCount(); n > 0 {
				fed, observations = fed+1, observations+int(n)
			}
			if value != 0 {
				moved++
				fmt.Fprintf(w, "  %-90s %8g\n", name+labels(m), value)
			}
		}
		if fed > 0 {
			moved += fed
			fmt.Fprintf(w, "  %-90s %8d\n", fmt.Sprintf("%s, in %d histograms", name, fed), observations)
		}
	}
	return moved, all, nil
}

func labels(m *dto.Metric) string {
	var parts []string
	for _, l := range m.GetLabel() {
		if l.GetName() != "store" { // all series have the same one
			parts = append(parts, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}
