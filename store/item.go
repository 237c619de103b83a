package store

import "time"

// ItemType is the wire's "type".
type ItemType string

const (
	TypeUserMessage      ItemType = "user_message"
	TypeAssistantMessage ItemType = "assistant_message"
	TypeClientToolCall   ItemType = "client_tool_call"
	TypeWidget           ItemType = "widget"
	TypeGeneratedImage   ItemType = "generated_image"
	TypeStructuredInput  ItemType = "structured_input"
	TypeTask             ItemType = "task"
	TypeWorkflow         ItemType = "workflow"
	TypeHiddenContext    ItemType = "hidden_context_item"
	TypeSDKHiddenContext ItemType = "sdk_hidden_context"
	TypeEndOfTurn        ItemType = "end_of_turn"
)

type Item struct {
	ID        string
	ThreadID  string
	CreatedAt time.Time
	doc       *itemDoc
}

type itemDoc struct {
	typ  ItemType
	text JSON
}

// Type returns the wire's type.
func (it Item) Type() ItemType {
	if it.doc == nil {
		return ""
	}
	return it.doc.typ
}

type Body interface{ ItemType() ItemType }

// JSON stub
func (it Item) JSON() JSON {
	if it.doc == nil {
		return JSON{}
	}
	return it.doc.text
}
