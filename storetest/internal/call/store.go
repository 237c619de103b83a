package call

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Store implements store.Store with one function: each call is a call of Do. Mode of a save's Call is that of the context.
type Store struct {
	IDs store.Store // generates the ids
	Do  func(ctx context.Context, c Call) Answer
}

var _ store.Store = (*Store)(nil)

// GenerateThreadID calls IDs.
func (s *Store) GenerateThreadID(ctx context.Context) string { return s.IDs.GenerateThreadID(ctx) }

// GenerateItemID calls IDs.
func (s *Store) GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string {
	return s.IDs.GenerateItemID(ctx, kind, thread)
}

// LoadThread calls Do, like the eleven methods that follow.
func (s *Store) LoadThread(ctx context.Context, threadID string) (chat.Thread, error) {
	a := s.Do(ctx, Call{Op: store.OpLoadThread, Thread: chat.Thread{ID: threadID}})
	return a.Thread, a.Err
}

func (s *Store) SaveThread(ctx context.Context, thread chat.Thread) error {
	return s.Do(ctx, Call{Op: store.OpSaveThread, Thread: thread, Mode: store.SaveModeFrom(ctx)}).Err
}

func (s *Store) DeleteThread(ctx context.Context, threadID string) error {
	return s.Do(ctx, Call{Op: store.OpDeleteThread, Thread: chat.Thread{ID: threadID}}).Err
}

func (s *Store) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	a := s.Do(ctx, Call{Op: store.OpLoadThreads, Query: q})
	return a.Threads, a.Err
}

func (s *Store) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	a := s.Do(ctx, Call{Op: store.OpLoadThreadItems, Thread: chat.Thread{ID: threadID}, Query: store.ThreadQuery{PageQuery: q}})
	return a.Items, a.Err
}

func (s *Store) AddThreadItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.Do(ctx, Call{Op: store.OpAddThreadItem, Thread: chat.Thread{ID: threadID}, Item: item}).Err
}

func (s *Store) SaveItem(ctx context.Context, threadID string, item chat.Item) error {
	return s.Do(ctx, Call{Op: store.OpSaveItem, Thread: chat.Thread{ID: threadID}, Item: item, Mode: store.SaveModeFrom(ctx)}).Err
}

func (s *Store) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	a := s.Do(ctx, Call{Op: store.OpLoadItem, Thread: chat.Thread{ID: threadID}, Item: chat.Item{ID: itemID}})
	return a.Item, a.Err
}

func (s *Store) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	return s.Do(ctx, Call{Op: store.OpDeleteThreadItem, Thread: chat.Thread{ID: threadID}, Item: chat.Item{ID: itemID}}).Err
}

func (s *Store) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	return s.Do(ctx, Call{Op: store.OpSaveAttachment, Attachment: a, Mode: store.SaveModeFrom(ctx)}).Err
}

func (s *Store) LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error) {
	a := s.Do(ctx, Call{Op: store.OpLoadAttachment, Attachment: chat.Attachment{ID: attachmentID}})
	return a.Attachment, a.Err
}

func (s *Store) DeleteAttachment(ctx context.Context, attachmentID string) error {
	return s.Do(ctx, Call{Op: store.OpDeleteAttachment, Attachment: chat.Attachment{ID: attachmentID}}).Err
}
