package metrics_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"

	"github.com/chatstore/chatstore/internal/testenv"
)

// Prometheus's own linter has more rules than the library's.
func TestPromtoolCheckMetrics(t *testing.T) {
	promtool := testenv.Program(t, "promtool", "prometheus")
	s, reg := open(t, &reporting{stats: realistic()})
	callAll(t, s)
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(expose(t, reg, expfmt.TypeTextPlain))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
