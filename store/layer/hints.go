package layer

import (
	"context"
	"unique"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

// Partition stands for one principal, owner and roles, as a small comparable value. A layer that keeps principals apart puts it
// into its keys. Equal partitions are equal principals; the order of roles does not count. The zero Partition stands for no
// principal.
type Partition struct{ h unique.Handle[string] }

// Key returns a text that is equal for equal partitions only, to be part of a longer key. Keep it out of logs: it contains the
// principal's ids.
func (p Partition) Key() string {
	if p == (Partition{}) {
		return ""
	}
	return p.h.Value()
}

// Hints is all that a context tells a caching or sharing layer about a call.
type Hints struct {
	Notes *Notes // nil: no layer listens

	data *callctx.Data
}

// HintsFor returns the hints of ctx for a call of op, with one lookup in ctx.
func HintsFor(ctx context.Context, op store.Op) Hints {
	h := Hints{data: callctx.Of(ctx)}
	if n, _ := h.data.Notes.(*Notes); n != nil && n.op == op {
		h.Notes = n
	}
	return h
}

// Partition returns the partition of ctx's principal, computed once by [store.WithPrincipal].
func (h Hints) Partition() Partition { return Partition{h.data.Partition} }

// Fresh reports whether the context is one of [store.WithFresh].
func (h Hints) Fresh() bool { return h.data.Fresh }

// NoStore reports whether the context is one of [store.WithNoStore].
func (h Hints) NoStore() bool { return h.data.NoStore }

// ReportVersion is driver.ReportVersion without another lookup in the context.
func (h Hints) ReportVersion(threadID string, before, after uint64) {
	if f := h.data.Record; f != nil {
		f(threadID, before, after)
	}
}

// Owner returns the principal, as [store.PrincipalFrom] does, if it could own a row. ok is false also for a principal without a
// subject, or whose ids break the contract's rules.
func (h Hints) Owner() (p store.Principal, ok bool) {
	d := h.data
	return store.Principal{Owner: chat.Owner{Tenant: d.Tenant, Subject: d.Subject}, Roles: d.Roles}, d.MayOwn
}

// Recording reports whether a layer listens to driver.ReportVersion.
func (h Hints) Recording() bool { return h.data.Record != nil }
