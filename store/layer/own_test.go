package layer_test

import (
	"context"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

func TestOwnReadsTellTheCallerNothing(t *testing.T) {
	const op = store.OpLoadThread
	unwanted := func(what string) func() { return func() { t.Errorf("the caller got %s", what) } }
	for name, listen := range map[string]func(context.Context) context.Context{
		"versions": func(ctx context.Context) context.Context {
			return callctx.WithVersionRecorder(ctx, func(string, uint64, uint64) { unwanted("a version")() })
		},
		"unsettled writes": func(ctx context.Context) context.Context {
			return spy.WithUnsettledRecorder(ctx, func(<-chan struct{}) { unwanted("an unsettled write")() })
		},
		"condition": func(ctx context.Context) context.Context { return store.IfVersion(ctx, "thr_1", 1) },
		"notes": func(ctx context.Context) context.Context {
			ctx, _ = layer.WithNotes(ctx, op, nil)
			return ctx
		},
	} {
		t.Run(name, func(t *testing.T) {
			ada := store.Principal{Owner: chat.Owner{Subject: "ada"}}
			ctx := store.WithNoStore(store.WithFresh(store.WithPrincipal(t.Context(), ada)))
			own := layer.Own(listen(ctx))
			driver.ReportVersion(own, "thr_1", 1, 1)
			layer.ReportUnsettled(own)
			h := layer.HintsFor(own, op)
			if h.Notes != nil || h.Recording() {
				t.Error("the caller's notes or recorder are still set")
			}
			if callctx.Of(own).If.Set {
				t.Error("the caller's condition is still set")
			}
			if p, ok := h.Owner(); !ok || p.Owner != ada.Owner || !h.Fresh() || !h.NoStore() {
				t.Errorf("the principal %v, fresh %v, no store %v: want all of them kept", p, h.Fresh(), h.NoStore())
			}
		})
	}
	if ctx := store.WithFresh(t.Context()); layer.Own(ctx) != ctx {
		t.Error("Own copied a context without recorders")
	}
}
