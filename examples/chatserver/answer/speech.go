package answer

import (
	"cmp"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// speech is the text of an answer, from the members of a reply that have text. It leaves out the model's reasoning: parts of
// another type than text, and what stands between <think> and </think> at the beginning.
type speech struct {
	said strings.Builder

	half     string // the end of the last JSON string, if a character is incomplete there
	held     string // the beginning, until it is clear whether it is reasoning
	thinking bool
}

// hear returns the text that a choice adds.
func (s *speech) hear(c choice) string {
	var piece string
	if c.Delta != nil {
		piece = s.text(c.Delta.Content) + s.text(c.Delta.Refusal)
	}
	piece = s.answer(cmp.Or(piece, s.text(c.Text)))
	if m := c.Message; m != nil && piece == "" {
		// Some endpoints send the whole text so far with each event, beside the new piece or instead of it.
		before := s.said.String()
		whole := new(speech)
		text := whole.answer(whole.text(m.Content)+whole.text(m.Refusal)) + whole.rest()
		if strings.HasPrefix(text, before) {
			piece = text[len(before):]
		}
	}
	s.said.WriteString(piece)
	return piece
}

// text returns the text of a content: a string, or parts.
func (s *speech) text(content json.RawMessage) string {
	switch {
	case len(content) < 2:
		return ""
	case content[0] == '"':
		return s.unquote(string(content[1 : len(content)-1]))
	case content[0] == '{':
		content = append(append([]byte{'['}, content...), ']')
	}
	var parts []json.RawMessage
	_ = json.Unmarshal(content, &parts) // what is no array has no text
	var b strings.Builder
	for _, p := range parts {
		var part struct {
			Type string          `json:"type"`
			Text json.RawMessage `json:"text"`
		}
		if p[0] == '"' {
			part.Text = p
		} else if err := json.Unmarshal(p, &part); err != nil {
			continue
		}
		if (part.Type == "" || part.Type == "text" || part.Type == "output_text") && len(part.Text) > 1 && part.Text[0] == '"' {
			b.WriteString(s.text(part.Text))
		}
	}
	return b.String()
}

// halfEscape is the first half of a surrogate pair at the end of a string.
var halfEscape = regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})$`)

// unquote returns the text of a JSON string without its quotes. Some endpoints cut the answer within a character. It keeps the
// first half for the next string.
func (s *speech) unquote(quoted string) string {
	quoted = s.half + quoted
	cut := len(quoted)
	if at := halfEscape.FindStringSubmatchIndex(quoted); at != nil {
		cut = at[2]
	}
	for i := cut - 1; i >= max(0, cut-utf8.UTFMax); i-- {
		if utf8.RuneStart(quoted[i]) {
			if !utf8.FullRuneInString(quoted[i:cut]) {
				cut = i
			}
			break
		}
	}
	s.half = quoted[cut:]
	var text string
	_ = json.Unmarshal([]byte(`"`+quoted[:cut]+`"`), &text) // it is valid: only bytes at its end are missing
	return text
}

const (
	think   = "<think>"
	thought = "</think>"
)

// answer removes reasoning from the beginning of the text, and empty lines.
func (s *speech) answer(piece string) string {
	if s.said.Len() > 0 || piece == "" {
		return piece
	}
	s.held += piece
	for {
		if s.thinking {
			_, rest, over := strings.Cut(s.held, thought)
			if !over {
				s.held = s.held[max(0, len(s.held)-len(thought)+1):]
				return ""
			}
			s.held, s.thinking = rest, false
		}
		begin := strings.TrimSpace(s.held)
		switch rest, found := strings.CutPrefix(begin, think); {
		case found:
			s.held, s.thinking = rest, true
		case strings.HasPrefix(think, begin):
			return ""
		default:
			return s.rest()
		}
	}
}

// rest returns the text that answer holds back.
func (s *speech) rest() string {
	text := strings.TrimLeft(s.held, "\r\n")
	s.held = ""
	if s.thinking || strings.TrimSpace(text) == "" {
		return ""
	}
	return text
}
