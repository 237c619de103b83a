package memstore

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/store/driver"
)

var _ driver.RawReader = (*Store)(nil)

// RawThread returns the owner and the JSON of the thread. See [driver.RawReader].
func (s *Store) RawThread(ctx context.Context, threadID string) (chat.Owner, string, error) {
	t, err := s.LoadThread(ctx, threadID)
	return t.Owner, t.JSON().String(), err
}

// RawItems returns a page of the thread's items as JSON. See [driver.RawReader].
func (s *Store) RawItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[driver.RawItem], error) {
	p, err := s.LoadThreadItems(ctx, threadID, q)
	raw := store.Page[driver.RawItem]{HasMore: p.HasMore, After: p.After}
	for _, it := range p.Data {
		raw.Data = append(raw.Data, driver.RawItem{ID: it.ID, Document: it.JSON().String()})
	}
	return raw, err
}

// RawAttachment returns the owner and the JSON of the attachment. See [driver.RawReader].
func (s *Store) RawAttachment(ctx context.Context, attachmentID string) (chat.Owner, string, error) {
	a, err := s.LoadAttachment(ctx, attachmentID)
	return a.Owner, a.JSON().String(), err
}
