// Package jsondoc reads and edits JSON text in place, for the values of package chat. It keeps every byte that it does not
// change, and says what is wrong with a text in constant words, without content.
package jsondoc

import (
	"strings"
	"time"
)

// Document is the JSON of a value, while it is parsed. It is large and lives on its reader's stack.
type Document struct {
	Scanner
	Extra int // bytes of the strings read that are no part of the text
}

// Parse finds the members of the text's object. A name that is repeated among them is a fault.
func (d *Document) Parse(text string) (fault string) {
	d.Collect = true
	start, _, fault := d.Scan(text)
	switch {
	case fault != "":
		return fault
	case text[start] != '{':
		return faultObject
	case d.Dup == 1:
		return FaultRepeated
	}
	return ""
}

// Value returns the text of the member called name; ok is false if it is absent or null.
func (d *Document) Value(name string) (value string, ok bool) {
	value, ok = Find(d.Text, d.Members.All(), name)
	if value == "null" {
		return "", false
	}
	return value, ok
}

// Str returns the value of a member that is a string; absent and null are "".
func (d *Document) Str(name string) (s, fault string) {
	value, ok := d.Value(name)
	if !ok {
		return "", ""
	}
	s, ok, _ = Unquote(value)
	if !ok {
		return "", name + ": not a string"
	}
	if strings.IndexByte(value, '\\') >= 0 {
		d.Extra += len(s)
	}
	return s, ""
}

// Word is str for an id or a type, where a string that Go cannot hold is a fault: what differs elsewhere must not be equal
// here.
func (d *Document) Word(name string) (s, fault string) {
	if value, ok := d.Value(name); ok {
		if _, isString, exact := Unquote(value); isString && !exact {
			return "", name + ": half a surrogate pair"
		}
	}
	return d.Str(name)
}

// Time returns the value of a member that is a time; absent and null are the zero time.
func (d *Document) Time(name string) (t time.Time, fault string) {
	value, ok := d.Value(name)
	if !ok {
		return time.Time{}, ""
	}
	s, ok, _ := Unquote(value)
	if ok {
		t, ok = parseTime(s)
	}
	if !ok {
		return time.Time{}, name + ": not an RFC 3339 time"
	}
	return t, ""
}
