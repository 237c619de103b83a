package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/chatstore/chatstore/chat"
)

// DefaultIDs generates ids in the format of the ChatKit SDKs: a prefix, an underscore and 8 random hex digits, such as
// thr_1a2b3c4d. These have 32 random bits. They can be guessed, and among 77,000 ids a collision is as likely as not. Use
// [LongIDs] if that matters, and save new rows under [InsertOnly] in any case. The zero value is ready to embed in a Store.
// It is safe for concurrent use.
type DefaultIDs struct{}

// LongIDs generates ids with the prefixes of [DefaultIDs] and 128 random bits, written as 32 hex digits. The zero value is
// ready to use. It is safe for concurrent use.
type LongIDs struct{}

var (
	_ IDGenerator = DefaultIDs{}
	_ IDGenerator = LongIDs{}
)

// GenerateThreadID returns thr_ and 8 hex digits.
func (DefaultIDs) GenerateThreadID(context.Context) string { return randomID("thr_", 4) }

// GenerateItemID returns the kind's prefix, an underscore and 8 hex digits.
func (DefaultIDs) GenerateItemID(_ context.Context, kind chat.ItemKind, _ chat.Thread) string {
	return randomID(prefix(kind), 4)
}

// GenerateThreadID returns thr_ and 32 hex digits.
func (LongIDs) GenerateThreadID(context.Context) string { return randomID("thr_", 16) }

// GenerateItemID returns the kind's prefix, an underscore and 32 hex digits.
func (LongIDs) GenerateItemID(_ context.Context, kind chat.ItemKind, _ chat.Thread) string {
	return randomID(prefix(kind), 16)
}

// randomID cannot fail: crypto/rand.Read returns no error since Go 1.24.
func randomID(prefix string, bytes int) string {
	var raw [16]byte
	_, _ = rand.Read(raw[:bytes])
	out := make([]byte, 0, 40)
	out = append(out, prefix...)
	return string(hex.AppendEncode(out, raw[:bytes]))
}

// prefix returns the prefix for ids of the kind.
func prefix(k chat.ItemKind) string {
	switch k {
	case chat.KindToolCall:
		return "tc_"
	case chat.KindTask:
		return "tsk_"
	case chat.KindWorkflow:
		return "wf_"
	case chat.KindAttachment:
		return "atc_"
	case chat.KindSDKHiddenContext:
		return "shcx_"
	}
	return "msg_"
}
