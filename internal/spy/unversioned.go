package spy

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Unversioned returns s without its reports of thread versions.
func Unversioned(s store.Store) store.Store {
	return store.Wrap(s, layer.Intercept("unversioned", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			return next(callctx.WithoutVersionRecorder(ctx))
		})))
}
