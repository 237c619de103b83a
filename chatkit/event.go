package chatkit

import "github.com/chatstore/chatstore/chat"

// Event is one event of a stream. A [Responder] emits events about items, [Progress], [ClientEffect] and [Notice], and
// returns a [Failure] as its error. The Handler itself sends the events of threads.
type Event interface{ eventType() string }

// ItemAdded announces an unfinished item. Updates follow, and then ItemDone. Nothing is stored yet.
type ItemAdded struct {
	Item chat.Item `json:"item"`
}

// ItemUpdated changes an announced item.
type ItemUpdated struct {
	ItemID string `json:"item_id"`
	Update Update `json:"update"`
}

// ItemDone says that an item is finished. The item is stored before the client gets this event.
type ItemDone struct {
	Item chat.Item `json:"item"`
}

// ItemRemoved says that an item was removed.
type ItemRemoved struct {
	ItemID string `json:"item_id"`
}

// ItemReplaced replaces the item with the same id.
type ItemReplaced struct {
	Item chat.Item `json:"item"`
}

// Progress tells the user what the assistant is doing. It is not stored.
type Progress struct {
	Icon string `json:"icon,omitempty"`
	Text string `json:"text"`
}

// ClientEffect asks the client to do something. There is no answer. Data is an object; the zero JSON is sent as an empty one.
type ClientEffect struct {
	Name string    `json:"name"`
	Data chat.JSON `json:"data"`
}

// Notice shows the user a message outside of the conversation. Level is info, warning or danger.
type Notice struct {
	Level   string `json:"level"`
	Message string `json:"message"`
	Title   string `json:"title,omitempty"`
}

// Failure ends a failed stream. Code is "custom", with a Message for the user, or ChatKit's code stream.error.
type Failure struct {
	Code       string `json:"code"`
	Message    string `json:"message,omitempty"`
	AllowRetry bool   `json:"allow_retry"`
}

// threadCreated is the first event of a new thread.
type threadCreated struct {
	Thread thread `json:"thread"`
}

// threadUpdated says that the thread itself has changed, for example its title or status.
type threadUpdated struct {
	Thread thread `json:"thread"`
}

// streamOptions says whether the client may stop the stream.
type streamOptions struct {
	Options struct {
		AllowCancel bool `json:"allow_cancel"`
	} `json:"stream_options"`
}

func (ItemAdded) eventType() string     { return "thread.item.added" }
func (ItemUpdated) eventType() string   { return "thread.item.updated" }
func (ItemDone) eventType() string      { return "thread.item.done" }
func (ItemRemoved) eventType() string   { return "thread.item.removed" }
func (ItemReplaced) eventType() string  { return "thread.item.replaced" }
func (Progress) eventType() string      { return "progress_update" }
func (ClientEffect) eventType() string  { return "client_effect" }
func (Notice) eventType() string        { return "notice" }
func (Failure) eventType() string       { return "error" }
func (threadCreated) eventType() string { return "thread.created" }
func (threadUpdated) eventType() string { return "thread.updated" }
func (streamOptions) eventType() string { return "stream_options" }

// Update is a change of an announced item.
type Update interface{ updateType() string }

// PartAdded begins a part of an assistant's message.
type PartAdded struct {
	Index   int                   `json:"content_index"`
	Content chat.AssistantContent `json:"content"`
}

// TextDelta appends to the text of a part.
type TextDelta struct {
	Index int    `json:"content_index"`
	Delta string `json:"delta"`
}

// AnnotationAdded adds a source to a part.
type AnnotationAdded struct {
	Index           int             `json:"content_index"`
	AnnotationIndex int             `json:"annotation_index"`
	Annotation      chat.Annotation `json:"annotation"`
}

// PartDone has the final content of a part.
type PartDone struct {
	Index   int                   `json:"content_index"`
	Content chat.AssistantContent `json:"content"`
}

// TaskAdded adds a task to a workflow.
type TaskAdded struct {
	Index int       `json:"task_index"`
	Task  chat.Task `json:"task"`
}

// TaskUpdated replaces a task of a workflow.
type TaskUpdated struct {
	Index int       `json:"task_index"`
	Task  chat.Task `json:"task"`
}

// WidgetTextDelta appends to the text of a component of a widget. Done ends it.
type WidgetTextDelta struct {
	ComponentID string `json:"component_id"`
	Delta       string `json:"delta"`
	Done        bool   `json:"done"`
}

// WidgetComponentUpdated replaces a component of a widget.
type WidgetComponentUpdated struct {
	ComponentID string    `json:"component_id"`
	Component   chat.JSON `json:"component"`
}

// WidgetRootUpdated replaces a widget.
type WidgetRootUpdated struct {
	Widget chat.JSON `json:"widget"`
}

// ImageUpdated has the current state of a generated image. Progress is from 0 to 1, or nil if it is unknown.
type ImageUpdated struct {
	Image    chat.Image `json:"image"`
	Progress *float64   `json:"progress,omitempty"`
}

func (PartAdded) updateType() string              { return "assistant_message.content_part.added" }
func (TextDelta) updateType() string              { return "assistant_message.content_part.text_delta" }
func (AnnotationAdded) updateType() string        { return "assistant_message.content_part.annotation_added" }
func (PartDone) updateType() string               { return "assistant_message.content_part.done" }
func (TaskAdded) updateType() string              { return "workflow.task.added" }
func (TaskUpdated) updateType() string            { return "workflow.task.updated" }
func (WidgetTextDelta) updateType() string        { return "widget.streaming_text.value_delta" }
func (WidgetComponentUpdated) updateType() string { return "widget.component.updated" }
func (WidgetRootUpdated) updateType() string      { return "widget.root.updated" }
func (ImageUpdated) updateType() string           { return "generated_image.updated" }

// Error makes a Failure an error, so that a [Responder] can return it.
func (f Failure) Error() string {
	if f.Message == "" {
		return f.Code
	}
	return f.Message
}
