package storetest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/storetest/internal/report"
)

const (
	mostWhole   = 20 // printed failures of a Run
	mostOfCheck = 2  // printed failures of one check
	mostLines   = 40 // lines of one failure
)

// failures decides which failures of a Run are printed, and counts the others: a Store that does nothing has some hundreds.
// Every failing check is still marked as failed.
type failures struct {
	mu      sync.Mutex
	whole   int // printed so far
	checks  map[string]int
	dropped int
}

// print reports whether the next failure of a check is printed.
func (f *failures) print(check string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.checks[check]++
	if f.whole == mostWhole {
		f.dropped++
		return false
	}
	if f.checks[check] > mostOfCheck {
		return false
	}
	f.whole++
	return true
}

// end reports how many failures of a check were not printed, unless the summary will.
func (f *failures) end(t tb, check string) {
	t.Helper()
	if n := f.checks[check] - mostOfCheck; n > 0 && f.whole < mostWhole {
		t.Errorf("%d more failures of this check", n)
	}
}

func (f *failures) summary(t tb) {
	t.Helper()
	if f.dropped > 0 {
		t.Errorf("%d checks failed. %d of their failures are not printed: fix the first failures, or run one check alone with -run", len(f.checks), f.dropped)
	}
}

// message returns a failure, followed by the rule that it breaks.
func (h *harness) message(format string, args ...any) string {
	lines := strings.Split(report.Printable(fmt.Sprintf(format, args...)), "\n")
	if n := len(lines); n > mostLines {
		lines = append(lines[:mostLines], fmt.Sprintf("… (%d lines)", n))
	}
	return strings.Join(lines, "\n") + "\n\tcontract: " + h.rule
}
