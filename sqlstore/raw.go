package sqlstore

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var _ driver.RawReader = (*Store)(nil)

// RawThread returns the owner and the stored text of the thread.
func (s *Store) RawThread(ctx context.Context, threadID string) (chat.Owner, string, error) {
	c := call{store.OpLoadThread, store.RowThread, threadID}
	if err := checks.Thread(ctx, c.op, threadID); err != nil {
		return chat.Owner{}, "", err
	}
	var row threadState
	if err := s.read(ctx, c, func() step { return row.load(s, threadID) }); err != nil {
		return chat.Owner{}, "", err
	}
	driver.ReportVersion(ctx, threadID, row.version, row.version)
	if row.state != live {
		return chat.Owner{}, "", c.error(store.CodeNotFound, nil)
	}
	return row.owner, row.doc, nil
}

// RawItems lists the stored texts of the thread's items.
func (s *Store) RawItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[driver.RawItem], error) {
	return listItems(ctx, s, threadID, q, func(r *row) (driver.RawItem, error) { return driver.RawItem{ID: r.id, Document: r.doc}, nil })
}

// RawAttachment returns the owner and the stored text of the attachment.
func (s *Store) RawAttachment(ctx context.Context, attachmentID string) (chat.Owner, string, error) {
	c := call{store.OpLoadAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return chat.Owner{}, "", err
	}
	var row fileState
	if err := s.read(ctx, c, func() step { return row.load(s, attachmentID) }); err != nil {
		return chat.Owner{}, "", err
	}
	if row.state != live {
		return chat.Owner{}, "", c.error(store.CodeNotFound, nil)
	}
	return row.owner, row.doc, nil
}
