package chat

import (
	"reflect"
)

// Body is implemented by the typed struct of each variant of an item: [UserMessage], [AssistantMessage], [ClientToolCall],
// [Widget], [GeneratedImage], [StructuredInput], [TaskItem], [WorkflowItem], [HiddenContextItem], [SDKHiddenContext] and
// [EndOfTurn]. See [NewItem], [DecodeItem] and [Item.WithBody].
//
// A program may bring structs of its own, for item types that this package does not know: fields are named by their json
// tags, matched exactly, and id, thread_id, created_at and type remain the item's. A struct with an embedded field is refused.
// Within a body, structs that have one, arrays, maps other than map[string]string, and types with a JSON or text form of
// their own are left to encoding/json, which matches names in any case.
//
// In all of them a member that is absent or null reads as the field's zero value or the default named there, and an empty
// optional field is written as an absent member.
type Body interface{ ItemType() ItemType }

// bodyTypes are the variants that DecodeItem[Body] chooses from, and that say where an item's free-form JSON is.
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

// UserMessage is what a user sent. Attachments are kept with it as they were when it was sent, byte for byte; their Owner
// is not part of it.
type UserMessage struct {
	Content          []UserContent    `json:"content"`
	Attachments      []Attachment     `json:"attachments"`
	QuotedText       string           `json:"quoted_text,omitempty"`
	InferenceOptions InferenceOptions `json:"inference_options"`
}

// UserContent is a part of a user's message. Type is input_text (the default), which has Text, or input_tag, an entity that
// the user mentioned, which has all fields.
type UserContent struct {
	Type        string `json:"type" chat:"default=input_text"`
	ID          string `json:"id,omitempty" chat:"on=input_tag"`
	Text        string `json:"text"`
	Data        JSON   `json:"data,omitempty" chat:"on=input_tag,object"` // an object, free-form
	Group       string `json:"group,omitempty"`
	Interactive bool   `json:"interactive,omitempty"`
}

// InferenceOptions says how the user wants a message to be answered. A nil ToolChoice and an empty Model leave it to the
// server.
type InferenceOptions struct {
	ToolChoice *ToolChoice `json:"tool_choice,omitempty"`
	Model      string      `json:"model,omitempty"`
}

// ToolChoice names the tool to be used.
type ToolChoice struct {
	ID string `json:"id"`
}

// AssistantMessage is what the assistant answered.
type AssistantMessage struct {
	Content []AssistantContent `json:"content"`
}

// AssistantContent is a part of an assistant's message. Type is output_text, the default.
type AssistantContent struct {
	Type        string       `json:"type" chat:"default=output_text"`
	Text        string       `json:"text"`
	Annotations []Annotation `json:"annotations"`
}

// Annotation ties a source to a text. Type is annotation, the default. Index is a place in the text; nil: none is given.
type Annotation struct {
	Type   string `json:"type" chat:"default=annotation"`
	Source Source `json:"source"`
	Index  *int   `json:"index,omitempty"`
}

// Source is what an answer refers to. Type says which fields are its own: url (URL, Attribution), file (Filename) or entity
// (ID, Icon, Label, InlineLabel, Interactive, Data, Preview). The others belong to all.
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
	Data        JSON   `json:"data,omitempty" chat:"on=entity,object"` // an object, free-form
	Preview     string `json:"preview,omitempty"`
}

// ClientToolCall is a call of a tool that the client runs. Status is pending (the default) or completed. Arguments is an
// object and Output any JSON, both free-form.
type ClientToolCall struct {
	Status    string `json:"status" chat:"default=pending"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments JSON   `json:"arguments" chat:"object"`
	Output    JSON   `json:"output,omitempty"`
}

// Widget is a widget that the client renders. Widget is its root component, an object, free-form; CopyText is what copying
// it yields.
type Widget struct {
	Widget   JSON   `json:"widget" chat:"object"`
	CopyText string `json:"copy_text,omitempty"`
}

// GeneratedImage is an image made by the assistant. Image is nil until there is one.
type GeneratedImage struct {
	Image *Image `json:"image,omitempty"`
}

// Image is where a generated image is found.
type Image struct {
	ID  string `json:"id"`
	URL string `json:"url"`
}

// StructuredInput asks the user questions. Status is pending (the default), answered or skipped.
type StructuredInput struct {
	Status string  `json:"status" chat:"default=pending"`
	Inputs []Input `json:"inputs"`
}

// Input is one question of a [StructuredInput]. Type is multiple_choice (Options, Multiple) or freeform (Description).
// Answer is nil until there is one.
type Input struct {
	Type        string        `json:"type" chat:"required"`
	ID          string        `json:"id"`
	Question    string        `json:"question"`
	Options     []InputOption `json:"options,omitempty" chat:"on=multiple_choice"`
	Multiple    bool          `json:"multiple,omitempty"`
	Description string        `json:"description,omitempty"`
	Answer      *InputAnswer  `json:"answer,omitempty"`
}

// InputOption is a choice that an [Input] offers.
type InputOption struct {
	Value string `json:"value"`
}

// InputAnswer is what the user answered.
type InputAnswer struct {
	Values  []string `json:"values"`
	Skipped bool     `json:"skipped"`
}

// TaskItem is a single task, shown on its own.
type TaskItem struct {
	Task Task `json:"task"`
}

// Task is a step that the assistant took. Type says which fields are its own: custom (Icon, Content), web_search
// (TitleQuery, Queries, Sources: url), thought (Content), file (Sources: file) or image. StatusIndicator is none (the
// default), loading or complete.
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

// WorkflowItem is a workflow, shown as one.
type WorkflowItem struct {
	Workflow Workflow `json:"workflow"`
}

// Workflow is a sequence of tasks. Type is custom or reasoning. Summary is nil until the workflow is over.
type Workflow struct {
	Type     string           `json:"type" chat:"required"`
	Tasks    []Task           `json:"tasks"`
	Summary  *WorkflowSummary `json:"summary,omitempty"`
	Expanded bool             `json:"expanded"`
}

// WorkflowSummary is shown in place of the tasks of a workflow: a Title with an Icon, or how long it took.
type WorkflowSummary struct {
	Title    string `json:"title,omitempty"`
	Icon     string `json:"icon,omitempty"`
	Duration *int   `json:"duration,omitempty"` // in seconds; nil: the summary is a Title
}

// HiddenContextItem is context for the assistant that the user never sees. Content is any JSON, free-form.
type HiddenContextItem struct {
	Content JSON `json:"content"`
}

// SDKHiddenContext is context that an SDK adds for its own ends.
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
