package chat

import (
	"errors"

	"github.com/chatstore/chatstore/internal/rules"
)

// ErrInvalid is wrapped by every error about a value that breaks a rule. Retrying does not help.
var ErrInvalid = errors.New("invalid")

// Error reports a value that breaks a rule. Its text names the kind of value, its id and the rule, but no content. It wraps
// [ErrInvalid].
type Error struct {
	Kind  string // "thread", "item" or "attachment"; "" for a JSON
	ID    string // id of the value
	Field string // field and rule, such as "title: not valid UTF-8"
	Cause error  `json:"-"` // not part of the text
}

// Error returns a text such as
//
//	invalid: item "msg_1": created_at: zero
func (e *Error) Error() string {
	if e == nil {
		return "<nil>"
	}
	return rules.Message("invalid", e.Kind, e.ID, e.Field)
}

// MarshalText returns the same text as Error, so that encoders do not write the cause.
func (e *Error) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns ErrInvalid and the cause, if any.
func (e *Error) Unwrap() []error {
	if e == nil {
		return nil
	}
	if e.Cause != nil {
		return []error{ErrInvalid, e.Cause}
	}
	return []error{ErrInvalid}
}

// ErrorType returns "invalid", the value of OpenTelemetry's error.type attribute.
func (e *Error) ErrorType() string { return "invalid" }

const (
	kindThread     = "thread"
	kindItem       = "item"
	kindAttachment = "attachment"
)
