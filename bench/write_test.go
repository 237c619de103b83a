package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// picture is a plot of results: lines over a logarithmic scale.
type picture struct {
	file        string // without .svg
	title, x, y string
	ticks       []int   // on the logarithmic scale
	least       float64 // on the other scale
	lines       []line
}

type line struct {
	name   string
	points plotter.XYs
}

// save draws the picture into a file.
func (p picture) save(tb testing.TB) {
	canvas := plot.New()
	canvas.Title.Text, canvas.X.Label.Text, canvas.Y.Label.Text = p.title, p.x, p.y
	canvas.X.Scale = plot.LogScale{}
	var ticks plot.ConstantTicks
	for _, n := range p.ticks {
		ticks = append(ticks, plot.Tick{Value: float64(n), Label: grouped(n)})
	}
	canvas.X.Tick.Marker = ticks
	canvas.Legend.Top, canvas.Legend.Left = true, true
	most := p.least
	for i, l := range p.lines {
		drawn, points, err := plotter.NewLinePoints(l.points)
		must(tb, err)
		drawn.Color, points.Color = plotutil.Color(i), plotutil.Color(i)
		points.Shape = plotutil.Shape(i)
		canvas.Add(drawn, points)
		canvas.Legend.Add(l.name, drawn, points)
		for _, at := range l.points {
			most = max(most, at.Y)
		}
	}
	canvas.Y.Min, canvas.Y.Max = p.least, p.least+1.3*(most-p.least) // room for the legend
	canvas.X.Max *= 1.6                                              // room for half a label
	must(tb, canvas.Save(7*vg.Inch, 4*vg.Inch, p.file+".svg"))
}

// machine describes the machine and the commit. It runs once, because writing results changes the tree.
var machine = sync.OnceValue(func() string {
	cpu := "an unknown processor"
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*: (.+)`).FindSubmatch(b); m != nil {
			cpu = string(m[1])
		}
	}
	commit := "unknown"
	if out, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%s, %d of %s, %s/%s, commit %s, %s", runtime.Version(), runtime.NumCPU(), cpu, runtime.GOOS, runtime.GOARCH, commit,
		time.Now().UTC().Format(time.DateOnly))
})

// marks returns the lines of README.md around the tables of a section.
func marks(section string) (begin, end string) {
	return fmt.Sprintf("<!-- %s: written by the benchmark -->\n", section), fmt.Sprintf("<!-- %s: end -->\n", section)
}

// writeInto writes the tables and pictures of a section into README.md.
func writeInto(tb testing.TB, section string, tables []table) {
	text, err := os.ReadFile("README.md")
	must(tb, err)
	begin, end := marks(section)
	before, rest, ok := bytes.Cut(text, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		tb.Fatalf("README.md has no section %q", section)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n%s.\n", before, begin, machine())
	for _, t := range tables {
		fmt.Fprintf(&b, "\n%s", t)
		if t.picture != nil {
			t.picture.save(tb)
			fmt.Fprintf(&b, "\n![%s](%s.svg)\n", t.picture.title, t.picture.file)
		}
	}
	fmt.Fprintf(&b, "\n%s%s", end, after)
	must(tb, os.WriteFile("README.md", b.Bytes(), 0o644))
}
