package driver

import (
	"context"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/confine"
	"github.com/chatstore/chatstore/store"
)

// The interfaces of this file are capabilities of a base. A base implements those that it can, and programs for operators
// find them with [store.As], such as those that export, erase or prune. They are not found behind a [store.Barrier], because
// they ask no guard. They bypass caches.

// AttachmentLister is the capability to list attachments.
type AttachmentLister interface {
	// ListAttachments returns a page of the attachments whose owner q.Owner selects. They are in the order of their ids, which
	// compare as bytes: [store.OldestFirst] has the lowest id first. After is the id of an attachment that is, or was, in this
	// listing; another id is [store.ErrNotFound].
	ListAttachments(ctx context.Context, q store.ThreadQuery) (store.Page[chat.Attachment], error)
}

// AttachmentSwapper is the capability to change attachments that nobody else has changed. Attachments have no versions.
type AttachmentSwapper interface {
	AttachmentLister

	// SwapAttachment saves a as SaveAttachment does under [store.UpdateOnly], if the stored attachment's JSON is old, byte for
	// byte. Otherwise it is [store.ErrConflict]. The base compares and saves in one transaction. The context's save mode does
	// not count.
	SwapAttachment(ctx context.Context, old chat.JSON, a chat.Attachment) error
}

// Eraser is the capability to erase one owner. Beside live and deleted, erased is the third state of an id. It has no owner, and
// stays unusable. A save of it is [store.ErrConflict], or [store.ErrNotFound] under [store.UpdateOnly]. Only a listing with
// [store.AnyOwner] accepts it as a cursor. A thread keeps its version; if it was live, erasing increments it as a deletion does.
type Eraser interface {
	// EraseOwner removes all rows of the owner: its live threads with their items, its live attachments, and its name from
	// the ids of deleted ones. It returns the ids of the rows that were still live. The zero Owner is [store.ErrInvalid].
	// EraseOwner erases everything or nothing.
	//
	// Caches may still hold the erased rows. Erase an owner in these steps:
	//
	//  1. Delete the owner's rows through the stack.
	//  2. Call EraseOwner.
	//  3. Delete the ids that it returned through the layers inside of the guard: the cache and what is beneath it. The
	//     guard itself finds no such row, and does not call the cache.
	//  4. After the [WriteBounder]'s LongestWrite, repeat steps 2 and 3: an abandoned write may have saved another row.
	//  5. Call the base's [Scrubber], if it is one.
	EraseOwner(ctx context.Context, owner chat.Owner) (Erased, error)
}

// Scrubber is the capability to remove what deleted rows have left in the database's files.
type Scrubber interface {
	// Scrub removes it. It may take long, and writers may wait for it. After an error, call it again.
	Scrub(ctx context.Context) error
}

// Erased says what [Eraser] erased.
type Erased struct {
	Threads, Attachments []string // the ids of the rows that were live
	Deleted              int      // the number of ids of deleted rows
}

// MaxVersions is the largest number of ids in one call of [VersionReader].
const MaxVersions = 1000

// VersionReader is the capability to read the versions of many threads in one call.
type VersionReader interface {
	// ThreadVersions returns the versions of the threads in the order of ids. A deleted thread has a version, and an id that
	// was never used has version 0. More than [MaxVersions] ids are [store.ErrInvalid].
	//
	// The epoch changes when versions may have gone back, as after the restore of a backup or the failover to a replica that
	// lags. Versions of different epochs must not be compared. All servers of one database must report one epoch: a reader that
	// is answered by one and then by another would otherwise drop all that it holds.
	ThreadVersions(ctx context.Context, ids []string) (epoch string, versions []uint64, err error)
}

// Inactive is the capability to find threads without recent items.
type Inactive interface {
	// InactiveThreads returns a page of the threads whose owner q.Owner selects, in the order of LoadThreads. Only threads are
	// in it that were created before the given time and have no item created at that time or later. The time is cut to
	// microseconds, as those of rows. After is a cursor of LoadThreads with the same Owner, so a walk may go on behind a thread
	// that is not inactive any more, or deleted.
	//
	// The version of each thread belongs to the same snapshot. A thread that is deleted under [store.IfVersion] with it has
	// seen no write since.
	InactiveThreads(ctx context.Context, before time.Time, q store.ThreadQuery) (store.Page[ThreadVersion], error)
}

// ThreadVersion is a thread's id with its version.
type ThreadVersion struct {
	ID      string
	Version uint64
}

// Tombstones is the capability to list the ids of deleted and erased rows.
type Tombstones interface {
	// ListTombstones returns a page of the ids whose rows of this kind are deleted or erased. The kind is [store.RowThread] or
	// [store.RowAttachment]; another one is [store.ErrInvalid]. The ids are in order, and compare as bytes. After is any id: the
	// page begins behind it.
	ListTombstones(ctx context.Context, kind string, q store.PageQuery) (store.Page[Tombstone], error)
}

// Tombstone is what a deleted or erased row leaves behind.
type Tombstone struct {
	ID        string
	Owner     chat.Owner // zero if erased
	CreatedAt time.Time  // of a thread, the last one: its place as a cursor
	Erased    bool
}

func init() {
	confine.Gate(func(e Eraser, g confine.WriteGate) Eraser { return gatedEraser{e, g} })
	confine.Gate(func(s AttachmentSwapper, g confine.WriteGate) AttachmentSwapper { return gatedSwapper{s, g} })
}

type gatedEraser struct {
	next Eraser
	gate confine.WriteGate
}

func (e gatedEraser) EraseOwner(ctx context.Context, owner chat.Owner) (Erased, error) {
	if err := e.gate.WriteRefusal(); err != nil {
		return Erased{}, err
	}
	return e.next.EraseOwner(ctx, owner)
}

type gatedSwapper struct {
	AttachmentSwapper
	gate confine.WriteGate
}

func (s gatedSwapper) SwapAttachment(ctx context.Context, old chat.JSON, a chat.Attachment) error {
	if err := s.gate.WriteRefusal(); err != nil {
		return err
	}
	return s.AttachmentSwapper.SwapAttachment(ctx, old, a)
}
