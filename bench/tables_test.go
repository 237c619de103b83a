package bench

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// table is one result, printed as a Markdown table.
type table struct {
	title   string
	note    string
	head    []string
	rows    [][]string
	picture *picture
}

func (t table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", t.title)
	if t.note != "" {
		fmt.Fprintf(&b, "%s\n\n", t.note)
	}
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	rule := make([]string, len(t.head))
	for i := range rule {
		rule[i] = "---:"
	}
	rule[0] = "---"
	line(rule)
	for _, r := range t.rows {
		line(r)
	}
	return b.String()
}

// nanos returns a number of nanoseconds in a unit with few digits.
func nanos[N time.Duration | float64](ns N) string {
	switch d := time.Duration(math.Round(float64(ns))); {
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
	default:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
}

func times(cost, ref float64) string { return fmt.Sprintf("%.1f ×", cost/ref) }
