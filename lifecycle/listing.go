package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// listing is all threads, the items of a thread, or all attachments.
type listing struct {
	kind     string
	threadID string // of items
}

var (
	allThreads     = listing{kind: store.RowThread}
	allAttachments = listing{kind: store.RowAttachment}
)

// image is a row of a listing. The zero image is no row.
type image struct {
	at    int64
	id    string
	doc   chat.JSON
	owner chat.Owner
}

func imageOf(row any) image {
	switch r := row.(type) {
	case chat.Thread:
		return image{r.CreatedAt.UnixMicro(), r.ID, r.JSON(), r.Owner}
	case chat.Item:
		return image{r.CreatedAt.UnixMicro(), r.ID, r.JSON(), chat.Owner{}}
	case chat.Attachment:
		return image{0, r.ID, r.JSON(), r.Owner}
	}
	return image{}
}

func images[T any](p store.Page[T], err error) (store.Page[image], error) {
	q := store.Page[image]{HasMore: p.HasMore, After: p.After}
	for _, row := range p.Data {
		q.Data = append(q.Data, imageOf(row))
	}
	return q, err
}

// page loads a page. The owner does not count for items.
func (l listing) page(ctx context.Context, s store.Store, q store.ThreadQuery) (store.Page[image], error) {
	switch l.kind {
	case store.RowThread:
		return images(s.LoadThreads(ctx, q))
	case store.RowItem:
		return images(s.LoadThreadItems(ctx, l.threadID, q.PageQuery))
	}
	lister, ok := store.As[driver.AttachmentLister](s)
	if !ok {
		return store.Page[image]{}, fmt.Errorf("lifecycle: the store cannot list attachments: %w", errors.ErrUnsupported)
	}
	return images(lister.ListAttachments(ctx, q))
}

// pages loads pages that miss no row.
func (l listing) pages(s store.Store, f store.OwnerFilter) func(context.Context, store.PageQuery) (store.Page[image], error) {
	return steady(func(ctx context.Context, q store.PageQuery) (store.Page[image], error) {
		return l.page(ctx, s, store.ThreadQuery{PageQuery: q, Owner: f})
	}, func(row image) string { return row.id }, func(ctx context.Context, row image) (bool, error) {
		now, err := l.load(ctx, s, row.id)
		if err == nil && now.id == "" {
			err = store.ErrNotFound
		}
		return now.at != row.at, err
	})
}

// all returns all rows. The owner does not count for items.
func (l listing) all(ctx context.Context, s store.Store, f store.OwnerFilter) iter.Seq2[image, error] {
	return rows(ctx, store.OldestFirst, l.pages(s, f))
}

// load returns a row, which no cache answers, or the zero image if there is none.
func (l listing) load(ctx context.Context, s store.Store, id string) (image, error) {
	var row any
	var err error
	switch l.kind {
	case store.RowThread:
		row, err = s.LoadThread(ctx, id)
	case store.RowItem:
		row, err = s.LoadItem(ctx, l.threadID, id)
	default:
		row, err = s.LoadAttachment(ctx, id)
	}
	if err == nil {
		return imageOf(row), nil
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return image{}, err
}

// remove deletes a row.
func (l listing) remove(ctx context.Context, s store.Store, id string) error {
	switch l.kind {
	case store.RowThread:
		return s.DeleteThread(ctx, id)
	case store.RowItem:
		return s.DeleteThreadItem(ctx, l.threadID, id)
	}
	return s.DeleteAttachment(ctx, id)
}
