package chat

import (
	"errors"
	"reflect"
	"strings"

	"github.com/chatstore/chatstore/internal/jsondoc"
	"github.com/chatstore/chatstore/internal/rules"
)

// ErrInvalid: the argument breaks a rule of the contract. Repeating the call is of no use.
var ErrInvalid = errors.New("invalid")

// Error is what the functions and methods of this package return. Its text is made of the kind of value, its id and the
// rule: never content.
type Error struct {
	Kind  string // thread, item or attachment; "" for a bare JSON
	ID    string
	Field string // which field breaks which rule, as in "title: not valid UTF-8". Constant text, never content.
	Cause error  `json:"-"` // never in Error()
}

// Error returns for example
//
//	invalid: item "msg_1": created_at: zero
func (e *Error) Error() string {
	if e == nil {
		return "<nil>"
	}
	var b strings.Builder
	b.WriteString("invalid")
	if e.Kind != "" {
		b.WriteString(": ")
		b.WriteString(e.Kind)
		if e.ID != "" {
			b.WriteByte(' ')
			b.WriteString(rules.QuoteID(e.ID))
		}
	}
	if e.Field != "" {
		b.WriteString(": ")
		b.WriteString(e.Field)
	}
	return b.String()
}

// MarshalText returns what Error does, so that an encoder which looks into values finds no cause either.
func (e *Error) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns ErrInvalid, then the cause.
func (e *Error) Unwrap() []error {
	if e == nil {
		return nil
	}
	if e.Cause != nil {
		return []error{ErrInvalid, e.Cause}
	}
	return []error{ErrInvalid}
}

// ErrorType returns "invalid", the error.type of OpenTelemetry's conventions.
func (e *Error) ErrorType() string { return "invalid" }

const (
	kindThread     = "thread"
	kindItem       = "item"
	kindAttachment = "attachment"
)

// repeats reports whether a name is repeated further within, where t, a struct type, does not have free-form JSON. A nil t
// has none.
func repeatedWithin(d *jsondoc.Document, t reflect.Type) bool {
	return d.Dup > 0 && (t == nil || repeats(d.Text, t))
}
