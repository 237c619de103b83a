package memstore

import (
	"context"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// attachments has all attachments, and the claims of deleted ones.
type attachments struct {
	listings[chat.Attachment]
	byID map[string]*attachment
}

// attachment is an id that an attachment has or had. row is nil if the attachment is deleted.
type attachment struct {
	claim
	key idKey
	row *row[idKey, chat.Attachment]
}

// SaveAttachment inserts or replaces the attachment.
func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	const op = store.OpSaveAttachment
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	if code := s.attachments.save(w.Attachment, w.Mode, nil); code != store.CodeOK {
		return failed(op, code, store.RowAttachment, a.ID)
	}
	return nil
}

// SwapAttachment replaces the attachment whose JSON is old. See [driver.AttachmentSwapper].
func (s *Store) SwapAttachment(ctx context.Context, old chat.JSON, a chat.Attachment) error {
	const op = store.OpSaveAttachment
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	if code := s.attachments.save(w.Attachment, store.UpdateOnly, &old); code != store.CodeOK {
		return failed(op, code, store.RowAttachment, a.ID)
	}
	return nil
}

// save saves an attachment. With old, it replaces only an attachment whose JSON is old.
func (as *attachments) save(saved chat.Attachment, mode store.SaveMode, old *chat.JSON) store.Code {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.byID == nil {
		as.byID = map[string]*attachment{}
	}
	a, used := as.byID[saved.ID]
	if !used {
		a = &attachment{claim: claimOf(saved.Owner), key: idKey{id: strings.Clone(saved.ID)}}
	}
	if code := a.refusal(mode, a.row != nil, saved.Owner); code != store.CodeOK {
		return code
	}
	if old != nil && a.row.val.JSON() != *old {
		return store.CodeConflict
	}
	if !used {
		as.byID[a.key.id] = a // once: a second assignment would keep the caller's string
	}
	saved.Owner = a.owner
	if a.row != nil {
		a.row.val = saved
		return store.CodeOK
	}
	a.row = &row[idKey, chat.Attachment]{a.key, saved}
	as.insert(a.owner, a.row)
	return store.CodeOK
}

// LoadAttachment returns the attachment. A missing one is [store.ErrNotFound].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	const op = store.OpLoadAttachment
	if err := checks.Attachment(ctx, op, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	s.attachments.mu.RLock()
	defer s.attachments.mu.RUnlock()
	a := s.attachments.byID[attachmentID]
	if a == nil || a.row == nil {
		return chat.Attachment{}, failed(op, store.CodeNotFound, store.RowAttachment, attachmentID)
	}
	return a.row.val, nil
}

// DeleteAttachment deletes the attachment, if there is one.
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := checks.Attachment(ctx, store.OpDeleteAttachment, attachmentID); err != nil {
		return err
	}
	s.attachments.mu.Lock()
	defer s.attachments.mu.Unlock()
	s.attachments.delete(s.attachments.byID[attachmentID])
	return nil
}

// delete deletes a, if it exists. The caller holds as.mu.
func (as *attachments) delete(a *attachment) {
	if a != nil && a.row != nil {
		as.remove(a.owner, a.row)
		a.row = nil
	}
}

// ListAttachments returns a page of the attachments that q.Owner matches, by id. See [driver.AttachmentLister].
func (s *Store) ListAttachments(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error) {
	q, err := checks.Attachments(ctx, q)
	if err != nil {
		return store.Page[chat.Attachment]{}, err
	}
	s.attachments.mu.RLock()
	defer s.attachments.mu.RUnlock()
	var after *idKey
	if q.After != "" {
		a := s.attachments.byID[q.After]
		if a == nil || !a.matches(q.Owner) {
			return store.Page[chat.Attachment]{}, failed(0, store.CodeNotFound, store.RowAttachment, q.After)
		}
		after = &a.key
	}
	return s.attachments.of(q.Owner).page(after, q.PageQuery, func(a *chat.Attachment) string { return a.ID }), nil
}
