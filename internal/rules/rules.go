// Package rules has the contract's rules of ids, types, owners and text, which values and calls share. A fault is what is
// wrong, in words that hold no content; "" is none.
package rules

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIDBytes is the most bytes that an id, a tenant or a subject may have.
const MaxIDBytes = 256

// maxTypeBytes is the most bytes that an item's type may have.
const maxTypeBytes = 64

// IDFault returns what is wrong with an id, for all but odd ids in one walk over its bytes.
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

// textFault returns what is wrong with a text that must be valid UTF-8 without control characters.
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

// OwnerFault returns what is wrong with an owner. The zero one is nobody, which is fine.
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

// PartFault returns what is wrong with one part of an owner, called name. An empty part is fine.
func PartFault(name, part string) string {
	if part == "" {
		return ""
	}
	return Under(name, IDFault(part))
}

// UTF8Fault returns what is wrong with a text that must be valid UTF-8.
func UTF8Fault(s string) string {
	if utf8.ValidString(s) {
		return ""
	}
	return "not valid UTF-8"
}

// TypeFault returns what is wrong with the type of an item: it is [a-z0-9_.]{1,64}.
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
			return "not of a-z, 0-9, _ and ."
		}
	}
	return ""
}

// QuoteType makes a type that nobody has checked harmless in a message.
func QuoteType(t string) string {
	if TypeFault(t) == "" {
		return t
	}
	return QuoteID(t)
}

// FirstOf returns the first fault that is one.
func FirstOf(faults ...string) string {
	for _, f := range faults {
		if f != "" {
			return f
		}
	}
	return ""
}

// QuoteID makes a hostile id harmless in a message: quoted, and no longer than a valid one could be.
func QuoteID(id string) string {
	if len(id) > MaxIDBytes {
		return strconv.Quote(id[:MaxIDBytes]) + "…"
	}
	return strconv.Quote(id)
}

// FaultDeep is of a body nested too deep. A user's own type may be a ring, so that the way there says nothing.
const FaultDeep = "body: nested too deep"

// Under puts a member's name before a fault: "content" and "text: not a string" make "content.text: not a string".
func Under(name, fault string) string {
	switch {
	case fault == "" || fault == FaultDeep:
		return fault
	case strings.Contains(fault, ": "):
		return name + "." + fault
	}
	return name + ": " + fault
}

// Message returns the text of an error: what, then the kind of value and its id, then the fault. Each but what may be "".
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
