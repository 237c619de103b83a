package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
)

// DefaultIDs draws the ids of the ChatKit SDKs: a prefix, an underscore and 8 random hex digits, as in thr_1a2b3c4d. 32 bits
// collide (even odds at 77,000 ids) and can be guessed: use [LongIDs] where that matters, and [InsertOnly] saves in any
// case. The zero value is ready, and safe for concurrent use. It is meant to be embedded in a Store.
type DefaultIDs struct{}

// LongIDs draws ids with the prefixes of [DefaultIDs] and 128 random bits, as 32 hex digits. The zero value is ready, and
// safe for concurrent use.
type LongIDs struct{}

var (
	_ IDGenerator = DefaultIDs{}
	_ IDGenerator = LongIDs{}
)

// GenerateThreadID returns thr_ and 8 hex digits.
func (DefaultIDs) GenerateThreadID(context.Context) string { return randomID("thr_", 4) }

// GenerateItemID returns the kind's prefix, an underscore and 8 hex digits.
func (DefaultIDs) GenerateItemID(_ context.Context, kind ItemKind, _ Thread) string {
	return randomID(kind.prefix(), 4)
}

// GenerateThreadID returns thr_ and 32 hex digits.
func (LongIDs) GenerateThreadID(context.Context) string { return randomID("thr_", 16) }

// GenerateItemID returns the kind's prefix, an underscore and 32 hex digits.
func (LongIDs) GenerateItemID(_ context.Context, kind ItemKind, _ Thread) string {
	return randomID(kind.prefix(), 16)
}

// randomID never fails: since Go 1.24 crypto/rand.Read does not return an error.
func randomID(prefix string, bytes int) string {
	var raw [16]byte
	_, _ = rand.Read(raw[:bytes])
	out := make([]byte, 0, 40)
	out = append(out, prefix...)
	return string(hex.AppendEncode(out, raw[:bytes]))
}

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

func (k ItemKind) prefix() string {
	switch k {
	case KindToolCall:
		return "tc_"
	case KindTask:
		return "tsk_"
	case KindWorkflow:
		return "wf_"
	case KindAttachment:
		return "atc_"
	case KindSDKHiddenContext:
		return "shcx_"
	}
	return "msg_"
}

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
