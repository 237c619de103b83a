package layer

import (
	"context"
	"fmt"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/callctx"
	"github.com/chatstore/chatstore/store"
)

// rows says how to guard the rows of one kind.
type rows[T any] struct {
	kind  string
	id    func(T) string
	fault func(was, is T) string // the field that a function must not change, but has changed; or ""
	check func(T) (T, error)     // normalises a value
}

var (
	threads = rows[chat.Thread]{
		kind: store.RowThread,
		id:   func(t chat.Thread) string { return t.ID },
		fault: func(was, is chat.Thread) string {
			switch {
			case is.ID != was.ID:
				return "id"
			case is.Owner != was.Owner:
				return "owner"
			case !is.CreatedAt.Equal(was.CreatedAt):
				return "created_at"
			}
			return ""
		},
		check: chat.Thread.Normalized,
	}
	items = rows[chat.Item]{
		kind: store.RowItem,
		id:   func(it chat.Item) string { return it.ID },
		fault: func(was, is chat.Item) string {
			switch {
			case is.ID != was.ID:
				return "id"
			case is.ThreadID != was.ThreadID:
				return "thread_id"
			case !is.CreatedAt.Equal(was.CreatedAt):
				return "created_at"
			case is.Type() != was.Type():
				return "type"
			}
			return ""
		},
		check: func(it chat.Item) (chat.Item, error) { return it.Normalized(it.ThreadID) },
	}
	attachments = rows[chat.Attachment]{
		kind: store.RowAttachment,
		id:   func(a chat.Attachment) string { return a.ID },
		fault: func(was, is chat.Attachment) string {
			switch {
			case is.ID != was.ID:
				return "id"
			case is.Owner != was.Owner:
				return "owner"
			case is.ThreadID != was.ThreadID:
				return "thread_id"
			case is.Type() != was.Type():
				return "type"
			}
			return ""
		},
		check: chat.Attachment.Normalized,
	}
)

// change calls f, and checks what it returns. ctx is that of [Own].
func (r *rows[T]) change(ctx context.Context, f func(context.Context, T) (T, error), v T) (T, error) {
	out, err := f(ctx, v)
	if err != nil {
		return v, err
	}
	if field := r.fault(v, out); field != "" {
		return v, fmt.Errorf("layer: a Transformer changed the %s", field)
	}
	return out, nil
}

// saved returns what the base is to store for v.
func saved[T any](ctx context.Context, op store.Op, r *rows[T], f func(context.Context, T) (T, error), v T) (T, error) {
	if f == nil {
		return v, nil
	}
	id := r.id(v)
	out, err := r.change(Own(ctx), f, v)
	if err != nil {
		return v, refused(op, r.kind, id, err)
	}
	if out, err = r.check(out); err != nil { // not the caller's fault, so not ErrInvalid
		return v, refused(op, r.kind, id, fmt.Errorf("layer: a Transformer returned an invalid value: %v", err))
	}
	return out, nil
}

// loaded returns what the caller gets for v, which the base has answered with err.
func loaded[T any](ctx context.Context, op store.Op, r *rows[T], f func(context.Context, T) (T, error), v T, err error) (T, error) {
	if err != nil || f == nil {
		return v, err
	}
	return opened(Own(ctx), op, r, f, v)
}

// loadedPage is loaded for a page. It leaves out unreadable rows, if lost is not nil.
func loadedPage[T any](ctx context.Context, op store.Op, r *rows[T], f func(context.Context, T) (T, error), threadID string,
	lost func(context.Context, string, *store.Error), p store.Page[T], err error) (store.Page[T], error) {
	if err != nil || f == nil {
		return p, err
	}
	own := Own(ctx) // once, not for each row
	n := 0
	for _, row := range p.Data {
		p.Data[n], err = opened(own, op, r, f, row)
		switch e, _ := err.(*store.Error); {
		case err == nil:
			n++
		case lost != nil && e.Code == store.CodeInternal && !callctx.Of(ctx).NoStore:
			lost(own, threadID, e)
		default:
			return store.Page[T]{}, err
		}
	}
	p.Data = p.Data[:n]
	return p, nil
}

// opened returns what f makes of v. The error is a *store.Error.
func opened[T any](ctx context.Context, op store.Op, r *rows[T], f func(context.Context, T) (T, error), v T) (T, error) {
	out, err := r.change(ctx, f, v)
	if err == nil {
		return out, nil
	}
	var zero T
	e := &store.Error{Op: op, Kind: r.kind, ID: r.id(v), Code: store.CodeOf(err), Cause: &unreadable{err}}
	switch e.Code {
	case store.CodeUnavailable, store.CodeCanceled, store.CodeTimeout:
	default:
		e.Code = store.CodeInternal
	}
	return zero, e
}

// unreadable is the error of a Transformer's load. It has no Unwrap: errors.Is must not take a sentinel in it for the answer.
type unreadable struct{ err error }

func (e *unreadable) Error() string { return "layer: a row cannot be read: " + e.err.Error() }
