package sqlstore

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// SaveAttachment inserts the attachment or replaces it.
func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	c := call{store.OpSaveAttachment, store.RowAttachment, a.ID}
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	a, mode := w.Attachment, w.Mode
	text := map[store.SaveMode]string{
		store.Upsert: s.sql.upsertFile, store.InsertOnly: s.sql.insertFile, store.UpdateOnly: s.sql.updateFile,
	}[mode]
	return s.write(ctx, c, func(ctx context.Context, tx asker) error {
		n, err := affected(tx.ExecContext(ctx, text, a.ID, a.Owner.Tenant, a.Owner.Subject, a.JSON().String()))
		if n > 0 || err != nil {
			return err
		}
		// Nothing was written: find out why.
		deleted := true
		if _, err := maybe(tx.QueryRowContext(ctx, s.sql.fileOf, a.ID), &deleted); err != nil {
			return err
		}
		if mode == store.UpdateOnly && deleted {
			return refused{c.error(store.CodeNotFound, nil)}
		}
		return refused{c.error(store.CodeConflict, nil)}
	})
}

// LoadAttachment returns the attachment, or [store.ErrNotFound].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	c := call{store.OpLoadAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	var (
		owner chat.Owner
		doc   string
		found bool
	)
	err := s.read(ctx, c, func(ctx context.Context, db asker) (err error) {
		found, err = maybe(db.QueryRowContext(ctx, s.sql.loadFile, attachmentID), &owner.Tenant, &owner.Subject, &doc)
		return err
	})
	if err != nil {
		return chat.Attachment{}, err
	}
	if !found {
		return chat.Attachment{}, c.error(store.CodeNotFound, nil)
	}
	a, err := chat.ParseAttachment(doc)
	if err != nil {
		return chat.Attachment{}, c.error(store.CodeInternal, err)
	}
	a.Owner = owner
	return a, nil
}

// DeleteAttachment deletes the attachment.
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	c := call{store.OpDeleteAttachment, store.RowAttachment, attachmentID}
	if err := checks.Attachment(ctx, c.op, attachmentID); err != nil {
		return err
	}
	return s.write(ctx, c, func(ctx context.Context, tx asker) error {
		_, err := tx.ExecContext(ctx, s.sql.deleteFile, attachmentID)
		return err
	})
}
