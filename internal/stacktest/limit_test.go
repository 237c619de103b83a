package stacktest_test

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/chatstore/chatstore/decorators/limit"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest"
)

// ample are limits that no test reaches, except of calls in flight.
func ample(inFlight int) store.Middleware {
	return limit.New(limit.WithReads(1e6, 1e6), limit.WithWrites(1e6, 1e6), limit.WithInFlight(inFlight))
}

func TestALimitAroundTheRecommendedStackKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		s, _ := recommended(t)
		return ample(1000)(s)
	})
}

// Whatever goes wrong, a limit of one call in flight changes no answer, and the call gives its place back.
func TestEveryCallGivesItsPlaceInFlightBack(t *testing.T) {
	for _, stack := range []string{"cache", "singleflight"} {
		for n, op := range slices.Concat(operations, conditional) {
			for i, f := range faults {
				c := cell{stack: stack, op: op, fault: f}
				if !c.makes() || (i+n)%tries(1, 5) != 0 {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					r := newRig(t, stack)
					r.s = ample(1)(r.s)
					ctx := store.WithPrincipal(t.Context(), ada)
					w := c.promised()
					if e, _ := c.strike(ctx, t, r); e.how != w.how || !slices.Contains(w.codes, e.code) {
						t.Errorf("%v: the call %v (%v), want: %s %v", c, e, e.err, w.how, w.codes)
					}
					r.faulty.Reset()
					if _, err := r.s.LoadThreads(ctx, store.ThreadQuery{}); err != nil {
						t.Errorf("%v: the next call ended with %v", c, err)
					}
					must(t, store.Close(r.s))
				})
			}
		}
	}
}
