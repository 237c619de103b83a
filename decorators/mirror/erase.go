package mirror

import (
	"context"
	"fmt"
	"math"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// erasing is a mirror of a first store that can erase an owner.
type erasing struct {
	*mirrored
	first driver.Eraser
}

// EraseOwner erases the owner in both stores, also after Close. It returns what it erased in the first. In between it waits for
// the waiting trials, as long as ctx allows. If the second store is no [driver.Eraser], nothing is erased. If only the second
// store fails, the error is CodeUnavailable and comes with the ids of the first. Then delete these ids as [driver.Eraser]
// says, and call EraseOwner again. Repeat the steps after the longer LongestWrite of both stores, as it says: a write under way
// may reach the second store later.
func (s *erasing) EraseOwner(ctx context.Context, owner chat.Owner) (driver.Erased, error) {
	second, ok := store.As[driver.Eraser](s.second)
	if !ok {
		return driver.Erased{}, fmt.Errorf("mirror: the second store cannot erase an owner: %w", store.ErrNotApplied)
	}
	s.writing.Begin(s.erasing)
	defer s.writing.End(s.erasing)
	erased, err := s.first.EraseOwner(ctx, owner)
	if err != nil {
		return erased, err
	}
	if err = s.drain(ctx); err == nil { // a waiting write could bring a row of the owner
		_, err = second.EraseOwner(layer.Own(ctx), owner)
	}
	if err != nil { // not wrapped: it may be ErrNotApplied, which holds for the second store only
		err = &store.Error{Code: store.CodeUnavailable, Cause: fmt.Errorf("mirror: erased in the first store only: %v", err)}
	}
	return erased, err
}

// drain waits for the trials that wait now.
func (s *mirrored) drain(ctx context.Context) error {
	for i := range s.workers {
		passed := make(chan struct{})
		if !s.push(&s.queues[i], func() { close(passed) }, math.MaxInt) {
			return s.close() // which waits, too
		}
		select {
		case <-passed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
