package answer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
)

// maxItems is how many of a conversation's newest items the model gets at most.
const maxItems = 100

// transcript is a conversation as the model reads it. Endpoints differ in what they refuse. So the messages keep the rules of the
// strictest:
//
//   - Only the first message may be a system message: the server's instructions. Hidden context is a note in a user's message.
//   - Then users and assistants alternate. The first and the last of these messages are a user's.
//   - Each message is one text, which is not blank. Calls of tools are told as text, because the request names no tools.
type transcript struct {
	turns []exchange
	first string // the user's first message that is no command
	model string // the model that the user chose last
}

// exchange is a turn: a user's message and what follows. The model gets all of it or nothing.
type exchange struct {
	messages []message
	bytes    int
}

const (
	user      = "user"
	assistant = "assistant"
)

// transcribe converts items, oldest first. It leaves out items that it cannot decode.
func transcribe(items []chat.Item) transcript {
	var t transcript
	for _, it := range items {
		body, known, err := chat.DecodeItem[chat.Body](it)
		if err != nil || !known {
			continue
		}
		m, isUser := body.(chat.UserMessage)
		if isUser {
			if text := textOf(m); t.first == "" && canEntitle(text) {
				t.first = text
			}
			t.model = m.InferenceOptions.Model
		}
		if isUser || len(t.turns) == 0 {
			t.turns = append(t.turns, exchange{})
		}
		t.turns[len(t.turns)-1].tell(body)
	}
	t.turns = slices.DeleteFunc(t.turns, func(e exchange) bool { return len(e.messages) == 0 })
	return t
}

// newest returns the newest turns that have at most that many bytes together, and their bytes. It returns the newest turn even if
// that has more.
func (t transcript) newest(most int) (turns []exchange, bytes int) {
	from := len(t.turns)
	for from > 0 && (from == len(t.turns) || bytes+t.turns[from-1].bytes <= most) {
		from--
		bytes += t.turns[from].bytes
	}
	return t.turns[from:], bytes
}

// messages returns the messages of turns, by the rules of a transcript.
func messages(instructions string, turns []exchange) []message {
	var all []message
	add := func(m message) {
		if last := len(all) - 1; last >= 0 && all[last].Role == m.Role {
			all[last].Content += "\n\n" + m.Content
			return
		}
		all = append(all, m)
	}
	for _, e := range turns {
		for _, m := range e.messages {
			if len(all) == 0 && m.Role == assistant {
				add(message{user, "[The conversation began before this message.]"})
			}
			add(m)
		}
	}
	if len(all) > 0 && all[len(all)-1].Role == assistant {
		add(message{user, "[Please continue.]"}) // after an old form was answered
	}
	if strings.TrimSpace(instructions) != "" {
		all = slices.Insert(all, 0, message{"system", instructions})
	}
	return all
}

// tell adds an item.
func (e *exchange) tell(body chat.Body) {
	switch b := body.(type) {
	case chat.UserMessage:
		e.add(user, asked(b))
	case chat.AssistantMessage:
		var parts []string
		for _, c := range b.Content {
			parts = append(parts, c.Text)
		}
		e.add(assistant, withoutMark(strings.Join(parts, "\n")))
	case chat.HiddenContextItem:
		e.note(plain(b.Content))
	case chat.SDKHiddenContext:
		e.note(b.Content)
	case chat.ClientToolCall:
		if b.Status == "completed" {
			e.add(assistant, fmt.Sprintf("[The tool %s is called with %s.]", b.Name, cmp.Or(b.Arguments.String(), "{}")))
			e.add(user, "[The tool's output: "+cmp.Or(b.Output.String(), "null")+"]")
		}
	case chat.Widget:
		e.add(assistant, "[A widget is shown: "+cmp.Or(b.CopyText, b.Widget.String())+"]")
	case chat.GeneratedImage:
		e.add(assistant, "[A picture is shown.]")
	case chat.StructuredInput:
		var questions []string
		for _, q := range b.Inputs {
			questions = append(questions, q.Question)
		}
		e.add(assistant, strings.Join(questions, "\n"))
		if b.Status != "pending" {
			e.add(user, answers(b))
		}
	}
}

// note adds hidden context. It is a user's message: a text that a user has caused must not become a system message.
func (e *exchange) note(text string) {
	if strings.TrimSpace(text) != "" {
		e.add(user, "[Context: "+text+"]")
	}
}

func (e *exchange) add(role, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	e.messages = append(e.messages, message{role, text})
	e.bytes += len(text)
}

// asked returns a user's message with its quote and the names of its attachments.
func asked(m chat.UserMessage) string {
	var parts []string
	if m.QuotedText != "" {
		parts = append(parts, "> "+strings.ReplaceAll(m.QuotedText, "\n", "\n> "))
	}
	parts = append(parts, textOf(m))
	for _, f := range m.Attachments {
		if b, err := f.Decode(); err == nil {
			parts = append(parts, fmt.Sprintf("[attached: %s (%s)]", b.Name, b.MIMEType))
		}
	}
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), "\n\n")
}

// plain returns free-form content: a string as its text, anything else as JSON.
func plain(j chat.JSON) string {
	var text string
	if j.Decode(&text) == nil {
		return text
	}
	return j.String()
}
