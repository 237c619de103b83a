package chat_test

import (
	"testing"

	"github.com/chatstore/chatstore/chat"
)

func TestKindOf(t *testing.T) {
	for typ, want := range map[chat.ItemType]chat.ItemKind{
		chat.TypeUserMessage: chat.KindMessage, chat.TypeAssistantMessage: chat.KindMessage,
		chat.TypeClientToolCall: chat.KindToolCall, chat.TypeWidget: chat.KindMessage,
		chat.TypeGeneratedImage: chat.KindMessage, chat.TypeStructuredInput: chat.KindMessage,
		chat.TypeTask: chat.KindTask, chat.TypeWorkflow: chat.KindWorkflow,
		chat.TypeHiddenContext: chat.KindMessage, chat.TypeSDKHiddenContext: chat.KindSDKHiddenContext,
		chat.TypeEndOfTurn: chat.KindMessage, "unheard_of": chat.KindMessage,
	} {
		if got := chat.KindOf(typ); got != want {
			t.Errorf("KindOf(%s) is %s, want %s", typ, got, want)
		}
	}
}
