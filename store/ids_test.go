package store_test

import (
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

func TestGeneratedIDs(t *testing.T) {
	for _, c := range []struct {
		ids  store.IDGenerator
		hex  int
		name string
	}{{store.DefaultIDs{}, 8, "DefaultIDs"}, {store.LongIDs{}, 32, "LongIDs"}} {
		seen := map[string]bool{}
		check := func(id, prefix string) {
			t.Helper()
			rest, ok := strings.CutPrefix(id, prefix)
			if !ok || len(rest) != c.hex || strings.Trim(rest, "0123456789abcdef") != "" || seen[id] {
				t.Errorf("%s: got %q, want %s, %d hex digits and no repetition", c.name, id, prefix, c.hex)
			}
			seen[id] = true
		}
		check(c.ids.GenerateThreadID(t.Context()), "thr_")
		for kind, prefix := range map[chat.ItemKind]string{
			chat.KindMessage: "msg_", chat.KindToolCall: "tc_", chat.KindTask: "tsk_", chat.KindWorkflow: "wf_",
			chat.KindAttachment: "atc_", chat.KindSDKHiddenContext: "shcx_", "unheard_of": "msg_",
		} {
			check(c.ids.GenerateItemID(t.Context(), kind, chat.Thread{}), prefix)
		}
	}
}
