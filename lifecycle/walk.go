package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
	"github.com/chatstore/chatstore/store/layer"
)

// pageSize is the number of rows in memory at once.
const pageSize = 100

// Threads returns the threads that f selects, the oldest first. It loads them in pages, so memory stays constant. It reads past
// caches, and adds nothing to them. An error ends the sequence. A thread that is added or deleted during the walk may be in it or
// not. One that gets a newer CreatedAt may be in it twice.
func Threads(ctx context.Context, s store.Store, f store.OwnerFilter) iter.Seq2[chat.Thread, error] {
	return rows(ctx, store.OldestFirst, steady(func(ctx context.Context, q store.PageQuery) (store.Page[chat.Thread], error) {
		return s.LoadThreads(ctx, store.ThreadQuery{PageQuery: q, Owner: f})
	}, func(t chat.Thread) string { return t.ID }, func(ctx context.Context, t chat.Thread) (bool, error) {
		now, err := s.LoadThread(ctx, t.ID)
		return !now.CreatedAt.Equal(t.CreatedAt), err
	}))
}

// Items returns the items of a thread, the oldest first, as [Threads] does. A missing thread has none. If the thread is deleted
// during the walk, the error is [store.ErrNotFound].
func Items(ctx context.Context, s store.Store, threadID string) iter.Seq2[chat.Item, error] {
	return rows(ctx, store.OldestFirst, steady(func(ctx context.Context, q store.PageQuery) (store.Page[chat.Item], error) {
		return s.LoadThreadItems(ctx, threadID, q)
	}, func(it chat.Item) string { return it.ID }, func(ctx context.Context, it chat.Item) (bool, error) {
		now, err := s.LoadItem(ctx, threadID, it.ID)
		return !now.CreatedAt.Equal(it.CreatedAt), err
	}))
}

// steady loads pages of a listing whose rows may move. If the row of the cursor has moved, the page would skip the rows between. If it
// was deleted, it may have moved before. If it was erased, it is no cursor. Then steady begins behind the last row that is still in its
// place. If the rows of the page before are all gone, it trusts the cursor. moved returns [store.ErrNotFound] for a row that is gone.
func steady[T any](load func(context.Context, store.PageQuery) (store.Page[T], error), id func(T) string,
	moved func(context.Context, T) (bool, error)) func(context.Context, store.PageQuery) (store.Page[T], error) {
	var before []T // the rows of the page before
	return func(ctx context.Context, q store.PageQuery) (store.Page[T], error) {
		if n := len(before); n > 0 && id(before[n-1]) != q.After { // another walk
			before = nil
		}
		for {
			p, err := load(ctx, q)
			accept := func() (store.Page[T], error) {
				if err != nil {
					return store.Page[T]{After: q.After}, err // where to go on
				}
				before = p.Data
				return p, nil
			}
			e, _ := errors.AsType[*store.Error](err)
			erased := e != nil && e.Code == store.CodeNotFound && e.Kind == store.RowThread && e.ID == q.After
			if len(before) == 0 || err != nil && !erased && store.CodeOf(err) != store.CodeInternal {
				return accept()
			}
			last, gone := len(before)-1, false // of the cursor
			n := last
			for ; n >= 0; n-- {
				has, failed := moved(ctx, before[n])
				if failed == nil && !has {
					break
				}
				if failed != nil && !errors.Is(failed, store.ErrNotFound) {
					return store.Page[T]{After: q.After}, failed
				}
				gone = gone || n == last && failed != nil
			}
			if n == last || n < 0 && (gone || erased) {
				return accept()
			}
			if n < 0 {
				return p, &store.Error{ID: q.After, Code: store.CodeConflict, Cause: errors.New("lifecycle: all rows of a page moved during a walk")}
			}
			before, q.After = before[:n+1], id(before[n])
		}
	}
}

// Attachments returns the attachments that f selects in the order of their ids, as [Threads] does. The base must be a
// [driver.AttachmentLister] that no guard hides, else the error is [errors.ErrUnsupported].
func Attachments(ctx context.Context, s store.Store, f store.OwnerFilter) iter.Seq2[chat.Attachment, error] {
	l, ok := store.As[driver.AttachmentLister](s)
	return rows(ctx, store.OldestFirst, func(ctx context.Context, q store.PageQuery) (store.Page[chat.Attachment], error) {
		if !ok {
			return store.Page[chat.Attachment]{}, fmt.Errorf("lifecycle: the store cannot list attachments: %w", errors.ErrUnsupported)
		}
		return l.ListAttachments(ctx, store.ThreadQuery{PageQuery: q, Owner: f})
	})
}

// reading returns a context for reads that caches do not answer, and what it hears.
func reading(ctx context.Context) (context.Context, *store.Versions) {
	return store.WithVersions(store.WithFresh(store.WithNoStore(layer.Own(ctx))))
}

// errAgain ends a try whose reads do not belong together, or whose target was written to by another.
var errAgain = errors.New("lifecycle: the row changed while it was read")

// itemsAt returns the items of a thread at the version that the load of the thread reported. If the thread has another one by now,
// the error is errAgain. Without a version, the items may be of several.
func itemsAt(ctx context.Context, s store.Store, id string, of *store.Versions) iter.Seq2[chat.Item, error] {
	version, versioned := of.Of(id)
	return rows(ctx, store.OldestFirst, func(ctx context.Context, q store.PageQuery) (store.Page[chat.Item], error) {
		ctx, now := reading(ctx)
		p, err := s.LoadThreadItems(ctx, id, q)
		if n, ok := now.Of(id); errors.Is(err, store.ErrNotFound) || err == nil && versioned && (!ok || n != version) {
			err = errAgain
		}
		return p, err
	})
}

// triesPerThread is how often a thread is read that changes while it is read.
const triesPerThread = 10

// unchanged calls read until its error is not errAgain. It waits between the tries: in total about a second.
func unchanged(ctx context.Context, id string, read func() error) error {
	for n := range triesPerThread {
		if n > 0 {
			if err := wait(ctx, time.Millisecond<<n); err != nil {
				return err
			}
		}
		if err := read(); !errors.Is(err, errAgain) {
			return err
		}
	}
	return &store.Error{Op: store.OpLoadThread, Kind: store.RowThread, ID: id, Code: store.CodeConflict, Cause: errAgain}
}

// rows returns all rows of a listing.
func rows[T any](ctx context.Context, order store.Order, load func(context.Context, store.PageQuery) (store.Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx := store.WithFresh(store.WithNoStore(ctx))
		q := store.PageQuery{Limit: pageSize, Order: order}
		for {
			p, err := load(ctx, q)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, row := range p.Data {
				if !yield(row, nil) {
					return
				}
			}
			if !p.HasMore {
				return
			}
			q.After = p.After
		}
	}
}

// pair is the rows of two listings at one place. A listing without a row at the place has a zero value.
type pair[T any] struct{ from, to T }

// merge returns the rows of two listings side by side. order compares their places.
func merge[T any](from, to iter.Seq2[T, error], order func(a, b T) (int, error)) iter.Seq2[pair[T], error] {
	return func(yield func(pair[T], error) bool) {
		nextA, stopA := iter.Pull2(from)
		defer stopA()
		nextB, stopB := iter.Pull2(to)
		defer stopB()
		a, errA, moreA := nextA()
		b, errB, moreB := nextB()
		for moreA || moreB {
			by, err := 0, cmp.Or(errA, errB)
			switch {
			case err != nil:
			case !moreB:
				by = -1
			case !moreA:
				by = 1
			default:
				by, err = order(a, b)
			}
			if err != nil {
				yield(pair[T]{}, err)
				return
			}
			var p pair[T]
			if by <= 0 {
				p.from = a
			}
			if by >= 0 {
				p.to = b
			}
			if !yield(p, nil) {
				return
			}
			if by <= 0 {
				a, errA, moreA = nextA()
			}
			if by >= 0 {
				b, errB, moreB = nextB()
			}
		}
	}
}

// longestWrite returns how long an abandoned write to s may still take effect.
func longestWrite(s store.Store) time.Duration {
	if b, ok := store.As[driver.WriteBounder](s); ok {
		return b.LongestWrite()
	}
	return time.Minute
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
