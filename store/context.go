package store

import (
	"context"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/rules"
)

// Principal is who makes a call. Whoever authenticates a request puts it in the context; nothing in this module does.
type Principal struct {
	Owner chat.Owner
	Roles []string
}

// WithPrincipal returns a context whose calls are made by p. The roles are copied.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	roles := slices.Clone(p.Roles)
	return callctx.With(ctx, func(d *callctx.Data) {
		d.Tenant, d.Subject, d.Roles, d.HasPrincipal = p.Owner.Tenant, p.Owner.Subject, roles, true
		d.MayOwn = p.Owner.Subject != "" && rules.OwnerFault(p.Owner.Tenant, p.Owner.Subject) == ""
		d.Partition = callctx.PartitionOf(p.Owner.Tenant, p.Owner.Subject, p.Roles)
	})
}

// PrincipalFrom returns who makes the calls of ctx; ok is false when nobody was named. The roles are the context's own: do
// not change them.
func PrincipalFrom(ctx context.Context) (p Principal, ok bool) {
	d := callctx.Of(ctx)
	return Principal{chat.Owner{Tenant: d.Tenant, Subject: d.Subject}, d.Roles}, d.HasPrincipal
}

// WithFresh returns a context whose reads see the base: they take no cached answer and join no flight.
func WithFresh(ctx context.Context) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.Fresh = true })
}

// WithNoStore returns a context whose reads leave nothing in a cache, for exporters and scans. They may be answered by one.
func WithNoStore(ctx context.Context) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.NoStore = true })
}

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
	if callctx.Of(ctx).Mode == uint8(m) {
		return ctx
	}
	return callctx.With(ctx, func(d *callctx.Data) { d.Mode = uint8(m) })
}

// SaveModeFrom returns the mode in which ctx's saves are made: Upsert unless said otherwise.
func SaveModeFrom(ctx context.Context) SaveMode { return SaveMode(callctx.Of(ctx).Mode) }
