package authz

import (
	"sync/atomic"

	"github.com/chatstore/chatstore/internal/stripe"
	"github.com/chatstore/chatstore/store/layer"
)

// counts are the counters of one layer.
type counts struct {
	allowed     *stripe.Counters // one: most calls are allowed, on all processors at once
	absent      atomic.Uint64
	denied      [len(reasonNames)]atomic.Uint64
	stray       atomic.Uint64
	auditPanics atomic.Uint64
}

// AppendStats appends the layer's counters.
func (l *guarded) AppendStats(dst []layer.Stat) []layer.Stat {
	decision := func(decision, reason string, n uint64) {
		dst = append(dst, layer.Stat{
			Name:    "chatstore_authz_decisions_total",
			Help:    "Decisions about calls, by decision and reason; the decision none is about missing rows.",
			Counter: true,
			Labels:  [3]layer.Label{{Name: "decision", Value: decision}, {Name: "reason", Value: reason}},
			Value:   float64(n),
		})
	}
	decision("allow", "policy", l.counts.allowed.Load(0))
	for r := range l.counts.denied {
		decision("deny", Reason(r).String(), l.counts.denied[r].Load())
	}
	decision("none", "absent", l.counts.absent.Load())
	return append(dst,
		layer.Stat{
			Name:    "chatstore_authz_stray_rows_total",
			Help:    "Calls that failed because the base returned a row that was not requested.",
			Counter: true,
			Value:   float64(l.counts.stray.Load()),
		},
		layer.Stat{
			Name:    "chatstore_authz_audit_panics_total",
			Help:    "Panics of the audit function, which the layer recovered.",
			Counter: true,
			Value:   float64(l.counts.auditPanics.Load()),
		})
}
