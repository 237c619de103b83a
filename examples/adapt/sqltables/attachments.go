package sqltables

import (
	"context"
	"database/sql"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// loadAttachment returns what is stored. A doc that is not valid is that of a deleted attachment.
func loadAttachment(ctx context.Context, tx *sql.Tx, id string) (owner chat.Owner, doc sql.NullString, used bool, err error) {
	used, err = one(tx.QueryRowContext(ctx, `SELECT tenant, subject, doc FROM chat_attachments WHERE id = ?`, id),
		&owner.Tenant, &owner.Subject, &doc)
	return owner, doc, used, err
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
		owner, doc, used, err := loadAttachment(ctx, tx, a.ID)
		if err != nil {
			return err
		}
		if code := refusal(w.Mode, used, doc.Valid, owner, a.Owner); code != store.CodeOK {
			return c.error(code, nil)
		}
		_, err = exec(ctx, tx, `INSERT INTO chat_attachments (id, tenant, subject, doc) VALUES (?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET doc = excluded.doc`, a.ID, a.Owner.Tenant, a.Owner.Subject, a.JSON().String())
		return err
	})
}

// LoadAttachment is the method of [store.AttachmentStore].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (a chat.Attachment, err error) {
	c := call{store.OpLoadAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return a, err
	}
	err = s.transact(ctx, c, func(tx *sql.Tx) error {
		owner, doc, _, err := loadAttachment(ctx, tx, attachmentID)
		if err != nil {
			return err
		}
		if !doc.Valid {
			return c.error(store.CodeNotFound, nil)
		}
		if a, err = chat.ParseAttachment(doc.String); err != nil {
			return c.error(store.CodeInternal, err)
		}
		a.Owner = owner
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
		_, err := exec(ctx, tx, `UPDATE chat_attachments SET doc = NULL WHERE id = ?`, attachmentID)
		return err
	})
}
