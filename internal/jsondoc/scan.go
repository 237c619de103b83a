package jsondoc

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is the maximum nesting of objects and arrays in a JSON text. encoding/json allows 10,000. This limit is lower, so
// that an accepted value also fits into a page, an event or a log line, and into parsers of other languages.
const MaxDepth = 1000

// PageDepth is the nesting that a page adds to its rows.
const PageDepth = 2

// The faults of a text. They are constant, because they go into the Field of an error.
const (
	faultUTF8     = "json: not valid UTF-8"
	faultSyntax   = "json: not valid"
	faultDepth    = "json: nested too deep"
	faultObject   = "json: not an object"
	FaultRepeated = "json: a repeated member name"
)

// Member is a member of an object, or an element of an array without a name.
type Member struct {
	Name       string // unescaped
	Start, End int    // of the value, in the text
}

// Scanner checks a JSON text (RFC 8259). It finds the members of the outermost object or the elements of the outermost
// array. It copies nothing: its results are positions in the text.
type Scanner struct {
	Text    string
	Members stack[Member]
	names   stack[string] // names of the objects being scanned, innermost last
	Collect bool          // fill Members
	Slack   int           // levels allowed beyond MaxDepth, for a page around its rows
	deep    bool          // nested too deep
	Dup     int           // depth of the outermost object with a repeated name; 0 if there is none
}

// stack is a slice that holds its first elements inside itself. So a scanner of an ordinary document needs no memory beyond
// its caller's stack.
type stack[T any] struct {
	few  [24]T
	more []T // all elements, if they do not fit into few
	n    int
}

func (s *stack[T]) push(v T) {
	switch {
	case s.n < len(s.few):
		s.few[s.n] = v
	case s.n == len(s.few):
		s.more = append(append(s.more[:0], s.few[:]...), v)
	default:
		s.more = append(s.more, v)
	}
	s.n++
}

// cut drops all elements but the first n.
func (s *stack[T]) cut(n int) {
	if s.n = n; n > len(s.few) {
		s.more = s.more[:n]
	}
}

func (s *stack[T]) All() []T {
	if s.n <= len(s.few) {
		return s.few[:s.n]
	}
	return s.more
}

// Scan checks a text with one value, which may have white space around it. It returns the position of the value, and what is
// wrong with the text.
func (s *Scanner) Scan(text string) (start, end int, fault string) {
	s.Text = text
	if !utf8.ValidString(text) {
		return 0, 0, faultUTF8
	}
	start = s.space(0)
	end = s.value(start, 1)
	switch {
	case s.deep:
		return 0, 0, faultDepth
	case end < 0 || s.space(end) != len(text):
		return 0, 0, faultSyntax
	}
	return start, end, ""
}

// space returns the first position from i that is not white space.
func (s *Scanner) space(i int) int {
	for i < len(s.Text) {
		switch s.Text[i] {
		case ' ', '\t', '\n', '\r':
			i++
		default:
			return i
		}
	}
	return i
}

// at returns the byte at i, or 0 after the end.
func (s *Scanner) at(i int) byte {
	if i < len(s.Text) {
		return s.Text[i]
	}
	return 0
}

// value returns the end of the value that begins at i, or -1 if it is invalid. depth is its depth if it is an object or
// array.
func (s *Scanner) value(i, depth int) int {
	switch s.at(i) {
	case '{':
		return s.object(i, depth)
	case '[':
		return s.array(i, depth)
	case '"':
		end, _ := s.str(i)
		return end
	case 't':
		return s.literal(i, "true")
	case 'f':
		return s.literal(i, "false")
	case 'n':
		return s.literal(i, "null")
	}
	return s.number(i)
}

func (s *Scanner) literal(i int, word string) int {
	if strings.HasPrefix(s.Text[i:], word) {
		return i + len(word)
	}
	return -1
}

func (s *Scanner) array(i, depth int) int {
	if depth > MaxDepth+s.Slack {
		s.deep = true
		return -1
	}
	i = s.space(i + 1)
	if s.at(i) == ']' {
		return i + 1
	}
	for {
		end := s.value(i, depth+1)
		if end < 0 {
			return -1
		}
		if s.Collect && depth == 1 {
			s.Members.push(Member{Start: i, End: end})
		}
		i = s.space(end)
		switch s.at(i) {
		case ',':
			i = s.space(i + 1)
		case ']':
			return i + 1
		default:
			return -1
		}
	}
}

// manyNames is the number of names from which an object's names are kept in a map. A hostile object may have a million.
const manyNames = 24

func (s *Scanner) object(i, depth int) int {
	if depth > MaxDepth+s.Slack {
		s.deep = true
		return -1
	}
	base := s.names.n
	var seen map[string]struct{}
	i = s.space(i + 1)
	if s.at(i) == '}' {
		return i + 1
	}
	for {
		if s.at(i) != '"' {
			return -1
		}
		end, escaped := s.str(i)
		if end < 0 {
			return -1
		}
		name := s.Text[i+1 : end-1]
		if escaped {
			name, _ = unescape(name)
		}
		if s.Dup == 0 || s.Dup > depth {
			seen = s.name(name, base, depth, seen)
		}
		i = s.space(end)
		if s.at(i) != ':' {
			return -1
		}
		i = s.space(i + 1)
		if end = s.value(i, depth+1); end < 0 {
			return -1
		}
		if s.Collect && depth == 1 {
			s.Members.push(Member{name, i, end})
		}
		i = s.space(end)
		switch s.at(i) {
		case ',':
			i = s.space(i + 1)
		case '}':
			s.names.cut(base)
			return i + 1
		default:
			return -1
		}
	}
}

// name adds a name to the object whose names begin at base, and sets Dup if it is repeated.
func (s *Scanner) name(name string, base, depth int, seen map[string]struct{}) map[string]struct{} {
	names := s.names.All()[base:]
	switch {
	case seen != nil:
		if _, ok := seen[name]; ok {
			s.Dup = depth
		}
		seen[name] = struct{}{}
		return seen
	case len(names) == manyNames:
		seen = make(map[string]struct{}, 2*manyNames)
		for _, n := range names {
			seen[n] = struct{}{}
		}
		return s.name(name, base, depth, seen)
	}
	for _, n := range names {
		if n == name {
			s.Dup = depth
		}
	}
	s.names.push(name)
	return nil
}

// str returns the end of the string that begins at i, or -1 if it is invalid, and whether it has escapes.
func (s *Scanner) str(i int) (end int, escaped bool) {
	t := s.Text
	for i++; i < len(t); i++ {
		switch c := t[i]; {
		case c == '"':
			return i + 1, escaped
		case c < ' ':
			return -1, false
		case c == '\\':
			escaped = true
			i++
			switch s.at(i) {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(t)-i <= 4 || hex4(t[i+1:i+5]) < 0 {
					return -1, false
				}
				i += 4
			default:
				return -1, false
			}
		}
	}
	return -1, false
}

func (s *Scanner) number(i int) int {
	if s.at(i) == '-' {
		i++
	}
	switch c := s.at(i); {
	case c == '0':
		i++
	case '1' <= c && c <= '9':
		i = s.digits(i)
	default:
		return -1
	}
	if s.at(i) == '.' {
		if i = s.digits(i + 1); i < 0 {
			return -1
		}
	}
	if c := s.at(i); c == 'e' || c == 'E' {
		i++
		if c := s.at(i); c == '+' || c == '-' {
			i++
		}
		return s.digits(i)
	}
	return i
}

// digits returns the end of the digits at i, or -1 if there are none.
func (s *Scanner) digits(i int) int {
	begin := i
	for c := s.at(i); '0' <= c && c <= '9'; c = s.at(i) {
		i++
	}
	if i == begin {
		return -1
	}
	return i
}

// hex4 returns the value of four hex digits, or -1.
func hex4(s string) rune {
	var r rune
	for i := range 4 {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}

// unescape returns the value of a JSON string without its quotes. The string must be valid. exact is false if it has half a
// surrogate pair. No Go string can hold that, so it becomes U+FFFD, as in encoding/json.
func unescape(s string) (text string, exact bool) {
	exact = true
	b := make([]byte, 0, len(s))
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			return string(append(b, s...)), exact
		}
		b = append(b, s[:i]...)
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r := hex4(s)
			s = s[4:]
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
					low = hex4(s[2:])
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					exact = false
				} else {
					s = s[6:]
				}
			}
			b = utf8.AppendRune(b, r)
		default: // quote, backslash or slash
			b = append(b, c)
		}
	}
}

// Unquote returns the value of a JSON string. ok is false for any other valid JSON value. exact is as in unescape.
func Unquote(value string) (text string, ok, exact bool) {
	if value[0] != '"' {
		return "", false, false
	}
	text = value[1 : len(value)-1]
	if strings.IndexByte(text, '\\') < 0 {
		return text, true, true
	}
	text, exact = unescape(text)
	return text, true, exact
}

// AppendQuoted appends s as a JSON string. Invalid UTF-8 becomes U+FFFD; callers that must not lose it check first.
func AppendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(b, s[done:i]...)
				b = append(b, "\uFFFD"...)
				done = i + 1
			}
			i += n
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[done:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		done = i
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}

// Find returns the value of the member called name.
func Find(text string, members []Member, name string) (value string, ok bool) {
	for _, m := range members {
		if m.Name == name {
			return text[m.Start:m.End], true
		}
	}
	return "", false
}

// MembersOf returns the members or elements of a valid text. ok is false unless the text begins with kind, '{' or '['.
func MembersOf(text string, kind byte) (members []Member, ok bool) {
	s := Scanner{Collect: true, Slack: PageDepth}
	start, _, fault := s.Scan(text)
	if fault != "" || text[start] != kind {
		return nil, false
	}
	return s.Members.All(), true
}
