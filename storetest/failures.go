package storetest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/storetest/internal/report"
)

const (
	mostWhole   = 20 // failures of a Run that are printed
	mostOfCheck = 2  // and of one of its checks
	mostLines   = 40 // of one failure
)

// failures decides which failures of a Run are printed, and counts the others: of a Store that does nothing there are some
// hundreds. That a check has failed is seen of each.
type failures struct {
	mu      sync.Mutex
	whole   int // that were printed
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

// end says what of a check was not printed, if that is not for the summary to say.
func (f *failures) end(t tb, check string) {
	t.Helper()
	if n := f.checks[check] - mostOfCheck; n > 0 && f.whole < mostWhole {
		t.Errorf("%d more failures of this check", n)
	}
}

func (f *failures) summary(t tb) {
	t.Helper()
	if f.dropped > 0 {
		t.Errorf("%d checks failed. %d of their failures are not printed: mend the first, or run a check alone, with -run", len(f.checks), f.dropped)
	}
}

// message is a failure with the rule that it breaks.
func (h *harness) message(format string, args ...any) string {
	lines := strings.Split(report.Printable(fmt.Sprintf(format, args...)), "\n")
	if n := len(lines); n > mostLines {
		lines = append(lines[:mostLines], fmt.Sprintf("… (%d lines)", n))
	}
	return strings.Join(lines, "\n") + "\n\tcontract: " + h.rule
}
