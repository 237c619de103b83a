package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/rules"
)

// The sentinels, for errors.Is. Every error of a Store that is not a context's own wraps at most one of the first six;
// [ErrNotApplied] may come beside any.
var (
	// ErrNotFound: there is no such row, or none that the caller may know of.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the id is taken, or the row is another owner's.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: the argument breaks a rule of the contract. Repeating the call is of no use.
	ErrInvalid = chat.ErrInvalid
	// ErrUnauthenticated: the context carries no principal.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrDenied: the principal may read the row but not do this to it.
	ErrDenied = errors.New("denied")
	// ErrUnavailable: the backend cannot answer now. For a write, the outcome is unknown unless ErrNotApplied says it.
	ErrUnavailable = errors.New("unavailable")
	// ErrNotApplied: the write surely did not happen and never will.
	ErrNotApplied = errors.New("not applied")
)

// Code is the one classification of outcomes that spans, metrics, logs and HTTP mappings share. The set is closed.
type Code uint8

// The codes; [CodeOf] says which error has which.
const (
	CodeOK Code = iota
	CodeNotFound
	CodeConflict
	CodeInvalid
	CodeUnauthenticated
	CodeDenied
	CodeCanceled
	CodeTimeout
	CodeUnavailable
	CodeInternal
	CodePanic
)

// NumCodes is one more than the highest Code, for tables indexed by Code.
const NumCodes = int(CodePanic) + 1

var codeNames = [NumCodes]string{
	"ok", "not_found", "conflict", "invalid", "unauthenticated", "denied", "canceled", "timeout", "unavailable", "internal", "panic",
}

// String returns the word used on the wire, such as "not_found".
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return codeNames[CodeInternal]
}

// sentinel returns the error that errors.Is finds for the code, or nil where there is none.
func (c Code) sentinel() error {
	switch c {
	case CodeNotFound:
		return ErrNotFound
	case CodeConflict:
		return ErrConflict
	case CodeInvalid:
		return ErrInvalid
	case CodeUnauthenticated:
		return ErrUnauthenticated
	case CodeDenied:
		return ErrDenied
	case CodeUnavailable:
		return ErrUnavailable
	case CodeCanceled:
		return context.Canceled
	case CodeTimeout:
		return context.DeadlineExceeded
	}
	return nil
}

// CodeOf classifies an error: nil is CodeOK, an [*Error] has its own code, a sentinel the code named after it, and
// context.Canceled and context.DeadlineExceeded are CodeCanceled and CodeTimeout. ErrNotApplied alone is CodeUnavailable.
// A [*chat.Error] is CodeInvalid, whatever it wraps. Of errors joined, an *Error counts first, then a *chat.Error, then
// ErrUnavailable, then the other sentinels. Every other error is CodeInternal.
func CodeOf(err error) Code {
	if err == nil {
		return CodeOK
	}
	e, _ := errors.AsType[*Error](err)
	coded := e != nil && e.Code != CodeOK
	if v, ok := errors.AsType[*chat.Error](err); ok && v != nil {
		if within, ok := errors.AsType[*Error](v); !coded || ok && within == e {
			return CodeInvalid // whatever the value's error wraps
		}
	}
	if coded {
		if int(e.Code) >= NumCodes {
			return CodeInternal // a base's own idea: the set is closed
		}
		return e.Code
	}
	if errors.Is(err, ErrUnavailable) {
		return CodeUnavailable
	}
	for c := CodeNotFound; c <= CodeTimeout; c++ {
		if errors.Is(err, c.sentinel()) {
			return c
		}
	}
	if errors.Is(err, ErrNotApplied) {
		return CodeUnavailable
	}
	return CodeInternal
}

// IsDefinite reports whether a write that ended with err is known to have had its effect (nil) or to have had none and
// never to have one. For everything else the outcome is unknown: applied as a whole or not at all, now or later. An error
// that has an unknown outcome joined to a definite one, as several attempts may have left it, is unknown: one that is
// unavailable, canceled or timed out, that is, for nothing can be said of an error that is none of this package's. Make an
// attempt's raw error an [*Error] before joining it to another's, and join ErrNotApplied only if it holds for all.
func IsDefinite(err error) bool {
	if errors.Is(err, ErrNotApplied) {
		return true
	}
	return CodeOf(err).definite() && !joinsUnknown(err)
}

// definite reports whether a write that ended so had no effect, or had it.
func (c Code) definite() bool {
	switch c {
	case CodeOK, CodeNotFound, CodeConflict, CodeInvalid, CodeUnauthenticated, CodeDenied:
		return true
	}
	return false
}

// joinsUnknown reports whether one of the errors joined in err says that the outcome is unknown. The cause of an [*Error]
// with a code of its own does not count: the code is what its author made of it.
func joinsUnknown(err error) bool {
	switch e := err.(type) {
	case *Error:
		if e != nil && e.Code != CodeOK {
			return !e.Code.definite()
		}
		return e != nil && joinsUnknown(e.Cause)
	case *chat.Error:
		return false
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), joinsUnknown)
	case interface{ Unwrap() error }:
		return joinsUnknown(e.Unwrap())
	}
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// The kinds of rows, for the Kind of an [Error].
const (
	RowThread     = "thread"
	RowItem       = "item"
	RowAttachment = "attachment"
)

// Error is what a Store's methods return. Its text is made of the op, the kind of row, the caller's own id and the code:
// nothing that the caller did not already know, so it may be shown. The cause is for errors.Is, errors.As and private logs.
type Error struct {
	Op   Op
	Kind string // thread, item or attachment
	ID   string // as the caller gave it
	Code Code
	// Field says, for CodeInvalid, which field breaks which rule, as in "limit: negative". Constant text, never content.
	Field string
	Cause error `json:"-"` // never in Error()
}

// Error returns for example
//
//	save_item: invalid: item "msg_1": created_at: zero
func (e *Error) Error() string {
	if e == nil {
		return "<nil>"
	}
	text := rules.Message(strings.ReplaceAll(e.Code.String(), "_", " "), e.Kind, e.ID, e.Field)
	if e.Op == 0 {
		return text
	}
	return e.Op.String() + ": " + text
}

// MarshalText returns the text of Error. So an encoder that would look into the struct does not show the cause.
func (e *Error) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns the code's sentinel, then the cause.
func (e *Error) Unwrap() []error {
	if e == nil {
		return nil
	}
	var errs []error
	if s := e.Code.sentinel(); s != nil {
		errs = append(errs, s)
	}
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	return errs
}

// ErrorType returns the word of [CodeOf], the error.type of OpenTelemetry's conventions.
func (e *Error) ErrorType() string { return CodeOf(e).String() }
