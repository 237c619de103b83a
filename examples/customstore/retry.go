package customstore

import (
	"context"
	"errors"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Retry is a layer of your own: it makes a call up to tries times while the backend is unavailable, with a pause that
// doubles. A write is retried only if it certainly was not applied. Otherwise its outcome is unknown.
func Retry(tries int, pause time.Duration) store.Middleware {
	rule := func(ctx context.Context, c layer.Call, next func(context.Context) error) error {
		for try := 1; ; try++ {
			err := next(ctx)
			again := errors.Is(err, store.ErrUnavailable) && (!c.Op.IsWrite() || errors.Is(err, store.ErrNotApplied))
			if !again || try >= tries {
				return err
			}
			select {
			case <-time.After(pause << (try - 1)):
			case <-ctx.Done(): // the next try returns the error
			}
		}
	}
	return layer.Intercept("retry", layer.InterceptorFunc(rule))
}
