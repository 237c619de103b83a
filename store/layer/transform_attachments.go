package layer

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// transformedLister is a transformed layer around a base that lists attachments.
type transformedLister struct {
	*transformed
	lister driver.AttachmentLister
}

// ListAttachments implements [driver.AttachmentLister].
func (s *transformedLister) ListAttachments(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
	p, err := s.lister.ListAttachments(ctx, q)
	return loadedPage(ctx, 0, &attachments, s.t.LoadAttachment, "", s.t.Unreadable, p, err)
}

// transformedSwapper is a transformed layer around a base that swaps attachments.
type transformedSwapper struct {
	*transformedLister
	swapper driver.AttachmentSwapper
}

// SwapAttachment implements [driver.AttachmentSwapper]. It swaps the stored row that loads as old.
func (s *transformedSwapper) SwapAttachment(ctx context.Context, old chat.JSON, a chat.Attachment) error {
	const op = store.OpSaveAttachment
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	row, err := s.next.LoadAttachment(store.WithFresh(Own(ctx)), a.ID)
	is, err := loaded(ctx, op, &attachments, s.t.LoadAttachment, row, err)
	if err != nil {
		return refused(op, attachments.kind, a.ID, err)
	}
	if is.JSON() != old {
		return &store.Error{Op: op, Kind: store.RowAttachment, ID: a.ID, Code: store.CodeConflict}
	}
	if a, err = saved(ctx, op, &attachments, s.t.SaveAttachment, w.Attachment); err != nil {
		return err
	}
	return s.swapper.SwapAttachment(ctx, row.JSON(), a)
}
