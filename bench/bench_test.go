package bench

import (
	"flag"
	"fmt"
	"testing"

	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

var write = flag.Bool("write", false, "write the tables to README.md")

func TestMain(m *testing.M) { pgtest.Main(m) }

// sections has all measurements.
var sections = []struct {
	name string
	run  func(tb testing.TB) []table
}{
	{"reads", warmReads},
	{"turns", chatTurns},
	{"memory", hitsAndMemory},
	{"stampede", stampedes},
	{"observability", observabilityPrice},
	{"growth", growth},
	{"writes", writePrice},
}

// BenchmarkTables prints the tables. A section takes longer than the time of a benchmark, so it runs once.
func BenchmarkTables(b *testing.B) {
	fmt.Printf("%s.\n", machine())
	for _, s := range sections {
		b.Run(s.name, func(b *testing.B) {
			tables := s.run(b)
			for _, t := range tables {
				fmt.Printf("\n%s\n", t)
			}
			if *write {
				writeInto(b, s.name, tables)
			}
			b.ReportMetric(0, "ns/op") // the tables have the results
		})
	}
}

var must = testenv.Must

// check ends the program if a measured call failed.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// get returns the value, or fails the test on an error.
func get[V any](tb testing.TB) func(V, error) V {
	return func(v V, err error) V {
		tb.Helper()
		must(tb, err)
		return v
	}
}
