package answer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/testenv"
)

// fault returns the first rule of strict endpoints that messages break, or "".
func fault(all []message, system bool) string {
	if system {
		if len(all) == 0 || all[0].Role != "system" {
			return "the first message is not the system's"
		}
		all = all[1:]
	}
	for i, m := range all {
		want := user
		if i%2 == 1 {
			want = assistant
		}
		if m.Role != want {
			return fmt.Sprintf("message %d is of %q, want %q", i, m.Role, want)
		}
		if strings.TrimSpace(m.Content) == "" || !utf8.ValidString(m.Content) {
			return fmt.Sprintf("message %d is blank or not UTF-8: %q", i, m.Content)
		}
		if strings.Contains(m.Content, markCut) {
			return fmt.Sprintf("message %d has a mark", i)
		}
	}
	if len(all)%2 == 0 {
		return fmt.Sprintf("%d messages: the last is not a user's", len(all))
	}
	return ""
}

// rows are items in all forms that matter to a transcript: known and odd ones, with and without text.
var rows = []string{
	`"type":"user_message","content":[{"type":"input_text","text":"hello"}],"attachments":[]`,
	`"type":"user_message","content":[{"type":"input_text","text":" \n "}],"attachments":[]`,
	`"type":"user_message","content":[{"type":"input_text","text":"half \ud83d"}],"attachments":[],"quoted_text":"q"`,
	`"type":"user_message","content":[],"attachments":[{"id":"a","type":"file","name":"n","mime_type":"t"}]`,
	`"type":"user_message","content":"a string"`,
	`"type":"user_message","content":[],"attachments":["atc_1"]`,
	`"type":"assistant_message","content":[{"text":"yes"},{"text":"no"}]`,
	`"type":"assistant_message","content":[]`,
	`"type":"assistant_message","content":[{"text":"ye\n\n` + markCut + `"}]`,
	`"type":"assistant_message","content":"a string"`,
	`"type":"hidden_context_item","content":"a secret"`,
	`"type":"hidden_context_item","content":{"a":1}`,
	`"type":"hidden_context_item","content":" "`,
	`"type":"hidden_context_item"`,
	`"type":"sdk_hidden_context","content":"stopped"`,
	`"type":"client_tool_call","status":"completed","call_id":"c","name":"f","arguments":{},"output":null`,
	`"type":"client_tool_call","status":"completed"`,
	`"type":"client_tool_call","status":"pending","call_id":"c","name":"f","arguments":{}`,
	`"type":"widget","widget":{"type":"Card"}`,
	`"type":"widget","copy_text":"a card"`,
	`"type":"generated_image"`,
	`"type":"structured_input","status":"pending","inputs":[{"type":"freeform","id":"i","question":"why?"}]`,
	`"type":"structured_input","status":"answered","inputs":[{"type":"freeform","id":"i","question":"why?","answer":{"values":["so"],"skipped":false}}]`,
	`"type":"structured_input","status":"skipped","inputs":[]`,
	`"type":"task"`,
	`"type":"end_of_turn"`,
	`"type":"of_the_future","content":7`,
}

// Whatever items a store has, and whatever is left out, strict endpoints take the messages.
func TestStrictMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 3000 {
		items := make([]chat.Item, n%12)
		for i := range items {
			items[i] = testenv.Value(chat.ParseItem(`{"id":"i","thread_id":"t","created_at":"2026-01-01T00:00:00Z",` + rows[r.IntN(len(rows))] + "}"))(t)
		}
		most := r.IntN(80)
		turns, size := transcribe(items).newest(most)
		if len(turns) == 0 {
			continue // no text at all: Respond sends nothing
		}
		if len(turns) > 1 && size > most {
			t.Errorf("%d turns have %d bytes, want at most %d", len(turns), size, most)
		}
		for _, instructions := range []string{"", " ", "Be brief."} {
			if wrong := fault(messages(instructions, turns), strings.TrimSpace(instructions) != ""); wrong != "" {
				t.Fatalf("%s: %v", wrong, items)
			}
		}
	}
}

// The checker of TestStrictMessages finds each fault.
func TestFaults(t *testing.T) {
	u, a, s := message{user, "u"}, message{assistant, "a"}, message{"system", "s"}
	for i, c := range []struct {
		all    []message
		system bool
		ok     bool
	}{
		{[]message{u}, false, true},
		{[]message{s, u, a, u}, true, true},
		{[]message{u, s, u}, false, false},
		{[]message{s, s, u}, true, false},
		{[]message{u}, true, false},
		{[]message{a, u}, false, false},
		{[]message{u, u}, false, false},
		{[]message{u, a}, false, false},
		{[]message{{user, " "}}, false, false},
		{[]message{{user, "\xff"}}, false, false},
		{[]message{{user, "x\n\n" + markCut}}, false, false},
		{nil, false, false},
	} {
		if wrong := fault(c.all, c.system); (wrong == "") != c.ok {
			t.Errorf("%d: %q", i, wrong)
		}
	}
}
