package chatkit

import (
	"context"

	"github.com/chatstore/chatstore/chat"
)

// Responder is the assistant: it answers what users say and do. Its methods are called concurrently, one call a turn.
//
// An error ends the turn, with a [Failure] for the client: a Failure that is returned (it is an error) is shown as it is,
// any other is logged and shown as stream.error. When the client goes away ctx ends, and Emit fails with its error: return.
type Responder interface {
	// Respond answers turn.Message. Where there is none (its ID is ""), a client's tool or a form has been answered: it goes
	// on from the newest item of the thread.
	Respond(ctx context.Context, turn *Turn) error
	// Act answers a custom action, which the user chose in a widget.
	Act(ctx context.Context, turn *Turn, action Action) error
}

// SyncActor is implemented by a [Responder] that also answers actions which wait for their result.
type SyncActor interface {
	// ActNow returns the widget as the action leaves it, which is then saved, or the zero Item where nothing changes.
	ActNow(ctx context.Context, thread chat.Thread, action Action) (chat.Item, error)
}

// Action is what the user chose in a widget. Sender is the widget's item, the zero Item where there is none.
type Action struct {
	Type    string
	Payload chat.JSON
	Sender  chat.Item
}
