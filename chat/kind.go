package chat

// ItemKind is the kind of row that an id is generated for. [KindOf] maps an [ItemType] to its kind.
type ItemKind string

// The kinds of rows, with the prefix of their ids.
const (
	KindMessage          ItemKind = "message"            // msg: also widget, generated_image, structured_input, hidden_context_item, end_of_turn and unknown types
	KindToolCall         ItemKind = "tool_call"          // tc
	KindTask             ItemKind = "task"               // tsk
	KindWorkflow         ItemKind = "workflow"           // wf
	KindAttachment       ItemKind = "attachment"         // atc
	KindSDKHiddenContext ItemKind = "sdk_hidden_context" // shcx
)

// KindOf returns the kind for ids of items of type t. It is KindMessage for unknown types.
func KindOf(t ItemType) ItemKind {
	switch t {
	case TypeClientToolCall:
		return KindToolCall
	case TypeTask:
		return KindTask
	case TypeWorkflow:
		return KindWorkflow
	case TypeSDKHiddenContext:
		return KindSDKHiddenContext
	}
	return KindMessage
}
