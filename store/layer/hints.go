package layer

import (
	"context"
	"unique"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

// Partition identifies one principal, with owner and roles, as a small comparable value. A layer that keeps principals apart
// uses it in its keys. Two partitions are equal exactly if their principals are equal; the order of roles does not matter.
// The zero Partition means no principal.
type Partition struct{ h unique.Handle[string] }

// Key returns the partition as text, for use in a longer key. Different partitions have different texts. Keep it out of
// logs: it contains the principal's ids.
func (p Partition) Key() string {
	if p == (Partition{}) {
		return ""
	}
	return p.h.Value()
}

// Hints is the information in a context for a caching or sharing layer.
type Hints struct {
	Notes *Notes // nil if no layer listens

	data *callctx.Data
}

// HintsFor returns the hints of ctx for a call of op. It makes one lookup in ctx.
func HintsFor(ctx context.Context, op store.Op) Hints {
	h := Hints{data: callctx.Of(ctx)}
	if n, _ := h.data.Notes.(*Notes); n != nil && n.op == op {
		h.Notes = n
	}
	return h
}

// Partition returns the partition of ctx's principal. It costs nothing, because [store.WithPrincipal] has computed it.
func (h Hints) Partition() Partition { return Partition{h.data.Partition} }

// Fresh reports whether ctx comes from [store.WithFresh].
func (h Hints) Fresh() bool { return h.data.Fresh }

// NoStore reports whether ctx comes from [store.WithNoStore].
func (h Hints) NoStore() bool { return h.data.NoStore }

// ReportVersion does the same as driver.ReportVersion, without another lookup in the context.
func (h Hints) ReportVersion(threadID string, before, after uint64) {
	if r := h.data.Versions; r != nil {
		r.RecordVersion(threadID, before, after)
	}
}

// Owner returns the principal, as [store.PrincipalFrom] does. ok is false unless the principal can own a row: it needs a
// subject and valid ids.
func (h Hints) Owner() (p store.Principal, ok bool) {
	d := h.data
	return store.Principal{Owner: chat.Owner{Tenant: d.Tenant, Subject: d.Subject}, Roles: d.Roles}, d.MayOwn
}

// Recording reports whether a layer listens to driver.ReportVersion.
func (h Hints) Recording() bool { return h.data.Versions != nil }
