package store

import (
	"context"

	"github.com/chatstore/chatstore/chat"
)

// Store keeps threads, their items, and attachments. Its fourteen methods are all it will ever have: whatever comes later
// is an optional capability, found with [As].
//
// Every method is safe for concurrent use. Every method that takes a context answers a cancelled one with the context's
// error, wrapped, and does nothing. Errors are classified by [CodeOf]; what each call promises stands at the method, and
// the rules of ids, text and times in package chat. A method checks its arguments first, then whether the context is done,
// then what is stored. Package storetest checks a Store against all of it.
type Store interface {
	IDGenerator
	ThreadStore
	ItemStore
	AttachmentStore
}

// IDGenerator draws ids for new rows. [DefaultIDs] and [LongIDs] implement it, to be embedded in a Store. An id is only
// probably new: save a new thread under [InsertOnly] and draw again on [ErrConflict].
type IDGenerator interface {
	// GenerateThreadID returns an id for a new thread.
	GenerateThreadID(ctx context.Context) string
	// GenerateItemID returns an id for a new item of the given kind in thread.
	GenerateItemID(ctx context.Context, kind chat.ItemKind, thread chat.Thread) string
}

// ThreadStore keeps threads.
//
// An id once used is its owner's for good: a deletion leaves the id and its owner ([chat.Owner]) behind, and a save of another owner
// under that id is [ErrConflict].
type ThreadStore interface {
	// LoadThread returns the thread, or [ErrNotFound].
	LoadThread(ctx context.Context, threadID string) (chat.Thread, error)

	// SaveThread inserts the thread or replaces it; its items stay. A new CreatedAt moves it in listings, its place among
	// equals is kept. The Owner is set by the insert and never changes: a replace with the zero Owner keeps the stored
	// one; with another Owner, or with one where the stored row has none, it is [ErrConflict], decided atomically with the
	// write. See [SaveMode] for inserts and updates only.
	SaveThread(ctx context.Context, thread chat.Thread) error

	// DeleteThread deletes the thread and its items; attachments stay. Deleting what is not there is no error.
	DeleteThread(ctx context.Context, threadID string) error

	// LoadThreads lists the threads that q.Owner matches, a page at a time. A cursor that is not a row of the listing is
	// [ErrNotFound].
	LoadThreads(ctx context.Context, q ThreadQuery) (Page[chat.Thread], error)
}

// ItemStore keeps the items of threads. Item ids are unique within a thread: the same id in two threads is two rows.
type ItemStore interface {
	// LoadThreadItems lists the thread's items, a page at a time. A missing thread has an empty page. A cursor that is not
	// an item of the thread is [ErrNotFound].
	LoadThreadItems(ctx context.Context, threadID string, q PageQuery) (Page[chat.Item], error)

	// AddThreadItem inserts the item. An id that the thread already has is [ErrConflict] and the stored item stays as it
	// is; a missing thread is [ErrNotFound]. An empty item.ThreadID is filled in; another thread's is [ErrInvalid].
	AddThreadItem(ctx context.Context, threadID string, item chat.Item) error

	// SaveItem inserts the item or replaces it. A new CreatedAt moves it, its place among equals is kept. A missing thread
	// is [ErrNotFound]. ThreadID is treated as by AddThreadItem, and [SaveMode] as by SaveThread.
	SaveItem(ctx context.Context, threadID string, item chat.Item) error

	// LoadItem returns the item of that thread, or [ErrNotFound].
	LoadItem(ctx context.Context, threadID, itemID string) (chat.Item, error)

	// DeleteThreadItem deletes the item. Deleting what is not there is no error.
	DeleteThreadItem(ctx context.Context, threadID, itemID string) error
}

// AttachmentStore keeps attachments. They belong to no thread's row: deleting a thread leaves them.
type AttachmentStore interface {
	// SaveAttachment inserts the attachment or replaces it. Owner and [SaveMode] are treated as by SaveThread.
	SaveAttachment(ctx context.Context, a chat.Attachment) error

	// LoadAttachment returns the attachment, or [ErrNotFound].
	LoadAttachment(ctx context.Context, attachmentID string) (chat.Attachment, error)

	// DeleteAttachment deletes the attachment. Deleting what is not there is no error.
	DeleteAttachment(ctx context.Context, attachmentID string) error
}

// HealthChecker is the capability of a Store that can say whether it can serve: nil, or an error that [CodeOf] classifies.
// A layer of a stack is found with [As], also beneath a [Barrier].
type HealthChecker interface {
	CheckHealth(context.Context) error
}
