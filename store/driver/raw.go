package driver

import (
	"context"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// RawReader is the capability to read rows whose documents are damaged. Documents are returned as they are stored, whether they
// are valid or not, and whatever the layers around the base do with them. The errors and the reported versions are those of the
// Store's loads.
type RawReader interface {
	// RawThread returns the owner and the document of a thread.
	RawThread(ctx context.Context, threadID string) (chat.Owner, string, error)

	// RawItems returns a page of a thread's items, in the order of LoadThreadItems.
	RawItems(ctx context.Context, threadID string, q store.PageQuery) (store.Page[RawItem], error)

	// RawAttachment returns the owner and the document of an attachment.
	RawAttachment(ctx context.Context, attachmentID string) (chat.Owner, string, error)
}

// RawItem is an item's id with its document.
type RawItem struct{ ID, Document string }
