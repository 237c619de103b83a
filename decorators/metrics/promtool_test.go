package metrics_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/store"
)

// Prometheus' own linter knows more rules than the library's.
func TestPromtoolCheckMetrics(t *testing.T) {
	promtool := testenv.Program(t, "promtool", "prometheus")
	reg := prometheus.NewPedanticRegistry()
	s := store.Wrap(&reporting{stats: realistic()}, newLayer(t, reg))
	for _, op := range store.Ops() {
		_ = spy.CallOp(t.Context(), s, op)
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(expose(t, reg, expfmt.TypeTextPlain))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
