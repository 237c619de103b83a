package answer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/openai/openai-go/v3"

	"github.com/chatstore/chatstore/chat"
)

// The model gets at most this many items and bytes of a conversation.
const (
	maxMessages = 100
	maxBytes    = 128 << 10
)

// transcript is a conversation as the model reads it.
type transcript struct {
	turns []exchange
	first string // the user's first message
	model string // the model that the user chose last
}

// exchange is the messages of one item. They are sent together or not at all, because a tool's output needs its call.
type exchange struct {
	messages []openai.ChatCompletionMessageParamUnion
	bytes    int
}

// transcribe converts items, oldest first.
func transcribe(items []chat.Item) (transcript, error) {
	var t transcript
	for _, it := range items {
		body, known, err := chat.DecodeItem[chat.Body](it)
		if err != nil {
			return t, err
		}
		if !known {
			continue
		}
		if m, ok := body.(chat.UserMessage); ok {
			t.first = cmp.Or(t.first, textOf(m))
			t.model = m.InferenceOptions.Model
		}
		if e := exchangeOf(it.ID, body); len(e.messages) > 0 {
			t.turns = append(t.turns, e)
		}
	}
	return t, nil
}

// newest returns the messages of the newest items, with at most that many bytes. fits is false if even the newest item is
// too large.
func (t transcript) newest(most int) (messages []openai.ChatCompletionMessageParamUnion, fits bool) {
	from := len(t.turns)
	for from > 0 && t.turns[from-1].bytes <= most {
		from--
		most -= t.turns[from].bytes
	}
	for _, e := range t.turns[from:] {
		messages = append(messages, e.messages...)
	}
	return messages, len(messages) > 0
}

func exchangeOf(id string, body chat.Body) exchange {
	var e exchange
	switch b := body.(type) {
	case chat.UserMessage:
		e.user(asked(b))
	case chat.AssistantMessage:
		var parts []string
		for _, c := range b.Content {
			parts = append(parts, c.Text)
		}
		e.assistant(strings.Join(parts, "\n"))
	case chat.HiddenContextItem:
		e.system(plain(b.Content))
	case chat.SDKHiddenContext:
		e.system(b.Content)
	case chat.ClientToolCall:
		if b.Status == "completed" {
			e.tool(cmp.Or(b.CallID, id), b)
		}
	case chat.Widget:
		e.assistant("[A widget is shown: " + cmp.Or(b.CopyText, b.Widget.String()) + "]")
	case chat.GeneratedImage:
		e.assistant("[A picture is shown.]")
	case chat.StructuredInput:
		var questions []string
		for _, q := range b.Inputs {
			questions = append(questions, q.Question)
		}
		e.assistant(strings.Join(questions, "\n"))
		if b.Status != "pending" {
			e.user(answers(b))
		}
	}
	return e
}

func (e *exchange) user(text string)      { add(e, text, openai.UserMessage[string]) }
func (e *exchange) assistant(text string) { add(e, text, openai.AssistantMessage[string]) }
func (e *exchange) system(text string)    { add(e, text, openai.SystemMessage[string]) }

// add adds a message. It skips an empty one, because endpoints refuse it.
func add(e *exchange, text string, message func(string) openai.ChatCompletionMessageParamUnion) {
	if strings.TrimSpace(text) == "" {
		return
	}
	e.messages = append(e.messages, message(text))
	e.bytes += len(text)
}

// tool adds a call and its output. They keep the role "tool": a client's text must not become a system message.
func (e *exchange) tool(id string, call chat.ClientToolCall) {
	function := openai.ChatCompletionMessageFunctionToolCallFunctionParam{
		Name: call.Name, Arguments: cmp.Or(call.Arguments.String(), "{}"),
	}
	output := cmp.Or(call.Output.String(), "null")
	e.messages = append(e.messages,
		openai.ChatCompletionMessageParamUnion{OfAssistant: &openai.ChatCompletionAssistantMessageParam{
			ToolCalls: []openai.ChatCompletionMessageToolCallUnionParam{
				{OfFunction: &openai.ChatCompletionMessageFunctionToolCallParam{ID: id, Function: function}},
			},
		}},
		openai.ToolMessage(output, id))
	e.bytes += len(id) + len(function.Name) + len(function.Arguments) + len(output)
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
