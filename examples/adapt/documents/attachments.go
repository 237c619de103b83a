package documents

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// SaveAttachment is the method of [store.AttachmentStore].
func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	c := call{store.OpSaveAttachment, store.RowAttachment, a.ID}
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	a = w.Attachment
	return change(ctx, s, c, attachmentKey(a.ID), func(r *row) (err error) {
		*r, err = save(c, w.Mode, *r, row{ID: a.ID, Owner: a.Owner, JSON: a.JSON().String()})
		return err
	})
}

// LoadAttachment is the method of [store.AttachmentStore].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	c := call{store.OpLoadAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	var r row
	if _, err := s.get(ctx, c, attachmentKey(attachmentID), &r); err != nil {
		return chat.Attachment{}, c.failed(ctx, err)
	}
	if !r.live() {
		return chat.Attachment{}, c.error(store.CodeNotFound, nil)
	}
	a, err := chat.ParseAttachment(r.JSON)
	if err != nil {
		return chat.Attachment{}, c.error(store.CodeInternal, err)
	}
	a.Owner = r.Owner
	return a, nil
}

// DeleteAttachment is the method of [store.AttachmentStore].
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	c := call{store.OpDeleteAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return err
	}
	return change(ctx, s, c, attachmentKey(attachmentID), func(r *row) error {
		if !r.live() {
			return errUnchanged
		}
		r.JSON = ""
		return nil
	})
}
