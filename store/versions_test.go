package store_test

import (
	"sync"
	"testing"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// With an item read at 2 and the thread at 3, a write under 3 would overwrite a change of the item.
func TestVersionsHasTheLowestVersionThatWasRead(t *testing.T) {
	type report struct{ before, after uint64 }
	for name, c := range map[string]struct {
		reports []report
		want    uint64
		ok      bool
	}{
		"nothing read":                  {nil, 0, false},
		"a thread that never existed":   {[]report{{0, 0}}, 0, true},
		"an older read came first":      {[]report{{2, 2}, {3, 3}}, 2, true},
		"an older read came last":       {[]report{{3, 3}, {2, 2}}, 2, true},
		"an own write of what was read": {[]report{{2, 2}, {2, 3}}, 3, true},
		"an own write after another's":  {[]report{{2, 2}, {3, 4}}, 2, true},
		"a write without a read":        {[]report{{2, 3}}, 0, false},
	} {
		ctx, v := store.WithVersions(t.Context())
		for _, r := range c.reports {
			driver.ReportVersion(ctx, "thr_1", r.before, r.after)
		}
		driver.ReportVersion(ctx, "thr_2", 1, 1)
		if n, ok := v.Of("thr_1"); n != c.want || ok != c.ok {
			t.Errorf("%s: got %d, %v, want %d, %v", name, n, ok, c.want, c.ok)
		}
	}
}

func TestVersionsOfNestedContextsAllHear(t *testing.T) {
	ctx, outer := store.WithVersions(t.Context())
	ctx, inner := store.WithVersions(ctx)
	driver.ReportVersion(ctx, "thr_1", 7, 7)
	for name, v := range map[string]*store.Versions{"outer": outer, "inner": inner} {
		if n, ok := v.Of("thr_1"); n != 7 || !ok {
			t.Errorf("%s: got %d, %v", name, n, ok)
		}
	}
}

// Calls of one context may be made at the same time. The race detector watches.
func TestVersionsAreSafeForConcurrentUse(t *testing.T) {
	ctx, v := store.WithVersions(t.Context())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range uint64(100) {
				driver.ReportVersion(ctx, "thr_1", 100-n, 100-n)
				if i%2 == 0 {
					driver.ReportVersion(ctx, "thr_2", n, n+1)
				}
				_, _ = v.Of("thr_1")
			}
		})
	}
	wg.Wait()
	if n, ok := v.Of("thr_1"); n != 1 || !ok {
		t.Errorf("got %d, %v, want the lowest, 1", n, ok)
	}
	if n, ok := v.Of("thr_2"); ok {
		t.Errorf("got %d of a thread that was only written", n)
	}
}
