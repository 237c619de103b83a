// Package report puts what went wrong into words.
package report

import (
	"fmt"
	"strings"
	"unicode"
)

// Error returns an error's text and those of its causes, which the text of a store.Error leaves out. Each is quoted. A
// cause whose text has been said is not said again.
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

// Printable returns a text with its control characters, and all else that a terminal may act on, quoted. Tabs and the
// ends of lines stay.
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

// Abridged returns the beginning of a text that is longer than most bytes.
func Abridged(text string, most int) string {
	if len(text) > most {
		return fmt.Sprintf("%s… (%d bytes)", text[:most], len(text))
	}
	return text
}
