package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"unique"
)

// ctxData is all that this package keeps in a context, under one key, so that a layer pays for one lookup. A value is
// never changed once it is in a context.
type ctxData struct {
	principal    Principal
	hasPrincipal bool
	mayOwn       bool // the principal's Owner is valid and has a subject
	partition    Partition
	mode         SaveMode
	fresh        bool
	noStore      bool
	notes        *Notes
	record       func(threadID string, before, after uint64)
	unsettled    func()
	stamp        Stamp
}

type ctxKey struct{}

var noData ctxData

// dataCtx is a context with data: in one allocation, where context.WithValue takes two.
type dataCtx struct {
	context.Context
	data ctxData
}

// String says that there is data, and not what: it names people. Of a parent that does not say what it is, it prints the type only,
// as package context does.
func (c *dataCtx) String() string {
	parent := fmt.Sprintf("%T", c.Context)
	if s, ok := c.Context.(fmt.Stringer); ok {
		parent = s.String()
	}
	return parent + ".WithValue(store)"
}

func (c *dataCtx) Value(key any) any {
	if _, ok := key.(ctxKey); ok {
		return &c.data
	}
	return c.Context.Value(key)
}

func dataOf(ctx context.Context) *ctxData {
	if c, ok := ctx.(*dataCtx); ok {
		return &c.data
	}
	if d, ok := ctx.Value(ctxKey{}).(*ctxData); ok {
		return d
	}
	return &noData
}

// dataCtxOf returns ctx with a copy of its data, to be changed before anybody else has it.
func dataCtxOf(ctx context.Context) dataCtx {
	if c, ok := ctx.(*dataCtx); ok { // whose data nobody asks for any more
		return *c
	}
	return dataCtx{ctx, *dataOf(ctx)}
}

// with returns ctx with its data changed by set.
func with(ctx context.Context, set func(*ctxData)) context.Context {
	c := dataCtxOf(ctx)
	set(&c.data)
	return &c
}

// Principal is who makes a call. Whoever authenticates a request puts it in the context; nothing in this module does.
type Principal struct {
	Owner Owner
	Roles []string
}

// WithPrincipal returns a context whose calls are made by p. The roles are copied.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	p.Roles = slices.Clone(p.Roles)
	return with(ctx, func(d *ctxData) {
		d.principal, d.hasPrincipal = p, true
		d.mayOwn = p.Owner.Subject != "" && ownerFault(p.Owner) == ""
		d.partition = partitionOf(p)
	})
}

// PrincipalFrom returns who makes the calls of ctx; ok is false when nobody was named. The roles are the context's own: do
// not change them.
func PrincipalFrom(ctx context.Context) (p Principal, ok bool) {
	d := dataOf(ctx)
	return d.principal, d.hasPrincipal
}

// OwnerFrom is [PrincipalFrom] for layers that let nobody in who could not own a row: ok is false also for a principal
// without a subject, or whose ids break the contract's rules. It costs no more than a lookup.
func OwnerFrom(ctx context.Context) (p Principal, ok bool) {
	d := dataOf(ctx)
	return d.principal, d.mayOwn
}

// WithoutPrincipal returns ctx without a principal. Layers that share answers between principals load them so, which makes
// whatever depends on a principal beneath them fail closed.
func WithoutPrincipal(ctx context.Context) context.Context {
	if !dataOf(ctx).hasPrincipal {
		return ctx
	}
	return with(ctx, func(d *ctxData) {
		d.principal, d.hasPrincipal, d.mayOwn, d.partition = Principal{}, false, false, Partition{}
	})
}

// Partition stands for one principal, owner and roles, as a small comparable value: what a layer that keeps principals
// apart puts into its keys. Equal partitions are equal principals (the order of roles does not count). The zero Partition
// stands for no principal.
type Partition struct{ h unique.Handle[string] }

// Key returns a text that is equal for equal partitions only, to be part of a longer key. It contains the principal's ids:
// not for logs.
func (p Partition) Key() string {
	if p == (Partition{}) {
		return ""
	}
	return p.h.Value()
}

// PartitionFrom returns the partition of ctx's principal, computed once by [WithPrincipal].
func PartitionFrom(ctx context.Context) Partition { return dataOf(ctx).partition }

// partitionOf joins the parts length-prefixed, so that no two principals make one text.
func partitionOf(p Principal) Partition {
	b := make([]byte, 0, 64)
	add := func(s string) {
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, ':')
		b = append(b, s...)
	}
	add(p.Owner.Tenant)
	add(p.Owner.Subject)
	roles := slices.Sorted(slices.Values(p.Roles))
	for _, r := range slices.Compact(roles) {
		add(r)
	}
	return Partition{unique.Make(string(b))}
}

// WithFresh returns a context whose reads see the base: they take no cached answer and join no flight.
func WithFresh(ctx context.Context) context.Context {
	return with(ctx, func(d *ctxData) { d.fresh = true })
}

// WithNoStore returns a context whose reads leave nothing in a cache, for exporters and scans. They may be answered by one.
func WithNoStore(ctx context.Context) context.Context {
	return with(ctx, func(d *ctxData) { d.noStore = true })
}

// Hints is all that a context tells a caching or sharing layer about a call.
type Hints struct {
	Notes *Notes // see NotesFor

	data *ctxData
}

// HintsFor returns the hints of ctx for a call of op, with one lookup.
func HintsFor(ctx context.Context, op Op) Hints {
	h := Hints{data: dataOf(ctx)}
	if n := h.data.notes; n != nil && n.op == op {
		h.Notes = n
	}
	return h
}

// Partition returns what [PartitionFrom] does.
func (h Hints) Partition() Partition { return h.data.partition }

// Fresh reports whether [WithFresh] was said.
func (h Hints) Fresh() bool { return h.data.fresh }

// NoStore reports whether [WithNoStore] was said.
func (h Hints) NoStore() bool { return h.data.noStore }

// ReportVersion is [ReportVersion] without another lookup.
func (h Hints) ReportVersion(threadID string, before, after uint64) {
	if f := h.data.record; f != nil {
		f(threadID, before, after)
	}
}

// Owner returns what [OwnerFrom] does.
func (h Hints) Owner() (p Principal, ok bool) { return h.data.principal, h.data.mayOwn }

// Recording reports whether somebody listens to [ReportVersion].
func (h Hints) Recording() bool { return h.data.record != nil }

// SaveMode narrows what SaveThread, SaveItem and SaveAttachment may do.
type SaveMode uint8

// The save modes.
const (
	Upsert     SaveMode = iota // insert or replace
	InsertOnly                 // an existing row is ErrConflict: a colliding new id never merges two threads
	UpdateOnly                 // a missing row is ErrNotFound: a late save never resurrects what was deleted
)

// WithSaveMode returns a context whose saves are made in mode m.
func WithSaveMode(ctx context.Context, m SaveMode) context.Context {
	if dataOf(ctx).mode == m {
		return ctx
	}
	return with(ctx, func(d *ctxData) { d.mode = m })
}

// SaveModeFrom returns the mode in which ctx's saves are made: Upsert unless said otherwise.
func SaveModeFrom(ctx context.Context) SaveMode { return dataOf(ctx).mode }

// WithVersionRecorder returns a context whose calls report thread versions to f, in place of any recorder set before. f may
// be called from another goroutine, but not after the call has returned.
func WithVersionRecorder(ctx context.Context, f func(threadID string, before, after uint64)) context.Context {
	return with(ctx, func(d *ctxData) { d.record = f })
}

// WithoutVersionRecorder returns ctx without a version recorder. A layer uses it for the reads that it makes for its own
// ends within a caller's call, whose recorder is to hear of that call only.
func WithoutVersionRecorder(ctx context.Context) context.Context {
	if dataOf(ctx).record == nil {
		return ctx
	}
	return with(ctx, func(d *ctxData) { d.record = nil })
}

// ReportVersion is called by a base that keeps thread versions: by a read with the version of the snapshot it answers from
// (before == after), by a write with the versions before and after it. It does nothing when nobody listens.
//
// A thread's version is a counter that goes up by one in every transaction that changes the thread or its items. It never
// restarts for an id, not even when the thread is deleted and made anew. A thread that never was has version 0.
func ReportVersion(ctx context.Context, threadID string, before, after uint64) {
	if f := dataOf(ctx).record; f != nil {
		f(threadID, before, after)
	}
}

// WithUnsettledRecorder returns a context whose writes call f where [ReportUnsettled] says to, in place of any set before. f
// may be called from another goroutine, but not after the call has returned.
func WithUnsettledRecorder(ctx context.Context, f func()) context.Context {
	return with(ctx, func(d *ctxData) { d.unsettled = f })
}

// ReportUnsettled is called by a layer that tries writes again, or gives up waiting for them, when it answers one whatever
// the answer: an attempt made in its course ended with an unknown outcome, or goes on, and may take effect after the answer.
// Layers above that hold values then treat the outcome as unknown. It does nothing when nobody listens.
func ReportUnsettled(ctx context.Context) {
	if f := dataOf(ctx).unsettled; f != nil {
		f()
	}
}

// Stamp names a write among those of all caches on a [Bus]: the cache instance, and its own number of the write. The zero
// Stamp is none.
type Stamp struct {
	Origin string
	Write  uint64
}

// WithStamp returns a context whose writes bear s. A cache stamps what it writes, so that a base whose transactions tell
// others of their changes can say which write it was, and the cache knows its own. A layer that writes anything else in the
// course of such a write does that under the zero Stamp.
func WithStamp(ctx context.Context, s Stamp) context.Context {
	return with(ctx, func(d *ctxData) { d.stamp = s })
}

// StampFrom returns the stamp that ctx's writes bear. A base that announces changes itself puts it into the [Change].
func StampFrom(ctx context.Context) Stamp { return dataOf(ctx).stamp }

// Detached returns a context for a call that is made on behalf of several callers: it has ctx's values, such as the span
// and the principal, but not its cancellation, deadline, notes, recorders, stamp, hints or save mode.
func Detached(ctx context.Context) context.Context {
	return with(context.WithoutCancel(ctx), func(d *ctxData) {
		*d = ctxData{principal: d.principal, hasPrincipal: d.hasPrincipal, mayOwn: d.mayOwn, partition: d.partition}
	})
}
