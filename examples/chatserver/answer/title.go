package answer

import (
	"strings"
	"unicode/utf8"

	"github.com/chatstore/chatstore/chatkit"
)

// entitle names a conversation without a title by the beginning of a text. It does nothing for a text that is no title: a command
// or blank. The first call has the user's message, the next one the answer.
func entitle(t *chatkit.Turn, text string) {
	if t.Thread.Title == "" && canEntitle(text) {
		t.Thread.Title = titleOf(text)
	}
}

func canEntitle(text string) bool {
	text = strings.TrimSpace(text)
	return text != "" && text[0] != '/'
}

// titleOf returns the beginning of a text, for a thread's title.
func titleOf(text string) string {
	const most = 60
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return "New conversation"
	}
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// firstLine returns the first line of an answer, without Markdown at its beginning and punctuation at its end.
func firstLine(answer string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(answer), "\n")
	return strings.TrimRight(strings.TrimLeft(line, "#>*-`_ "), "*:,;`_ ")
}
