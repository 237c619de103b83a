// Package report formats failures for people.
package report

import (
	"fmt"
	"strings"
	"unicode"
)

// Error returns the text of an error and those of its causes, each quoted. The text of a store.Error leaves its causes out.
// A cause whose text is already included is skipped.
func Error(err error) string {
	if err == nil {
		return "no error"
	}
	var said []string
	var say func(err error)
	say = func(err error) {
		if err == nil {
			return
		}
		text := err.Error()
		if !strings.Contains(strings.Join(said, "\n"), text) {
			said = append(said, text)
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			say(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, cause := range e.Unwrap() {
				say(cause)
			}
		}
	}
	say(err)
	for i, text := range said {
		said[i] = fmt.Sprintf("%q", text)
	}
	return strings.Join(said, ", caused by ")
}

// Printable quotes control characters and everything else that a terminal may act on. Tabs and newlines stay.
func Printable(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(text[i:], string(r)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n', r == '\t', unicode.IsPrint(r), unicode.Is(unicode.Zs, r):
			b.WriteRune(r)
		default:
			quoted := fmt.Sprintf("%q", string(r))
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}

// Abridged cuts a text that is longer than most bytes.
func Abridged(text string, most int) string {
	if len(text) > most {
		return fmt.Sprintf("%s… (%d bytes)", text[:most], len(text))
	}
	return text
}
