package metrics_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/chatstore/chatstore/store"
)

// Prometheus' own linter knows more rules than the library's. It needs the promtool program; with CHATSTORE_REQUIRE_SERVERS=1
// it is a failure to be without.
func TestPromtoolCheckMetrics(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		const missing = "no promtool: install Debian's package prometheus"
		if os.Getenv("CHATSTORE_REQUIRE_SERVERS") == "1" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	reg := prometheus.NewPedanticRegistry()
	s := store.Wrap(&reporting{stats: realistic()}, newLayer(t, reg))
	for _, op := range store.Ops() {
		_ = callOp(t.Context(), s, op)
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(expose(t, reg, expfmt.TypeTextPlain))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
