package stacktest_test

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/decorators/readonly"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
	"github.com/chatstore/chatstore/storetest/faulty"
)

func TestReadonlyInTheRecommendedStackKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s := inRecommended(t, readonly.New(new(readonly.Switch))(memstore.New()), cache.New())
		t.Cleanup(func() { must(t, store.Close(s)) })
		return s
	})
}

// A refused write is definite, so the cache keeps serving its thread. The reason comes through all layers.
func TestARefusedWriteLeavesTheCacheAsItWas(t *testing.T) {
	for _, op := range operations {
		if !op.op.IsWrite() {
			continue
		}
		t.Run(op.op.String(), func(t *testing.T) {
			var sw readonly.Switch
			base := faulty.New(memstore.New())
			s := inRecommended(t, readonly.New(&sw)(base), cache.New())
			t.Cleanup(func() { must(t, store.Close(s)) })
			ctx := caller(t.Context())
			must(t, s.SaveThread(ctx, titled("thr_1", "old")))
			for i, id := range []string{"msg_1", "msg_2", "msg_3"} {
				must(t, s.AddThreadItem(ctx, "thr_1", hidden(id, i)))
			}
			must(t, s.SaveAttachment(ctx, file("atc_1")))
			before := rows(ctx, s)
			sw.Refuse("moving")
			base.Reset()

			err := op.call(session{s, ctx})
			if store.CodeOf(err) != store.CodeUnavailable || !store.IsDefinite(err) {
				t.Errorf("got %v", err)
			}
			if refused, ok := errors.AsType[*readonly.Error](err); !ok || refused.Reason != "moving" {
				t.Errorf("%v has no reason", err)
			}
			if n := base.Writes(); n != 0 {
				t.Errorf("%d writes reached the base", n)
			}
			if n := counted(s, "chatstore_cache_quarantined", ""); n != 0 {
				t.Errorf("%d counters are in quarantine", n)
			}
			if got := rows(ctx, s); got != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, got)
			}
			must(t, errOf(s.LoadThread(ctx, "thr_1")))
			base.Reset()
			for range 100 {
				must(t, errOf(s.LoadThread(ctx, "thr_1")))
			}
			if n := base.Reads(); n != 0 {
				t.Errorf("100 loads after the refused write read the base %d times", n)
			}
			sw.Allow()
			must(t, op.call(session{s, ctx}))
		})
	}
}

func TestMetricsExportTheGaugeOfReadonly(t *testing.T) {
	var sw readonly.Switch
	reg := prometheus.NewRegistry()
	s := fullStack(readonly.New(&sw)(memstore.New()), reg, cache.New())
	t.Cleanup(func() { must(t, store.Close(s)) })
	sw.Refuse("moving")
	if n, err := testutil.GatherAndCount(reg, "chatstore_readonly_active"); err != nil || n != 2 {
		t.Errorf("%d series, want one of each layer: %v", n, err)
	}
	if n := counted(s, "chatstore_readonly_active", ""); n != 1 {
		t.Errorf("the gauge is %d", n)
	}
}
