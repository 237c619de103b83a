package chat

import (
	"errors"

	"github.com/chatstore/chatstore/internal/rules"
)

// ErrInvalid is wrapped by every error of a value that breaks a rule. Trying again does not help.
var ErrInvalid = errors.New("invalid")

// Error says which rule a value breaks. Its text names the kind of value, its id and the rule, and never contains content. It
// wraps [ErrInvalid].
type Error struct {
	Kind  string // "thread", "item" or "attachment"; "" for a bare JSON
	ID    string // of the value
	Field string // the field and the rule, as in "title: not valid UTF-8"
	Cause error  `json:"-"` // never in Error()
}

// Error returns a text like
//
//	invalid: item "msg_1": created_at: zero
func (e *Error) Error() string {
	if e == nil {
		return "<nil>"
	}
	return rules.Message("invalid", e.Kind, e.ID, e.Field)
}

// MarshalText returns the text of Error. So an encoder that would look into the struct does not show the cause.
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
