package store

import (
	"reflect"
	"strings"
	"time"
)

// document is the JSON of a value, while it is parsed. It is large and lives on its reader's stack.
type document struct {
	scanner
	extra int // bytes of the strings read that are no part of the text
}

// parse finds the members of the text's object. A name that is repeated among them is a fault.
func (d *document) parse(text string) (fault string) {
	d.collect = true
	start, _, fault := d.scan(text)
	switch {
	case fault != "":
		return fault
	case text[start] != '{':
		return faultObject
	case d.dup == 1:
		return faultRepeated
	}
	return ""
}

// repeats reports whether a name is repeated further within, where t, a struct type, does not have free-form JSON. A nil t
// has none.
func (d *document) repeats(t reflect.Type) bool {
	return d.dup > 0 && (t == nil || repeats(d.text, t))
}

// value returns the text of the member called name; ok is false if it is absent or null.
func (d *document) value(name string) (value string, ok bool) {
	value, ok = find(d.text, d.members.all(), name)
	if value == "null" {
		return "", false
	}
	return value, ok
}

// str returns the value of a member that is a string; absent and null are "".
func (d *document) str(name string) (s, fault string) {
	value, ok := d.value(name)
	if !ok {
		return "", ""
	}
	s, ok, _ = unquote(value)
	if !ok {
		return "", name + ": not a string"
	}
	if strings.IndexByte(value, '\\') >= 0 {
		d.extra += len(s)
	}
	return s, ""
}

// word is str for an id or a type, where a string that Go cannot hold is a fault: what differs elsewhere must not be equal
// here.
func (d *document) word(name string) (s, fault string) {
	if value, ok := d.value(name); ok {
		if _, isString, exact := unquote(value); isString && !exact {
			return "", name + ": half a surrogate pair"
		}
	}
	return d.str(name)
}

// time returns the value of a member that is a time; absent and null are the zero time.
func (d *document) time(name string) (t time.Time, fault string) {
	value, ok := d.value(name)
	if !ok {
		return time.Time{}, ""
	}
	s, ok, _ := unquote(value)
	if ok {
		t, ok = parseTime(s)
	}
	if !ok {
		return time.Time{}, name + ": not an RFC 3339 time"
	}
	return t, ""
}
