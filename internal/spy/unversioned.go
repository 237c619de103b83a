package spy

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Unversioned returns s without its reports of thread versions. It refuses writes under store.IfVersion, as a base without
// versions must.
func Unversioned(s store.Store) store.Store {
	return store.Wrap(s, layer.Intercept("unversioned", layer.InterceptorFunc(
		func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
			if callctx.Of(ctx).If.Set && c.Op.IsWrite() {
				return &store.Error{Op: c.Op, Code: store.CodeInvalid, Field: "if_version: this store keeps no versions"}
			}
			return next(callctx.WithoutVersionRecorder(ctx))
		})))
}
