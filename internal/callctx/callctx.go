// Package callctx is the one value that the packages of this module keep in a context, so that a layer pays for one
// lookup. It knows none of their types: each package gives its slots a meaning.
package callctx

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"unique"
)

// Data is all that is kept. A value is never changed once it is in a context.
type Data struct {
	// Of store: who calls, and how.
	Tenant, Subject string
	Roles           []string
	HasPrincipal    bool
	MayOwn          bool // the principal's owner is valid and has a subject
	Partition       unique.Handle[string]
	Mode            uint8
	Fresh           bool
	NoStore         bool
	// Of layer: a *layer.Notes, and whom to tell what.
	Notes     any
	Record    func(threadID string, before, after uint64)
	Unsettled func()
	// Of bus.
	Stamp Stamp
}

// Stamp is bus.Stamp.
type Stamp struct {
	Origin string
	Write  uint64
}

type ctxKey struct{}

var noData Data

// Ctx is a context with data: in one allocation, where context.WithValue takes two.
type Ctx struct {
	context.Context
	Data Data
}

// String says that there is data, and not what: it names people. Of a parent that does not say what it is, it prints the type only,
// as package context does.
func (c *Ctx) String() string {
	parent := fmt.Sprintf("%T", c.Context)
	if s, ok := c.Context.(fmt.Stringer); ok {
		parent = s.String()
	}
	return parent + ".WithValue(store)"
}

// Value returns what package context wants.
func (c *Ctx) Value(key any) any {
	if _, ok := key.(ctxKey); ok {
		return &c.Data
	}
	return c.Context.Value(key)
}

// Of returns ctx's data, to be read only.
func Of(ctx context.Context) *Data {
	if c, ok := ctx.(*Ctx); ok {
		return &c.Data
	}
	if d, ok := ctx.Value(ctxKey{}).(*Data); ok {
		return d
	}
	return &noData
}

// Copy returns ctx with a copy of its data, to be changed before anybody else has it.
func Copy(ctx context.Context) Ctx {
	if c, ok := ctx.(*Ctx); ok { // whose data nobody asks for any more
		return *c
	}
	return Ctx{ctx, *Of(ctx)}
}

// With returns ctx with its data changed by set.
func With(ctx context.Context, set func(*Data)) context.Context {
	c := Copy(ctx)
	set(&c.Data)
	return &c
}

// WithoutPrincipal returns ctx without a principal. Layers that share answers between principals load them so, which makes
// whatever depends on a principal beneath them fail closed.
func WithoutPrincipal(ctx context.Context) context.Context {
	if !Of(ctx).HasPrincipal {
		return ctx
	}
	return With(ctx, func(d *Data) {
		d.Tenant, d.Subject, d.Roles, d.HasPrincipal, d.MayOwn, d.Partition = "", "", nil, false, false, unique.Handle[string]{}
	})
}

// WithVersionRecorder returns a context whose calls report thread versions to f, in place of any recorder set before. f may
// be called from another goroutine, but not after the call has returned.
func WithVersionRecorder(ctx context.Context, f func(threadID string, before, after uint64)) context.Context {
	return With(ctx, func(d *Data) { d.Record = f })
}

// WithoutVersionRecorder returns ctx without a version recorder, for calls that tests and test stores make beside a caller's. A
// layer's own reads use layer.Own.
func WithoutVersionRecorder(ctx context.Context) context.Context {
	if Of(ctx).Record == nil {
		return ctx
	}
	return With(ctx, func(d *Data) { d.Record = nil })
}

// WithUnsettledRecorder returns a context whose writes call f where layer.ReportUnsettled says to, in place of any set
// before. f may be called from another goroutine, but not after the call has returned.
func WithUnsettledRecorder(ctx context.Context, f func()) context.Context {
	return With(ctx, func(d *Data) { d.Unsettled = f })
}

// Detached returns a context for a call that is made on behalf of several callers: it has ctx's values, such as the span
// and the principal, but not its cancellation, deadline, notes, recorders, stamp, hints or save mode.
func Detached(ctx context.Context) context.Context {
	return With(context.WithoutCancel(ctx), func(d *Data) {
		*d = Data{Tenant: d.Tenant, Subject: d.Subject, Roles: d.Roles, HasPrincipal: d.HasPrincipal, MayOwn: d.MayOwn, Partition: d.Partition}
	})
}

// PartitionOf joins the parts length-prefixed, so that no two principals make one text.
func PartitionOf(tenant, subject string, roles []string) unique.Handle[string] {
	b := make([]byte, 0, 64)
	add := func(s string) {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	add(tenant)
	add(subject)
	roles = slices.Sorted(slices.Values(roles))
	for _, r := range slices.Compact(roles) {
		add(r)
	}
	return unique.Make(string(b))
}
