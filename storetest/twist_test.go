package storetest

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// twist is a Store whose methods are those of another until somebody sets them.
type twist struct {
	generateThreadID func(ctx context.Context) string
	generateItemID   func(ctx context.Context, kind chat.ItemKind, t chat.Thread) string
	loadThread       func(ctx context.Context, id string) (chat.Thread, error)
	saveThread       func(ctx context.Context, t chat.Thread) error
	deleteThread     func(ctx context.Context, id string) error
	loadThreads      func(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error)
	loadItems        func(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error)
	addItem          func(ctx context.Context, threadID string, it chat.Item) error
	saveItem         func(ctx context.Context, threadID string, it chat.Item) error
	loadItem         func(ctx context.Context, threadID, itemID string) (chat.Item, error)
	deleteItem       func(ctx context.Context, threadID, itemID string) error
	saveAttachment   func(ctx context.Context, a chat.Attachment) error
	loadAttachment   func(ctx context.Context, id string) (chat.Attachment, error)
	deleteAttachment func(ctx context.Context, id string) error
}

var _ store.Store = (*twist)(nil)

func newTwist(base store.Store) *twist {
	return &twist{
		generateThreadID: base.GenerateThreadID,
		generateItemID:   base.GenerateItemID,
		loadThread:       base.LoadThread,
		saveThread:       base.SaveThread,
		deleteThread:     base.DeleteThread,
		loadThreads:      base.LoadThreads,
		loadItems:        base.LoadThreadItems,
		addItem:          base.AddThreadItem,
		saveItem:         base.SaveItem,
		loadItem:         base.LoadItem,
		deleteItem:       base.DeleteThreadItem,
		saveAttachment:   base.SaveAttachment,
		loadAttachment:   base.LoadAttachment,
		deleteAttachment: base.DeleteAttachment,
	}
}

func (s *twist) GenerateThreadID(ctx context.Context) string {
	return s.generateThreadID(ctx)
}

func (s *twist) GenerateItemID(ctx context.Context, kind chat.ItemKind, t chat.Thread) string {
	return s.generateItemID(ctx, kind, t)
}

func (s *twist) LoadThread(ctx context.Context, id string) (chat.Thread, error) {
	return s.loadThread(ctx, id)
}

func (s *twist) SaveThread(ctx context.Context, t chat.Thread) error {
	return s.saveThread(ctx, t)
}

func (s *twist) DeleteThread(ctx context.Context, id string) error {
	return s.deleteThread(ctx, id)
}

func (s *twist) LoadThreads(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Thread], error) {
	return s.loadThreads(ctx, q)
}

func (s *twist) LoadThreadItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[chat.Item], error) {
	return s.loadItems(ctx, threadID, q)
}

func (s *twist) AddThreadItem(ctx context.Context, threadID string, it chat.Item) error {
	return s.addItem(ctx, threadID, it)
}

func (s *twist) SaveItem(ctx context.Context, threadID string, it chat.Item) error {
	return s.saveItem(ctx, threadID, it)
}

func (s *twist) LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error) {
	return s.loadItem(ctx, threadID, itemID)
}

func (s *twist) DeleteThreadItem(ctx context.Context, threadID, itemID string) error {
	return s.deleteItem(ctx, threadID, itemID)
}

func (s *twist) SaveAttachment(ctx context.Context, a chat.Attachment) error {
	return s.saveAttachment(ctx, a)
}

func (s *twist) LoadAttachment(ctx context.Context, id string) (chat.Attachment, error) {
	return s.loadAttachment(ctx, id)
}

func (s *twist) DeleteAttachment(ctx context.Context, id string) error {
	return s.deleteAttachment(ctx, id)
}
