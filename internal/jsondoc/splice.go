package jsondoc

// Edit sets a member of an object to a new value, a JSON text.
type Edit struct{ Name, Value string }

// Splice returns the object's text with the edits made. It replaces the value of an existing member and adds a missing one
// at the end. Every other byte stays. The text must be valid.
func Splice(text string, edits []Edit) string {
	s := Scanner{Collect: true}
	start, _, _ := s.Scan(text)
	members := s.Members.All()
	size := len(text)
	for _, e := range edits {
		size += len(e.Name) + len(e.Value) + 4
	}
	b := make([]byte, 0, size)
	done := 0
	for _, m := range members {
		if v, ok := editOf(edits, m.Name); ok {
			b = append(b, text[done:m.Start]...)
			b = append(b, v...)
			done = m.End
		}
	}
	at := start + 1 // where members are added
	if len(members) > 0 {
		at = members[len(members)-1].End
	}
	b = append(b, text[done:at]...)
	first := len(members) == 0
	for _, e := range edits {
		if _, ok := Find(text, members, e.Name); ok {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = AppendQuoted(b, e.Name)
		b = append(b, ':')
		b = append(b, e.Value...)
	}
	return string(append(b, text[at:]...))
}

// editOf returns the new value of the member called name.
func editOf(edits []Edit, name string) (string, bool) {
	for _, e := range edits {
		if e.Name == name {
			return e.Value, true
		}
	}
	return "", false
}

// Without returns the object's text without the member called name. A text without it stays as it is. The text must be valid.
func Without(text, name string) string {
	members, _ := MembersOf(text, '{')
	if _, ok := Find(text, members, name); !ok {
		return text
	}
	b := []byte{'{'}
	for _, m := range members {
		if m.Name == name {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(AppendQuoted(b, m.Name), ':'), text[m.Start:m.End]...)
	}
	return string(append(b, '}'))
}
