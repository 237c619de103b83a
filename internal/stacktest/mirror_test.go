package stacktest_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/mirror"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
)

const mirrorCalls = "chatstore_mirror_calls_total"

func TestAMirrorInTheRecommendedStackKeepsTheContract(t *testing.T) {
	tried := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		s := inRecommended(t, mirror.New(memstore.New())(memstore.New()), cache.New())
		t.Cleanup(func() {
			must(t, store.Close(s))
			tried += counted(s, mirrorCalls, "equal")
			if n := counted(s, mirrorCalls, "failed"); n > 0 {
				t.Errorf("%d trials failed on a healthy second store", n) // it needs no principal
			}
		})
		return s
	})
	if tried == 0 {
		t.Error("no call was tried")
	}
}

// The metrics layer exports all of the mirror's statistics.
func TestAMirrorsStatisticsAreExported(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := fullStack(mirror.New(memstore.New())(memstore.New()), reg, cache.New())
	defer store.Close(s)
	families, err := reg.Gather()
	must(t, err)
	series := map[string]int{}
	for _, f := range families {
		if name := f.GetName(); strings.HasPrefix(name, "chatstore_mirror_") {
			series[name] = len(f.GetMetric())
		} else if name == "chatstore_stats_dropped" {
			for _, m := range f.GetMetric() {
				if m.GetGauge().GetValue() != 0 {
					t.Errorf("dropped: %v", m)
				}
			}
		}
	}
	if d := cmp.Diff(map[string]int{mirrorCalls: 20, "chatstore_mirror_queued": 2}, series); d != "" { // of two layers
		t.Errorf("series (-want +got):\n%s", d)
	}
}

// A mirror reports the versions of its first store, so a cache above it patches its entries.
func TestAMirrorKeepsTheCachesPatches(t *testing.T) {
	first := faulty.New(memstore.New())
	s := inRecommended(t, mirror.New(memstore.New(), mirror.WithReads(0))(first), cache.New())
	defer store.Close(s)
	seed(t, s, 30)
	ctx := caller(t.Context())
	load(t, ctx, s)
	page(t, ctx, s)
	first.Reset()
	must(t, s.AddThreadItem(ctx, threadID, endOfTurn("msg_a")))
	page(t, ctx, s)
	if n := first.Reads(); n > 0 {
		t.Errorf("after a write, a page read the first store %d times", n)
	}
}

// Every fault of the fault matrix, in a second store: no caller of the stack notices, and the mirror ends.
func TestNoFaultOfASecondStoreReachesACaller(t *testing.T) {
	for n, op := range operations {
		for i, f := range faults {
			if f.do == nil || (i+n)%tries(1, 3) != 0 {
				continue // a fault of the caller only, or not in this part of the cases
			}
			synctest.Test(t, func(t *testing.T) {
				first, r, sound := newRig(t, "cache"), newRig(t, "cache"), newRig(t, "cache") // the second store is that of r
				r.leave = func() {}
				s := store.Wrap(first.base, authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New(), mirror.New(r.faulty))
				r.faulty.Inject(faulty.Fault{Op: op.op, Times: 1, Do: f.do(r)})
				ctx := store.WithPrincipal(t.Context(), ada)
				e := attempt(func() error { return op.call(session{s, ctx}) })
				synctest.Wait()
				if e.how != "returned" || e.err != nil || e.took != 0 {
					t.Errorf("%v, %s at the second store: the call %v (%v)", op.op, f.name, e, e.err)
				}
				must(t, op.call(session{sound.s, ctx}))
				if want, got := rows(ctx, sound.s), rows(ctx, s); got != want {
					t.Errorf("%v, %s: other rows (-want +got):\n%s", op.op, f.name, cmp.Diff(want, got))
				}
				begin := time.Now()
				must(t, store.Close(s))
				if d := time.Since(begin); d > mirror.DefaultTimeLimit {
					t.Errorf("%v, %s: Close took %v", op.op, f.name, d)
				}
				good, bad := counted(s, mirrorCalls, "equal"), counted(s, mirrorCalls, "failed")+counted(s, mirrorCalls, "different")+
					counted(s, mirrorCalls, "dropped")+counted(s, mirrorCalls, "skipped")
				// A read with another answer is repeated, and the fault strikes once.
				answered := slices.Contains([]store.Code{store.CodeOK, store.CodeNotFound, store.CodeConflict, store.CodeInvalid}, f.base)
				if good+bad == 0 || bad == 0 && f.base != store.CodeOK && !(answered && !op.op.IsWrite()) {
					t.Errorf("%v, %s: %d trials were equal and %d were not", op.op, f.name, good, bad)
				}
				must(t, store.Close(first.s, r.s, sound.s))
			})
		}
	}
}
