package chat

import (
	"reflect"
)

// Body is the typed content of an item. [NewItem], [DecodeItem] and [Item.WithBody] use it. This package has a struct for
// each known type, such as [UserMessage], [AssistantMessage], [ClientToolCall], [Widget], [TaskItem] and [WorkflowItem].
//
// An absent or null member decodes as the field's zero value or its documented default. An empty optional field is left out
// of new JSON.
//
// A program may define structs for further item types:
//
//   - A field's json tag is the name of its member. Names are matched exactly.
//   - The tag chat, which structs of this package have, is for them only.
//   - A field named id, thread_id, created_at or type is refused: these belong to the item.
//   - A struct with an embedded field is refused. Within a field's value such a struct is left to encoding/json.
//   - Arrays, maps except map[string]string, and types with their own JSON or text form are left to encoding/json too. It
//     matches names in any case.
type Body interface{ ItemType() ItemType }

// bodyTypes are the types that DecodeItem[Body] chooses from. They also define where an item's JSON is free-form.
var bodyTypes = map[ItemType]reflect.Type{
	TypeUserMessage:      reflect.TypeFor[UserMessage](),
	TypeAssistantMessage: reflect.TypeFor[AssistantMessage](),
	TypeClientToolCall:   reflect.TypeFor[ClientToolCall](),
	TypeWidget:           reflect.TypeFor[Widget](),
	TypeGeneratedImage:   reflect.TypeFor[GeneratedImage](),
	TypeStructuredInput:  reflect.TypeFor[StructuredInput](),
	TypeTask:             reflect.TypeFor[TaskItem](),
	TypeWorkflow:         reflect.TypeFor[WorkflowItem](),
	TypeHiddenContext:    reflect.TypeFor[HiddenContextItem](),
	TypeSDKHiddenContext: reflect.TypeFor[SDKHiddenContext](),
	TypeEndOfTurn:        reflect.TypeFor[EndOfTurn](),
}

// UserMessage is a message from the user. It keeps its Attachments byte for byte as they were at the time of sending,
// without their Owner.
type UserMessage struct {
	Content          []UserContent    `json:"content"`
	Attachments      []Attachment     `json:"attachments"`
	QuotedText       string           `json:"quoted_text,omitempty"`
	InferenceOptions InferenceOptions `json:"inference_options"`
}

// UserContent is one part of a user's message. Type is input_text (the default) or input_tag. input_text uses Text.
// input_tag is an entity that the user mentioned and uses all fields.
type UserContent struct {
	Type        string `json:"type" chat:"default=input_text"`
	ID          string `json:"id,omitempty" chat:"on=input_tag"`
	Text        string `json:"text"`
	Data        JSON   `json:"data,omitempty" chat:"on=input_tag,object"` // a free-form object
	Group       string `json:"group,omitempty"`
	Interactive bool   `json:"interactive,omitempty"`
}

// InferenceOptions are the user's wishes for the answer to a message. With a nil ToolChoice or an empty Model, the server
// chooses.
type InferenceOptions struct {
	ToolChoice *ToolChoice `json:"tool_choice,omitempty"`
	Model      string      `json:"model,omitempty"`
}

// ToolChoice names the tool to use.
type ToolChoice struct {
	ID string `json:"id"`
}

// AssistantMessage is an answer from the assistant.
type AssistantMessage struct {
	Content []AssistantContent `json:"content"`
}

// AssistantContent is one part of an assistant's message. Type is output_text, the default.
type AssistantContent struct {
	Type        string       `json:"type" chat:"default=output_text"`
	Text        string       `json:"text"`
	Annotations []Annotation `json:"annotations"`
}

// Annotation links a source to a text. Type is annotation, the default. Index is the position in the text; nil means none.
type Annotation struct {
	Type   string `json:"type" chat:"default=annotation"`
	Source Source `json:"source"`
	Index  *int   `json:"index,omitempty"`
}

// Source is a source of an answer. The fields used depend on Type:
//
//   - url: URL, Attribution
//   - file: Filename
//   - entity: ID, Icon, Label, InlineLabel, Interactive, Data, Preview
//
// Every type uses the other fields.
type Source struct {
	Type        string `json:"type" chat:"required"`
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Timestamp   string `json:"timestamp,omitempty"`
	Group       string `json:"group,omitempty"`

	URL         string `json:"url,omitempty" chat:"on=url"`
	Attribution string `json:"attribution,omitempty"`

	Filename string `json:"filename,omitempty" chat:"on=file"`

	ID          string `json:"id,omitempty" chat:"on=entity"`
	Icon        string `json:"icon,omitempty"`
	Label       string `json:"label,omitempty"`
	InlineLabel string `json:"inline_label,omitempty"`
	Interactive bool   `json:"interactive,omitempty"`
	Data        JSON   `json:"data,omitempty" chat:"on=entity,object"` // a free-form object
	Preview     string `json:"preview,omitempty"`
}

// ClientToolCall is a call of a tool that runs in the client. Status is pending (the default) or completed. Arguments is a
// free-form object, Output is any JSON.
type ClientToolCall struct {
	Status    string `json:"status" chat:"default=pending"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments JSON   `json:"arguments" chat:"object"`
	Output    JSON   `json:"output,omitempty"`
}

// Widget is a widget that the client renders. The field Widget is its root component, a free-form object. CopyText is the
// text that the user gets by copying the widget.
type Widget struct {
	Widget   JSON   `json:"widget" chat:"object"`
	CopyText string `json:"copy_text,omitempty"`
}

// GeneratedImage is an image made by the assistant. Image is nil until the image exists.
type GeneratedImage struct {
	Image *Image `json:"image,omitempty"`
}

// Image is the address of a generated image.
type Image struct {
	ID  string `json:"id"`
	URL string `json:"url"`
}

// StructuredInput asks the user questions. Status is pending (the default), answered or skipped.
type StructuredInput struct {
	Status string  `json:"status" chat:"default=pending"`
	Inputs []Input `json:"inputs"`
}

// Input is one question of a [StructuredInput]. Type is multiple_choice (with Options and Multiple) or freeform (with
// Description). Answer is nil until the user has answered.
type Input struct {
	Type        string        `json:"type" chat:"required"`
	ID          string        `json:"id"`
	Question    string        `json:"question"`
	Options     []InputOption `json:"options,omitempty" chat:"on=multiple_choice"`
	Multiple    bool          `json:"multiple,omitempty"`
	Description string        `json:"description,omitempty"`
	Answer      *InputAnswer  `json:"answer,omitempty"`
}

// InputOption is one choice of an [Input].
type InputOption struct {
	Value string `json:"value"`
}

// InputAnswer is the user's answer to an [Input].
type InputAnswer struct {
	Values  []string `json:"values"`
	Skipped bool     `json:"skipped"`
}

// TaskItem is a single task that is not part of a workflow.
type TaskItem struct {
	Task Task `json:"task"`
}

// Task is a step of the assistant. StatusIndicator is none (the default), loading or complete. Every type uses Title. The
// other fields used depend on Type:
//
//   - custom: Icon, Content
//   - web_search: TitleQuery, Queries, Sources of type url
//   - thought: Content
//   - file: Sources of type file
//   - image: none
type Task struct {
	Type            string   `json:"type" chat:"required"`
	StatusIndicator string   `json:"status_indicator" chat:"default=none"`
	Title           string   `json:"title,omitempty"`
	Icon            string   `json:"icon,omitempty"`
	Content         string   `json:"content,omitempty" chat:"on=thought"`
	TitleQuery      string   `json:"title_query,omitempty"`
	Queries         []string `json:"queries,omitempty" chat:"on=web_search"`
	Sources         []Source `json:"sources,omitempty" chat:"on=web_search|file"`
}

// WorkflowItem is an item that shows a workflow.
type WorkflowItem struct {
	Workflow Workflow `json:"workflow"`
}

// Workflow is a sequence of tasks. Type is custom or reasoning. Summary is nil until the workflow has ended.
type Workflow struct {
	Type     string           `json:"type" chat:"required"`
	Tasks    []Task           `json:"tasks"`
	Summary  *WorkflowSummary `json:"summary,omitempty"`
	Expanded bool             `json:"expanded"`
}

// WorkflowSummary replaces the tasks of a workflow on screen. It has a Title with an Icon, or the Duration of the workflow.
type WorkflowSummary struct {
	Title    string `json:"title,omitempty"`
	Icon     string `json:"icon,omitempty"`
	Duration *int   `json:"duration,omitempty"` // in seconds; nil if the summary is a Title
}

// HiddenContextItem is context for the assistant that the user never sees. Content is any JSON.
type HiddenContextItem struct {
	Content JSON `json:"content"`
}

// SDKHiddenContext is context that an SDK adds for its own use. The user never sees it.
type SDKHiddenContext struct {
	Content string `json:"content"`
}

// EndOfTurn marks the end of the assistant's turn.
type EndOfTurn struct{}

// ItemType returns user_message.
func (UserMessage) ItemType() ItemType { return TypeUserMessage }

// ItemType returns assistant_message.
func (AssistantMessage) ItemType() ItemType { return TypeAssistantMessage }

// ItemType returns client_tool_call.
func (ClientToolCall) ItemType() ItemType { return TypeClientToolCall }

// ItemType returns widget.
func (Widget) ItemType() ItemType { return TypeWidget }

// ItemType returns generated_image.
func (GeneratedImage) ItemType() ItemType { return TypeGeneratedImage }

// ItemType returns structured_input.
func (StructuredInput) ItemType() ItemType { return TypeStructuredInput }

// ItemType returns task.
func (TaskItem) ItemType() ItemType { return TypeTask }

// ItemType returns workflow.
func (WorkflowItem) ItemType() ItemType { return TypeWorkflow }

// ItemType returns hidden_context_item.
func (HiddenContextItem) ItemType() ItemType { return TypeHiddenContext }

// ItemType returns sdk_hidden_context.
func (SDKHiddenContext) ItemType() ItemType { return TypeSDKHiddenContext }

// ItemType returns end_of_turn.
func (EndOfTurn) ItemType() ItemType { return TypeEndOfTurn }
