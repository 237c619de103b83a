package store

import (
	"context"

	"github.com/chatstore/chatstore/chat"
)

// Store keeps threads, their items, and attachments. It will never have more than these fourteen methods. Later additions
// are optional capabilities, found with [As].
//
// Every method is safe for concurrent use. A method checks its arguments first, then the context, then the stored rows. If
// the context is cancelled, it does nothing and returns the context's error, wrapped. [CodeOf] classifies errors. Package
// chat has the rules for ids, text and times. Package storetest checks whether a Store keeps the whole contract.
type Store interface {
	IDGenerator
	ThreadStore
	ItemStore
	AttachmentStore
}

// IDGenerator generates ids for new rows. Embed [DefaultIDs] or [LongIDs] in a Store to implement it. A generated id may
// already be in use. So save a new thread under [InsertOnly], and on [ErrConflict] generate another id.
type IDGenerator interface {
	// GenerateThreadID returns an id for a new thread.
	GenerateThreadID(ctx context.Context) string
	// GenerateItemID returns an id for a new item of the given kind in thread.
	GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string
}

// ThreadStore keeps threads.
//
// A used id belongs to its owner forever. A deletion keeps the id and its [chat.Owner], and another owner's save under that
// id is [ErrConflict]. If the owner was erased, so is every save.
type ThreadStore interface {
	// LoadThread returns the thread. A missing thread is [ErrNotFound].
	LoadThread(ctx context.Context, threadID string) (chat.Thread, error)

	// SaveThread inserts or replaces the thread. Its items stay. A new CreatedAt moves the thread in listings. [SaveMode]
	// restricts the call to inserts or updates.
	//
	// The insert sets the Owner, which never changes. A replace with the zero Owner keeps the stored one. A replace with
	// another Owner, or with any Owner for an unowned row, is [ErrConflict]. The write itself makes this check, atomically.
	SaveThread(ctx context.Context, thread chat.Thread) error

	// DeleteThread deletes the thread and its items. Attachments stay. Deleting a missing thread is no error.
	DeleteThread(ctx context.Context, threadID string) error

	// LoadThreads returns a page of the threads that q.Owner selects. A cursor that was never in the listing is
	// [ErrNotFound].
	LoadThreads(ctx context.Context, q ThreadQuery) (Page[chat.Thread], error)
}

// ItemStore keeps the items of threads. Item ids are unique within a thread; the same id in two threads means two rows.
type ItemStore interface {
	// LoadThreadItems returns a page of the thread's items. For a missing thread it is empty. A cursor that neither is nor
	// was an item of the thread is [ErrNotFound].
	LoadThreadItems(ctx context.Context, threadID string, q PageQuery) (Page[chat.Item], error)

	// AddThreadItem inserts the item. If the thread already has its id, the error is [ErrConflict] and the stored item
	// stays. A missing thread is [ErrNotFound]. An empty item.ThreadID is filled in; the id of another thread is
	// [ErrInvalid].
	AddThreadItem(ctx context.Context, threadID string, item chat.Item) error

	// SaveItem inserts or replaces the item. A new CreatedAt moves it in listings; among equal times, the order of insertion
	// stays. A missing thread is [ErrNotFound]. The rules for item.ThreadID are those of AddThreadItem. [SaveMode] restricts the call.
	SaveItem(ctx context.Context, threadID string, item chat.Item) error

	// LoadItem returns the item of this thread. A missing item is [ErrNotFound].
	LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error)

	// DeleteThreadItem deletes the item. Deleting a missing item is no error.
	DeleteThreadItem(ctx context.Context, threadID, itemID string) error
}

// AttachmentStore keeps attachments. They do not depend on threads: deleting a thread leaves its attachments.
type AttachmentStore interface {
	// SaveAttachment inserts or replaces the attachment. The rules for Owner and [SaveMode] are those of SaveThread.
	SaveAttachment(ctx context.Context, a chat.Attachment) error

	// LoadAttachment returns the attachment. A missing attachment is [ErrNotFound].
	LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error)

	// DeleteAttachment deletes the attachment. Deleting a missing attachment is no error.
	DeleteAttachment(ctx context.Context, attachmentID string) error
}

// HealthChecker is the capability of a Store that can check whether it is able to serve. CheckHealth returns nil if it is,
// and otherwise an error that [CodeOf] classifies. [As] also finds it behind a [Barrier].
type HealthChecker interface {
	CheckHealth(context.Context) error
}
