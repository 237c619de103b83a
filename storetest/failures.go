package storetest

import (
	"flag"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/storetest/internal/call"
	"github.com/chatstore/chatstore/storetest/internal/report"
)

const (
	mostWhole   = 20 // printed failures of a Run; then each group prints only one more
	mostOfGroup = 2  // printed failures of one group, each from another check
	mostLines   = 20 // lines of one failure
)

// failures decides which failures of a Run are printed, and counts the others: a Store that does nothing has some hundreds.
// Every failing check is still marked as failed.
type failures struct {
	all bool // print every failure

	mu      sync.Mutex
	checks  map[string]bool // the failed checks
	groups  int             // groups with a failed check
	whole   int             // failures printed so far
	printed int             // in the current group
	hidden  int             // failures of the current group that are not printed
	dropped int             // failures of all groups that are not printed
}

// print reports whether the next failure of a check is printed. Each group prints at least one, because only a late group may
// name the cause.
func (f *failures) print(check string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.printed == 0 {
		f.groups++
	}
	again := f.checks[check]
	f.checks[check] = true
	if spent := f.printed == mostOfGroup || f.printed > 0 && f.whole >= mostWhole; !f.all && (again || spent) {
		f.hidden++
		return false
	}
	f.printed++
	f.whole++
	return true
}

// endGroup reports how many failures of the group t were not printed, and begins the next group.
func (f *failures) endGroup(t tb) {
	t.Helper()
	if f.hidden > 0 {
		t.Errorf("failures of this group that are not printed: %d. To print them, run the group alone: -run '%s'", f.hidden, runPattern(t.Name()))
	}
	f.dropped += f.hidden
	f.printed, f.hidden = 0, 0
}

func (f *failures) summary(t tb) {
	t.Helper()
	if f.dropped > 0 && f.groups > 1 {
		t.Errorf("failed checks: %d, in %d groups. Failures that are not printed: %d. One broken promise can fail checks in many "+
			"groups, so compare the first failure of each group", len(f.checks), f.groups, f.dropped)
	}
}

// runPattern returns the -run pattern for one test.
func runPattern(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// selectsPart reports whether a -run pattern selects subtests of the named test.
func selectsPart(pattern, name string) bool {
	return strings.Count(pattern, "/") > strings.Count(name, "/")
}

// testRun returns the value of the flag -run.
func testRun() string {
	if f := flag.Lookup("test.run"); f != nil {
		return f.Value.String()
	}
	return ""
}

// message returns a failure, followed by the rule that it breaks.
func (h *harness) message(format string, args ...any) string {
	lines := strings.Split(strings.TrimSpace(report.Printable(fmt.Sprintf(format, args...))), "\n")
	if n := len(lines); n > mostLines {
		lines = append(lines[:mostLines], fmt.Sprintf("… (%d lines)", n))
	}
	text := strings.Join(lines, "\n") + "\n\tcontract: " + h.rule
	if op := h.foreign.Load(); op != nil {
		text += fmt.Sprintf("\n\tnote: %s listed rows that this check did not save, so the check may pass if it runs alone",
			call.Method(*op))
	}
	return text
}
