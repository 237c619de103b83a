package layer

import (
	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// Call says which call an [Observer] or [Interceptor] is told of. It has ids, never content, and is passed by value. Its ids
// and types are as the caller gave them: a layer beneath may still refuse them.
type Call struct {
	Op           store.Op
	Order        store.Order   // of a listing
	HasCursor    bool          // a listing with After
	Limit        int           // of a listing, as the caller gave it
	ThreadID     string        // "" for load_threads and attachments
	ItemID       string        // of item ops
	ItemType     chat.ItemType // of add_thread_item and save_item
	AttachmentID string
}

func pageCall(op store.Op, threadID string, q store.PageQuery) Call {
	return Call{Op: op, ThreadID: threadID, Order: q.Order, HasCursor: q.After != "", Limit: q.Limit}
}

func itemCall(op store.Op, threadID string, it chat.Item) Call {
	return Call{Op: op, ThreadID: threadID, ItemID: it.ID, ItemType: it.Type()}
}
