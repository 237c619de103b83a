package driver_test

import (
	"testing"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store/driver"
)

func TestVersionsAreReportedToTheInnermostRecorder(t *testing.T) {
	driver.ReportVersion(t.Context(), "thr_1", 1, 2) // without a recorder it does nothing
	var outer, inner int
	ctx := callctx.WithVersionRecorder(t.Context(), func(string, uint64, uint64) { outer++ })
	ctx2 := callctx.WithVersionRecorder(ctx, func(id string, before, after uint64) {
		if id != "thr_1" || before != 1 || after != 2 {
			t.Errorf("got %s %d %d", id, before, after)
		}
		inner++
	})
	driver.ReportVersion(ctx2, "thr_1", 1, 2)
	if outer != 0 || inner != 1 {
		t.Errorf("reports: outer %d, inner %d, want 0 and 1", outer, inner)
	}
}
