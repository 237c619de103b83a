// Package jsondoc reads and edits JSON text in place, for the values of package chat. It keeps every byte that it does not
// change. It describes faults in constant texts without content.
package jsondoc

import (
	"strings"
	"time"
)

// Document parses the JSON of a value. It is large and meant to live on its caller's stack.
type Document struct {
	Scanner
	Extra int // bytes of strings that are not part of the text
}

// Parse finds the members of the object in text. A repeated name among them is a fault.
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

// Value returns the text of the member called name. ok is false if it is absent or null.
func (d *Document) Value(name string) (value string, ok bool) {
	value, ok = Find(d.Text, d.Members.All(), name)
	if value == "null" {
		return "", false
	}
	return value, ok
}

// Str returns the value of a string member. It is "" if the member is absent or null.
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

// Word does what Str does, for an id or a type. A string that Go cannot hold is a fault, because two different ids must not
// become equal.
func (d *Document) Word(name string) (s, fault string) {
	if value, ok := d.Value(name); ok {
		if _, isString, exact := Unquote(value); isString && !exact {
			return "", name + ": half a surrogate pair"
		}
	}
	return d.Str(name)
}

// Time returns the value of a time member. It is the zero time if the member is absent or null.
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
