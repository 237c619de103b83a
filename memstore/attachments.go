package memstore

import (
	"context"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/store"
)

// attachments are the attachments, and the owners of those that were deleted.
type attachments struct {
	mu   sync.RWMutex
	byID map[string]*attachment // a key is set once: setting it again would keep the caller's string
}

// attachment is what is kept of an id that was ever an attachment's; live is nil when it is deleted.
type attachment struct {
	owner store.Owner
	live  *store.Attachment
}

// SaveAttachment inserts the attachment or replaces it.
func (s *Store) SaveAttachment(ctx context.Context, a store.Attachment) error {
	const op = store.OpSaveAttachment
	a, err := store.NormalizeAttachment(op, a)
	if err != nil {
		return err
	}
	if err := store.CheckSaveMode(ctx, op, store.KindOfAttachment, a.ID); err != nil {
		return err
	}
	if err := store.CheckContext(ctx, op, store.KindOfAttachment, a.ID); err != nil {
		return err
	}
	if code := s.attachments.save(a, store.SaveModeFrom(ctx)); code != store.CodeOK {
		return failed(op, code, store.KindOfAttachment, a.ID)
	}
	return nil
}

func (as *attachments) save(saved store.Attachment, mode store.SaveMode) store.Code {
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.byID == nil {
		as.byID = map[string]*attachment{}
	}
	a, used := as.byID[saved.ID]
	if !used {
		a = &attachment{owner: cloneOwner(saved.Owner)}
	}
	if code := refusal(mode, a.live != nil, a.owner, saved.Owner); code != store.CodeOK {
		return code
	}
	if !used {
		as.byID[strings.Clone(saved.ID)] = a
	}
	saved.Owner = a.owner
	a.live = &saved
	return store.CodeOK
}

// LoadAttachment returns the attachment, or [store.ErrNotFound].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (store.Attachment, error) {
	const op = store.OpLoadAttachment
	if err := check(ctx, op, store.KindOfAttachment, attachmentID); err != nil {
		return store.Attachment{}, err
	}
	s.attachments.mu.RLock()
	var live *store.Attachment
	if a := s.attachments.byID[attachmentID]; a != nil {
		live = a.live
	}
	s.attachments.mu.RUnlock()
	if live == nil {
		return store.Attachment{}, failed(op, store.CodeNotFound, store.KindOfAttachment, attachmentID)
	}
	return *live, nil // a save makes a new one
}

// DeleteAttachment deletes the attachment.
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := check(ctx, store.OpDeleteAttachment, store.KindOfAttachment, attachmentID); err != nil {
		return err
	}
	s.attachments.mu.Lock()
	defer s.attachments.mu.Unlock()
	if a := s.attachments.byID[attachmentID]; a != nil {
		a.live = nil
	}
	return nil
}
