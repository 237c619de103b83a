package layer

import (
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Call describes a call to an [Observer] or [Interceptor]. It has ids but no content, and is passed by value. Ids and types
// are unchecked: they are as the caller passed them.
type Call struct {
	Op           store.Op
	Order        store.Order   // of a listing
	HasCursor    bool          // a listing with After
	Limit        int           // of a listing, as the caller passed it
	ThreadID     string        // "" for load_threads and attachments
	ItemID       string        // in calls for one item
	ItemType     chat.ItemType // in add_thread_item and save_item
	AttachmentID string
}

func pageCall(op store.Op, threadID string, q store.PageQuery) Call {
	return Call{Op: op, ThreadID: threadID, Order: q.Order, HasCursor: q.After != "", Limit: q.Limit}
}

func itemCall(op store.Op, threadID string, it chat.Item) Call {
	return Call{Op: op, ThreadID: threadID, ItemID: it.ID, ItemType: it.Type()}
}
