package memstore

import (
	"context"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// attachments has all attachments, and the owners of deleted ones.
type attachments struct {
	mu   sync.RWMutex
	byID map[string]*attachment // a key is set once: a second assignment would keep the caller's string
}

// attachment is an id that an attachment has or had. live is nil if the attachment is deleted.
type attachment struct {
	owner chat.Owner
	live  *chat.Attachment
}

// SaveAttachment inserts or replaces the attachment.
func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	const op = store.OpSaveAttachment
	w, err := checks.SaveAttachment(ctx, a)
	if err != nil {
		return err
	}
	if code := s.attachments.save(w.Attachment, w.Mode); code != store.CodeOK {
		return failed(op, code, store.RowAttachment, a.ID)
	}
	return nil
}

func (as *attachments) save(saved chat.Attachment, mode store.SaveMode) store.Code {
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

// LoadAttachment returns the attachment. A missing one is [store.ErrNotFound].
func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	const op = store.OpLoadAttachment
	if err := checks.Attachment(ctx, op, attachmentID); err != nil {
		return chat.Attachment{}, err
	}
	s.attachments.mu.RLock()
	var live *chat.Attachment
	if a := s.attachments.byID[attachmentID]; a != nil {
		live = a.live
	}
	s.attachments.mu.RUnlock()
	if live == nil {
		return chat.Attachment{}, failed(op, store.CodeNotFound, store.RowAttachment, attachmentID)
	}
	return *live, nil // needs no lock: a save does not change it, but makes a new one
}

// DeleteAttachment deletes the attachment, if there is one.
func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	if err := checks.Attachment(ctx, store.OpDeleteAttachment, attachmentID); err != nil {
		return err
	}
	s.attachments.mu.Lock()
	defer s.attachments.mu.Unlock()
	if a := s.attachments.byID[attachmentID]; a != nil {
		a.live = nil
	}
	return nil
}
