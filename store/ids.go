package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"github.com/chatstore/chatstore/chat"
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
func (DefaultIDs) GenerateItemID(_ context.Context, kind chat.ItemKind, _ chat.Thread) string {
	return randomID(prefix(kind), 4)
}

// GenerateThreadID returns thr_ and 32 hex digits.
func (LongIDs) GenerateThreadID(context.Context) string { return randomID("thr_", 16) }

// GenerateItemID returns the kind's prefix, an underscore and 32 hex digits.
func (LongIDs) GenerateItemID(_ context.Context, kind chat.ItemKind, _ chat.Thread) string {
	return randomID(prefix(kind), 16)
}

// randomID never fails: since Go 1.24 crypto/rand.Read does not return an error.
func randomID(prefix string, bytes int) string {
	var raw [16]byte
	_, _ = rand.Read(raw[:bytes])
	out := make([]byte, 0, 40)
	out = append(out, prefix...)
	return string(hex.AppendEncode(out, raw[:bytes]))
}

// prefix returns what ids of the kind begin with.
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
