package lifecycle

import (
	"context"
	"errors"
	"iter"

	"github.com/chatstore/chatstore/store"
)

// Unreadable is a row that cannot be read.
type Unreadable struct {
	Kind     string // store.RowThread, store.RowItem or store.RowAttachment
	ThreadID string // of an item
	ID       string
	Err      error // has CodeInternal
}

// Scan returns the rows of s that cannot be read. Package encrypt cannot open them, or their documents are damaged in the database.
// Scan looks at the threads that f selects, at the items of all of them, and then at the attachments that f selects. Memory stays
// constant. The loop may call [Quarantine] for each row.
//
// A row is unreadable if a listing of it alone fails with CodeInternal and names the row ([store.Error]). Any other error ends the
// sequence, such as [store.ErrUnavailable]. If the base cannot list attachments, the sequence ends with [errors.ErrUnsupported].
// s is the stack inside of a guard, such as authz.
func Scan(ctx context.Context, s store.Store, f store.OwnerFilter) iter.Seq2[Unreadable, error] {
	return func(yield func(Unreadable, error) bool) {
		sc := scanner{s: s, owner: f, yield: yield}
		fresh := store.WithFresh(store.WithNoStore(ctx))
		err := sc.scan(fresh, allThreads)
		if err == nil {
			err = sc.scan(fresh, allAttachments)
		}
		if err != nil && err != errStopped {
			yield(Unreadable{}, err)
		}
	}
}

type scanner struct {
	s     store.Store
	owner store.OwnerFilter
	yield func(Unreadable, error) bool
}

// scan yields the unreadable rows of a listing, and of the items of its threads.
func (sc *scanner) scan(ctx context.Context, l listing) error {
	pages := l.pages(sc.s, sc.owner)
	q := store.PageQuery{Limit: pageSize, Order: store.OldestFirst}
	for {
		p, err := pages(ctx, q)
		for _, row := range p.Data {
			if err := sc.itemsOf(ctx, l, row.id); err != nil {
				return err
			}
		}
		switch e, ok := errors.AsType[*store.Error](err); {
		case err == nil && !p.HasMore:
			return nil
		case err == nil:
			q.After, q.Limit = p.After, min(2*q.Limit, pageSize)
		case !ok || store.CodeOf(err) != store.CodeInternal || e.Kind != l.kind || e.ID == "" || e.ID == q.After:
			return err
		case q.Limit > 1: // rows before it can be read
			q.After, q.Limit = p.After, 1
		case !sc.yield(Unreadable{l.kind, l.threadID, e.ID, err}, nil):
			return errStopped
		default:
			if err := sc.itemsOf(ctx, l, e.ID); err != nil {
				return err
			}
			q.After = e.ID
		}
	}
}

// itemsOf scans the items of a row, if it is a thread.
func (sc *scanner) itemsOf(ctx context.Context, l listing, id string) error {
	if l.kind != store.RowThread {
		return nil
	}
	err := sc.scan(ctx, listing{store.RowItem, id})
	if errors.Is(err, store.ErrNotFound) { // the thread was deleted
		return nil
	}
	return err
}
