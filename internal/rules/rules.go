// Package rules has the contract's rules for ids, types, owners and text. Values and calls share them. A fault is a text
// that says what is wrong, without content; "" means no fault.
package rules

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIDBytes is the maximum length of an id, a tenant and a subject, in bytes.
const MaxIDBytes = 256

// maxTypeBytes is the maximum length of a type, in bytes.
const maxTypeBytes = 64

// FieldIfVersion is the Field of the errors of store.IfVersion.
const FieldIfVersion = "if_version"

// Sealed is the reserved member of a row that decorators/encrypt has sealed.
const Sealed = "chatstore_sealed"

// Turn is the reserved member of a thread's metadata that says which server answers in the thread. A copy made by fork has none.
const Turn = "chatstore_turn"

// IDFault returns the fault of an id. It reads an ordinary ASCII id only once.
func IDFault(id string) string {
	if id == "" {
		return "empty"
	}
	if len(id) > MaxIDBytes {
		return "longer than 256 bytes"
	}
	for i := range len(id) {
		if c := id[i]; c-' ' >= 0x7f-' ' {
			return textFault(id)
		}
	}
	return ""
}

// textFault returns the fault of a text that must be valid UTF-8 without control characters.
func textFault(s string) string {
	if !utf8.ValidString(s) {
		return "not valid UTF-8"
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return "a control character"
		}
	}
	return ""
}

// OwnerFault returns the fault of an owner. The zero owner is valid.
func OwnerFault(tenant, subject string) string {
	if subject == "" {
		if tenant != "" {
			return "owner: a tenant without a subject"
		}
		return ""
	}
	if fault := PartFault("owner.tenant", tenant); fault != "" {
		return fault
	}
	return PartFault("owner.subject", subject)
}

// PartFault returns the fault of one part of an owner, called name. An empty part is valid.
func PartFault(name, part string) string {
	if part == "" {
		return ""
	}
	return Under(name, IDFault(part))
}

// UTF8Fault returns the fault of a text that must be valid UTF-8.
func UTF8Fault(s string) string {
	if utf8.ValidString(s) {
		return ""
	}
	return "not valid UTF-8"
}

// TypeFault returns the fault of a type, which must match [a-z0-9_.]{1,64}.
func TypeFault(t string) string {
	if t == "" {
		return "empty"
	}
	if len(t) > maxTypeBytes {
		return "longer than 64 bytes"
	}
	for i := range len(t) {
		switch c := t[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '.':
		default:
			return "has other characters than a-z, 0-9, _ and ."
		}
	}
	return ""
}

// QuoteType returns a type in a form that is safe in a message. It quotes an invalid type.
func QuoteType(t string) string {
	if TypeFault(t) == "" {
		return t
	}
	return QuoteID(t)
}

// FirstOf returns the first fault that is not "".
func FirstOf(faults ...string) string {
	for _, f := range faults {
		if f != "" {
			return f
		}
	}
	return ""
}

// QuoteID returns an id in a form that is safe in a message: quoted, and cut to the length of a valid id.
func QuoteID(id string) string {
	if len(id) > MaxIDBytes {
		return strconv.Quote(id[:MaxIDBytes]) + "…"
	}
	return strconv.Quote(id)
}

// FaultDeep is the fault of a body that is nested too deep. It has no path, because a user's own type may be cyclic.
const FaultDeep = "body: nested too deep"

// Under adds a member's name to a fault: "content" and "text: not a string" make "content.text: not a string".
func Under(name, fault string) string {
	switch {
	case fault == "" || fault == FaultDeep:
		return fault
	case strings.Contains(fault, ": "):
		return name + "." + fault
	}
	return name + ": " + fault
}

// Message returns the text of an error: what, the kind of value with its id, and the fault. All except what may be "".
func Message(what, kind, id, fault string) string {
	if kind != "" {
		what += ": " + kind
		if id != "" {
			what += " " + QuoteID(id)
		}
	}
	if fault != "" {
		what += ": " + fault
	}
	return what
}
