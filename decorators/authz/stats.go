package authz

import (
	"sync/atomic"

	"github.com/chatstore/chatstore/store/layer"
)

// counts is what the layer counts.
type counts struct {
	allowed     atomic.Uint64
	absent      atomic.Uint64
	denied      [len(reasonNames)]atomic.Uint64
	stray       atomic.Uint64
	auditPanics atomic.Uint64
}

// AppendStats appends what the layer counts.
func (l *guarded) AppendStats(dst []layer.Stat) []layer.Stat {
	decision := func(decision, reason string, n *atomic.Uint64) {
		dst = append(dst, layer.Stat{
			Name:    "chatstore_authz_decisions_total",
			Help:    "Decisions about calls: allowed, denied and why, and none about rows that are not there.",
			Counter: true,
			Labels:  [3]layer.Label{{Name: "decision", Value: decision}, {Name: "reason", Value: reason}},
			Value:   float64(n.Load()),
		})
	}
	decision("allow", "policy", &l.counts.allowed)
	for r := range l.counts.denied {
		decision("deny", Reason(r).String(), &l.counts.denied[r])
	}
	decision("none", "absent", &l.counts.absent)
	return append(dst,
		layer.Stat{
			Name:    "chatstore_authz_stray_rows_total",
			Help:    "Answers of the base that had a row which was not asked for, and were withheld.",
			Counter: true,
			Value:   float64(l.counts.stray.Load()),
		},
		layer.Stat{
			Name:    "chatstore_authz_audit_panics_total",
			Help:    "Panics of the audit function, which were swallowed.",
			Counter: true,
			Value:   float64(l.counts.auditPanics.Load()),
		})
}
