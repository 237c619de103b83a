// Package callctx has the single context value of this module, so that a layer needs only one lookup. It does not import the
// packages that use it: each of them gives its fields a meaning.
package callctx

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"unique"
)

// Data is the context value. It must not be changed once it is in a context.
type Data struct {
	// Of package store: the principal, the save mode, the condition and the read hints.
	Tenant, Subject string
	Roles           []string
	HasPrincipal    bool
	MayOwn          bool // the principal's owner is valid and has a subject
	Partition       unique.Handle[string]
	Mode            uint8
	If              Condition
	Fresh           bool
	NoStore         bool
	// Of package layer: a *layer.Notes, and the recorders of versions and of unknown outcomes.
	Notes     any
	Versions  VersionRecorder
	Unsettled UnsettledRecorder
	// Of package bus.
	Stamp Stamp
	// Of package resilience: an outer layer retries the call, so inner ones must not.
	Retried bool
}

// VersionRecorder gets the reported thread versions of a call. It is an interface, so that a recorder needs no closure.
type VersionRecorder interface {
	RecordVersion(threadID string, before, after uint64)
}

// UnsettledRecorder gets the reports of an unknown outcome: nil from layer.ReportUnsettled, a channel from
// driver.ReportPending.
type UnsettledRecorder interface {
	RecordUnsettled(ended <-chan struct{})
}

// VersionFunc is a function that implements VersionRecorder.
type VersionFunc func(threadID string, before, after uint64)

// RecordVersion calls f.
func (f VersionFunc) RecordVersion(threadID string, before, after uint64) { f(threadID, before, after) }

// UnsettledFunc is a function that implements UnsettledRecorder.
type UnsettledFunc func(ended <-chan struct{})

// RecordUnsettled calls f.
func (f UnsettledFunc) RecordUnsettled(ended <-chan struct{}) { f(ended) }

// Condition is the condition of store.IfVersion. It is one if Set.
type Condition struct {
	ThreadID string
	Version  uint64
	Set      bool
}

// Stamp has the fields of bus.Stamp.
type Stamp struct {
	Origin string
	Write  uint64
}

type ctxKey struct{}

var noData Data

// Ctx is a context with Data. It takes one allocation, where context.WithValue takes two.
type Ctx struct {
	context.Context
	Data Data
}

// String says that there is data, but not which: it may contain ids of persons. For a parent without a String method it
// prints the type only, as package context does.
func (c *Ctx) String() string {
	parent := fmt.Sprintf("%T", c.Context)
	if s, ok := c.Context.(fmt.Stringer); ok {
		parent = s.String()
	}
	return parent + ".WithValue(store)"
}

// Value implements context.Context.
func (c *Ctx) Value(key any) any {
	if _, ok := key.(ctxKey); ok {
		return &c.Data
	}
	return c.Context.Value(key)
}

// Of returns the data of ctx. It must not be changed.
func Of(ctx context.Context) *Data {
	if c, ok := ctx.(*Ctx); ok {
		return &c.Data
	}
	if d, ok := ctx.Value(ctxKey{}).(*Data); ok {
		return d
	}
	return &noData
}

// Copy returns ctx with a copy of its data. The copy may be changed until the context is passed on.
func Copy(ctx context.Context) Ctx {
	if c, ok := ctx.(*Ctx); ok { // the copy takes its place, to keep the chain of contexts short
		return *c
	}
	return Ctx{ctx, *Of(ctx)}
}

// With returns ctx with a copy of its data that set has changed.
func With(ctx context.Context, set func(*Data)) context.Context {
	c := Copy(ctx)
	set(&c.Data)
	return &c
}

// WithoutPrincipal returns ctx without a principal. A layer that shares answers between principals loads them with such a
// context, so that every lower layer that depends on a principal fails closed.
func WithoutPrincipal(ctx context.Context) context.Context {
	if !Of(ctx).HasPrincipal {
		return ctx
	}
	return With(ctx, (*Data).DropPrincipal)
}

// DropPrincipal removes the principal.
func (d *Data) DropPrincipal() {
	d.Tenant, d.Subject, d.Roles, d.HasPrincipal, d.MayOwn, d.Partition = "", "", nil, false, false, unique.Handle[string]{}
}

// WithVersionRecorder returns a context in which f gets the reported thread versions. It replaces an earlier recorder. f may
// be called from other goroutines, but not after the end of the call.
func WithVersionRecorder(ctx context.Context, f func(threadID string, before, after uint64)) context.Context {
	return With(ctx, func(d *Data) { d.Versions = VersionFunc(f) })
}

// WithoutVersionRecorder returns ctx without a version recorder, for additional calls of tests and test stores. Layers use
// layer.Own for their own reads.
func WithoutVersionRecorder(ctx context.Context) context.Context {
	if Of(ctx).Versions == nil {
		return ctx
	}
	return With(ctx, func(d *Data) { d.Versions = nil })
}

// Detach keeps the principal and Retried, for a call on behalf of several callers. It drops the notes, recorders, stamp, hints, save
// mode and condition of one caller. Without Retried, retries around and beneath a cache would multiply.
func (d *Data) Detach() {
	*d = Data{Tenant: d.Tenant, Subject: d.Subject, Roles: d.Roles, HasPrincipal: d.HasPrincipal, MayOwn: d.MayOwn, Partition: d.Partition,
		Retried: d.Retried}
}

// PartitionOf joins the parts with their lengths, so that different principals have different texts.
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
