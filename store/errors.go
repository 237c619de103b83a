package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/internal/rules"
)

// The sentinel errors, for errors.Is. An error of a Store wraps a context's error or at most one of the first seven.
// [ErrNotApplied] may be added to any of them.
var (
	// ErrNotFound: the row does not exist, or the caller may not know that it exists.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the id is taken, perhaps by a deleted row, or the row has another owner, or the thread does not have the
	// version of [IfVersion]. In the last case the Field of the [*Error] is "if_version".
	ErrConflict = errors.New("conflict")
	// ErrInvalid: an argument breaks a rule of the contract. Retrying does not help.
	ErrInvalid = chat.ErrInvalid
	// ErrUnauthenticated: the context has no principal, or one that cannot own rows.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrDenied: the principal may read the row, but may not make this call.
	ErrDenied = errors.New("denied")
	// ErrLimited: the caller makes too many calls. The RetryAfter of the [*Error] says when to call again.
	ErrLimited = errors.New("limited")
	// ErrUnavailable: the backend cannot answer now. A write has an unknown outcome, unless the error also wraps ErrNotApplied.
	ErrUnavailable = errors.New("unavailable")
	// ErrNotApplied: the write did not take effect and never will.
	ErrNotApplied = errors.New("not applied")
)

// Code classifies the outcome of a call, for spans, metrics, logs and HTTP statuses. A minor version may add codes.
type Code uint8

// The codes. [CodeOf] defines which error has which code.
const (
	CodeOK Code = iota
	CodeNotFound
	CodeConflict
	CodeInvalid
	CodeUnauthenticated
	CodeDenied
	CodeLimited
	CodeCanceled
	CodeTimeout
	CodeUnavailable
	CodeInternal
	CodePanic
)

// NumCodes is the highest Code plus one. Use it to size tables indexed by Code.
const NumCodes = int(CodePanic) + 1

var codeNames = [NumCodes]string{
	"ok", "not_found", "conflict", "invalid", "unauthenticated", "denied", "limited", "canceled", "timeout", "unavailable", "internal", "panic",
}

// String returns the code's name in logs and metrics, such as "not_found".
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return codeNames[CodeInternal]
}

// sentinel returns the error that errors.Is finds for the code, or nil if there is none.
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
	case CodeLimited:
		return ErrLimited
	case CodeUnavailable:
		return ErrUnavailable
	case CodeCanceled:
		return context.Canceled
	case CodeTimeout:
		return context.DeadlineExceeded
	}
	return nil
}

// CodeOf returns the code of an error. The first rule that applies decides, also for joined errors:
//
//   - nil is CodeOK.
//   - An [*Error] has its own code, unless a [*chat.Error] wraps it. Without a code, its cause is classified.
//   - A [*chat.Error] is CodeInvalid, whatever it wraps.
//   - [ErrUnavailable] is CodeUnavailable.
//   - Every other sentinel has the code named after it. context.Canceled is CodeCanceled, context.DeadlineExceeded is
//     CodeTimeout.
//   - [ErrNotApplied] alone is CodeUnavailable.
//   - Every other error is CodeInternal.
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
			return CodeInternal // a base made up this code
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

// IsDefinite reports whether the outcome of a write that returned err is known. It is known in two cases. If err is nil, the
// write took effect. If err wraps [ErrNotApplied] or its code is CodeNotFound, CodeConflict, CodeInvalid,
// CodeUnauthenticated, CodeDenied or CodeLimited, the write had no effect and never will.
//
// Every other error means an unknown outcome: the write takes effect as a whole or not at all, now or later.
//
// Errors of several attempts may be joined. Their outcome is unknown if one of them is ErrUnavailable, a cancellation or a
// timeout. IsDefinite cannot judge errors of other packages in a join: first wrap the error of each attempt in an [*Error].
// An error that wraps ErrNotApplied in any place counts as not applied: join ErrNotApplied only if it holds for every attempt.
func IsDefinite(err error) bool {
	if errors.Is(err, ErrNotApplied) {
		return true
	}
	return CodeOf(err).definite() && !joinsUnknown(err)
}

// definite reports whether the outcome of a write with this code is known.
func (c Code) definite() bool {
	switch c {
	case CodeOK, CodeNotFound, CodeConflict, CodeInvalid, CodeUnauthenticated, CodeDenied, CodeLimited:
		return true
	}
	return false
}

// joinsUnknown reports whether an error joined in err means an unknown outcome. An [*Error] with a code is judged by its
// code, not by its cause.
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

// The kinds of rows in the Kind of an [Error].
const (
	RowThread     = "thread"
	RowItem       = "item"
	RowAttachment = "attachment"
)

// Error is the error of a call of a Store. Its text has the op, the code, the kind of row, the caller's own id and the
// Field. It contains nothing stored, so it may be shown to the caller. The cause is for errors.Is, errors.As and private logs.
type Error struct {
	Op   Op
	Kind string // thread, item or attachment
	ID   string // the id in the call
	Code Code
	// Field names the field and the broken rule, for CodeInvalid, such as "limit: negative". It is constant text without
	// content. For CodeConflict it is "if_version" or empty.
	Field string
	// RetryAfter is how long to wait before another call, for CodeLimited. Zero means that it is not known.
	RetryAfter time.Duration
	Cause      error `json:"-"` // not part of the text
}

// Error returns a text such as
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

// MarshalText returns the same text as Error, so that encoders do not write the cause.
func (e *Error) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns the code's sentinel and the cause, if any.
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

// ErrorType returns the name of the error's code, the value of OpenTelemetry's error.type attribute.
func (e *Error) ErrorType() string { return CodeOf(e).String() }
