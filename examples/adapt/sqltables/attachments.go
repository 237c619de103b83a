package sqltables

import (
	"context"
	"database/sql"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

func loadAttachment(ctx context.Context, tx *sql.Tx, id string) (r row, err error) {
	err = maybe(tx.QueryRowContext(ctx, `SELECT id, doc, tenant, subject FROM chat_attachments WHERE id = ?`, id),
		&r.id, &r.doc, &r.owner.Tenant, &r.owner.Subject)
	return r, err
}

// SaveAttachment is the method of [store.AttachmentStore].
func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	c := call{store.OpSaveAttachment, store.RowAttachment, a.ID}
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	a = w.Attachment
	return s.transact(ctx, c, func(tx *sql.Tx) error {
		old, err := loadAttachment(ctx, tx, a.ID)
		if err == nil {
			err = refusal(c, w.Mode, old, a.Owner)
		}
		if err != nil {
			return err
		}
		return exec(ctx, tx, `INSERT INTO chat_attachments (id, tenant, subject, doc) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET doc = excluded.doc`, a.ID, a.Owner.Tenant, a.Owner.Subject, a.JSON().String())
	})
}

// LoadAttachment is the method of [store.AttachmentStore].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (a chat.Attachment, err error) {
	c := call{store.OpLoadAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return a, err
	}
	err = s.transact(ctx, c, func(tx *sql.Tx) error {
		r, err := loadAttachment(ctx, tx, attachmentID)
		if err != nil {
			return err
		}
		if !r.live() {
			return c.error(store.CodeNotFound, nil)
		}
		if a, err = chat.ParseAttachment(r.doc); err != nil {
			return c.error(store.CodeInternal, err)
		}
		a.Owner = r.owner
		return nil
	})
	return a, err
}

// DeleteAttachment is the method of [store.AttachmentStore].
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	c := call{store.OpDeleteAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return err
	}
	return s.transact(ctx, c, func(tx *sql.Tx) error {
		return exec(ctx, tx, `UPDATE chat_attachments SET doc = '' WHERE id = ?`, attachmentID)
	})
}
