package chatkit

import (
	"context"

	"github.com/chatstore/chatstore/chat"
)

// Responder is the assistant. Its methods are called concurrently, once per turn.
//
// An error ends the turn with a [Failure] for the client. A returned Failure, which is an error, is sent as it is. Any other
// error is logged and sent as stream.error. When the client goes away, ctx ends and Emit fails with its error: then return.
type Responder interface {
	// Respond answers turn.Message. If its ID is "", there is no message: a client's tool or a form was completed. Then
	// Respond continues from the newest item of the thread.
	Respond(ctx context.Context, turn *Turn) error
	// Act answers a custom action of a widget.
	Act(ctx context.Context, turn *Turn, action Action) error
}

// SyncActor is a [Responder] that also handles actions whose client waits for the result.
type SyncActor interface {
	// ActNow returns the widget after the action, which the Handler saves. It returns the zero Item if nothing changes.
	ActNow(ctx context.Context, thread chat.Thread, action Action) (chat.Item, error)
}

// Transcriber is a [Responder] that also turns speech into text.
type Transcriber interface {
	// Transcribe returns the text of a recording. mimeType is the client's word for it, for example audio/webm;codecs=opus. An
	// error is answered as one of Respond is, but as JSON.
	Transcribe(ctx context.Context, audio []byte, mimeType string) (text string, err error)
}

// FeedbackTaker is a [Responder] that also takes users' opinions of items. Without it they are logged.
type FeedbackTaker interface {
	// TakeFeedback keeps an opinion of items that the caller may read. kind is positive or negative.
	TakeFeedback(ctx context.Context, threadID string, itemIDs []string, kind string) error
}

// Action is a user's choice in a widget. Sender is the widget's item, or the zero Item if there is none.
type Action struct {
	Type    string
	Payload chat.JSON
	Sender  chat.Item
}
