package customstore

import (
	"context"
	"errors"
	"time"

	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/layer"
)

// Retry is a rule of one's own: a layer that tries a call up to tries times while the backend is unavailable, with a pause
// that doubles. A write is tried again only if it surely was not applied: of any other, nobody knows.
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
			case <-ctx.Done(): // next says so
			}
		}
	}
	return layer.Intercept("retry", layer.InterceptorFunc(rule))
}
