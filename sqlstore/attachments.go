package sqlstore

import (
	"context"

	"github.com/chatstore/chatstore/store"
)

// SaveAttachment inserts the attachment or replaces it.
func (s *Store) SaveAttachment(ctx context.Context, a store.Attachment) error {
	c := call{store.OpSaveAttachment, store.KindOfAttachment, a.ID}
	a, err := store.NormalizeAttachment(c.op, a)
	if err != nil {
		return err
	}
	if err := store.CheckSaveMode(ctx, c.op, c.kind, c.id); err != nil {
		return err
	}
	if err := store.CheckContext(ctx, c.op, c.kind, c.id); err != nil {
		return err
	}
	mode := store.SaveModeFrom(ctx)
	text := map[store.SaveMode]string{
		store.Upsert: s.sql.upsertFile, store.InsertOnly: s.sql.insertFile, store.UpdateOnly: s.sql.updateFile,
	}[mode]
	return s.write(ctx, c, func(ctx context.Context, tx asker) error {
		n, err := affected(tx.ExecContext(ctx, text, a.ID, a.Owner.Tenant, a.Owner.Subject, a.JSON().String()))
		if n > 0 || err != nil {
			return err
		}
		// Nothing was written: it remains to say why.
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
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (store.Attachment, error) {
	c := call{store.OpLoadAttachment, store.KindOfAttachment, attachmentID}
	if err := check(ctx, c); err != nil {
		return store.Attachment{}, err
	}
	var (
		owner store.Owner
		doc   string
		found bool
	)
	err := s.read(ctx, c, func(ctx context.Context, db asker) (err error) {
		found, err = maybe(db.QueryRowContext(ctx, s.sql.loadFile, attachmentID), &owner.Tenant, &owner.Subject, &doc)
		return err
	})
	if err != nil {
		return store.Attachment{}, err
	}
	if !found {
		return store.Attachment{}, c.error(store.CodeNotFound, nil)
	}
	a, err := store.ParseAttachment(doc)
	if err != nil {
		return store.Attachment{}, c.error(store.CodeInternal, err)
	}
	a.Owner = owner
	return a, nil
}

// DeleteAttachment deletes the attachment.
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	c := call{store.OpDeleteAttachment, store.KindOfAttachment, attachmentID}
	if err := check(ctx, c); err != nil {
		return err
	}
	return s.write(ctx, c, func(ctx context.Context, tx asker) error {
		_, err := tx.ExecContext(ctx, s.sql.deleteFile, attachmentID)
		return err
	})
}
