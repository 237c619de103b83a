package store

import (
	"context"
	"slices"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/rules"
)

// Principal is the caller. The program must authenticate each request and put the Principal into the context with
// [WithPrincipal].
type Principal struct {
	Owner chat.Owner
	Roles []string
}

// WithPrincipal returns a context for calls by p. It copies the roles.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	roles := slices.Clone(p.Roles)
	return callctx.With(ctx, func(d *callctx.Data) {
		d.Tenant, d.Subject, d.Roles, d.HasPrincipal = p.Owner.Tenant, p.Owner.Subject, roles, true
		d.MayOwn = p.Owner.Subject != "" && rules.OwnerFault(p.Owner.Tenant, p.Owner.Subject) == ""
		d.Partition = callctx.PartitionOf(p.Owner.Tenant, p.Owner.Subject, p.Roles)
	})
}

// PrincipalFrom returns the principal of ctx; ok is false if there is none. The caller must not change the roles.
func PrincipalFrom(ctx context.Context) (p Principal, ok bool) {
	d := callctx.Of(ctx)
	return Principal{chat.Owner{Tenant: d.Tenant, Subject: d.Subject}, d.Roles}, d.HasPrincipal
}

// WithFresh returns a context whose reads go to the base. They take no cached answer and join no shared load.
func WithFresh(ctx context.Context) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.Fresh = true })
}

// WithNoStore returns a context whose reads add nothing to a cache. A cache may still answer them. Use it for exports and
// scans.
func WithNoStore(ctx context.Context) context.Context {
	return callctx.With(ctx, func(d *callctx.Data) { d.NoStore = true })
}

// SaveMode restricts SaveThread, SaveItem and SaveAttachment to inserts or updates.
type SaveMode uint8

// The save modes.
const (
	Upsert     SaveMode = iota // insert or replace
	InsertOnly                 // ErrConflict if the row exists, so that a new id cannot overwrite a thread with the same id
	UpdateOnly                 // ErrNotFound if the row is missing, so that a late save cannot restore a deleted row
)

// WithSaveMode returns a context for saves in mode m.
func WithSaveMode(ctx context.Context, m SaveMode) context.Context {
	if callctx.Of(ctx).Mode == uint8(m) {
		return ctx
	}
	return callctx.With(ctx, func(d *callctx.Data) { d.Mode = uint8(m) })
}

// SaveModeFrom returns the mode for saves of ctx. The default is Upsert.
func SaveModeFrom(ctx context.Context) SaveMode { return SaveMode(callctx.Of(ctx).Mode) }
