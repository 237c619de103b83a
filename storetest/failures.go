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
	mu         sync.Mutex
	whole      int
	ofCheck    map[string]int
	notPrinted int
}

// print reports whether the next failure of a check is printed.
func (f *failures) print(check string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ofCheck[check]++
	if f.whole == mostWhole || f.ofCheck[check] > mostOfCheck {
		f.notPrinted++
		return false
	}
	f.whole++
	return true
}

// summary is what there is to say in the end.
func (f *failures) summary() string {
	if f.notPrinted == 0 {
		return ""
	}
	return fmt.Sprintf("%d checks failed. %d of their failures are not printed: mend the first, or run a check alone, with -run", len(f.ofCheck), f.notPrinted)
}

// message is a failure with the rule that it breaks.
func (h *harness) message(format string, args ...any) string {
	lines := strings.Split(report.Printable(fmt.Sprintf(format, args...)), "\n")
	if n := len(lines); n > mostLines {
		lines = append(lines[:mostLines], fmt.Sprintf("… (%d lines)", n))
	}
	return strings.Join(lines, "\n") + "\n\tcontract: " + h.rule
}
