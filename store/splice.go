package store

// edit is a new value, as JSON text, for a member of an object.
type edit struct{ name, value string }

// splice returns the object's text with the edits made: a member that is there gets its new value, one that is not is added
// behind the last. Every other byte stays. The text is known to be valid.
func splice(text string, edits []edit) string {
	s := scanner{collect: true}
	start, _, _ := s.scan(text)
	members := s.members.all()
	size := len(text)
	for _, e := range edits {
		size += len(e.name) + len(e.value) + 4
	}
	b := make([]byte, 0, size)
	done := 0
	for _, m := range members {
		if v, ok := editOf(edits, m.name); ok {
			b = append(b, text[done:m.start]...)
			b = append(b, v...)
			done = m.end
		}
	}
	at := start + 1 // where members are added
	if len(members) > 0 {
		at = members[len(members)-1].end
	}
	b = append(b, text[done:at]...)
	first := len(members) == 0
	for _, e := range edits {
		if _, ok := find(text, members, e.name); ok {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendQuoted(b, e.name)
		b = append(b, ':')
		b = append(b, e.value...)
	}
	return string(append(b, text[at:]...))
}

func editOf(edits []edit, name string) (string, bool) {
	for _, e := range edits {
		if e.name == name {
			return e.value, true
		}
	}
	return "", false
}
