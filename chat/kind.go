package chat

// ItemKind is what an item id is generated for; [KindOf] maps an [ItemType] to its kind.
type ItemKind string

// The kinds, with the prefix of their ids.
const (
	KindMessage          ItemKind = "message"            // msg: also widget, generated_image, structured_input, hidden_context_item, end_of_turn and unknown types
	KindToolCall         ItemKind = "tool_call"          // tc
	KindTask             ItemKind = "task"               // tsk
	KindWorkflow         ItemKind = "workflow"           // wf
	KindAttachment       ItemKind = "attachment"         // atc
	KindSDKHiddenContext ItemKind = "sdk_hidden_context" // shcx
)

// KindOf returns the kind that ids of items of type t are generated for. A type it does not know is a KindMessage.
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
