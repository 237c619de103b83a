package sqlstore

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

// fileState is an attachment's row.
type fileState struct {
	owner chat.Owner
	state int // deleted if the id was never used
	doc   string
}

// load returns the step that loads the state of an id.
func (f *fileState) load(s *Store, id string) step {
	*f = fileState{state: deleted}
	return step{s.sql.loadFile, []any{id}, only(&f.owner.Tenant, &f.owner.Subject, &f.state, &f.doc)}
}

// SaveAttachment inserts the attachment or replaces it.
func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	text := [...]string{store.Upsert: s.sql.upsertFile, store.InsertOnly: s.sql.insertFile, store.UpdateOnly: s.sql.updateFile}[w.Mode]
	return s.saveFile(ctx, w, text)
}

// SwapAttachment replaces the attachment whose JSON is old.
func (s *Store) SwapAttachment(ctx context.Context, old chat.JSON, a chat.Attachment) error {
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	w.Mode = store.UpdateOnly
	return s.saveFile(ctx, w, s.sql.swapFile, old.String())
}

// saveFile executes the statement that saves an attachment. With old, only a row with this text may be replaced.
func (s *Store) saveFile(ctx context.Context, w driver.SaveAttachment, text string, old ...any) error {
	a := w.Attachment
	c := call{store.OpSaveAttachment, store.RowAttachment, a.ID}
	args := append([]any{a.ID, a.Owner.Tenant, a.Owner.Subject, a.JSON().String()}, old...)
	return s.write(ctx, c, func(ctx context.Context, tx tx) error {
		var wrote bool
		if err := tx.run(ctx, step{text, args, maybe(&wrote, new(int64))}); err != nil || wrote {
			return err
		}
		var was fileState
		if err := tx.run(ctx, was.load(s, a.ID)); err != nil {
			return err
		}
		if len(old) == 1 && was.state == live && was.doc != old[0] {
			return refused{c.error(store.CodeConflict, nil)}
		}
		return c.refusal(w.Mode, was.state, was.owner, a.Owner)
	})
}

// LoadAttachment returns the attachment, or [store.ErrNotFound].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	owner, doc, err := s.RawAttachment(ctx, attachmentID)
	if err != nil {
		return chat.Attachment{}, err
	}
	a, err := chat.ParseAttachment(doc)
	if err != nil {
		return chat.Attachment{}, call{store.OpLoadAttachment, store.RowAttachment, attachmentID}.error(store.CodeInternal, err)
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
	return s.write(ctx, c, func(ctx context.Context, tx tx) error {
		return tx.run(ctx, step{text: s.sql.deleteFile, args: []any{attachmentID}})
	})
}
