package spy

import (
	"context"

	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Unversioned returns a Store that reports no thread versions, and is s otherwise.
func Unversioned(s store.Store) store.Store {
	return store.Wrap(s, layer.Intercept("unversioned", layer.InterceptorFunc(
		func(ctx context.Context, _ layer.Call, next func(context.Context) error) error {
			return next(callctx.WithoutVersionRecorder(ctx))
		})))
}
