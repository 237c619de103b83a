package chatkit

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// StatusError is an error that does not come from a Store. The message is for the client.
type StatusError struct {
	Status        int // HTTP status
	Code, Message string
}

// Error returns the message.
func (e StatusError) Error() string { return e.Message }

func invalid(message string) error { return StatusError{http.StatusBadRequest, "invalid", message} }

func conflict(message string) error { return StatusError{http.StatusConflict, "conflict", message} }

func unsupported(message string) error {
	return StatusError{http.StatusNotImplemented, "not_supported", message}
}

// statuses has the HTTP status for every error code of a Store.
var statuses = [store.NumCodes]int{
	store.CodeOK:              http.StatusOK,
	store.CodeNotFound:        http.StatusNotFound,
	store.CodeConflict:        http.StatusConflict,
	store.CodeInvalid:         http.StatusBadRequest,
	store.CodeUnauthenticated: http.StatusUnauthorized,
	store.CodeDenied:          http.StatusForbidden,
	store.CodeLimited:         http.StatusTooManyRequests,
	store.CodeCanceled:        499, // the client is gone; used in logs and metrics
	store.CodeTimeout:         http.StatusGatewayTimeout,
	store.CodeUnavailable:     http.StatusServiceUnavailable,
	store.CodeInternal:        http.StatusInternalServerError,
	store.CodePanic:           http.StatusInternalServerError,
}

// describe returns the form of an error that a client may see. Only errors of a store and of values show their texts.
func describe(err error) StatusError {
	if e, ok := errors.AsType[StatusError](err); ok {
		return e
	}
	if f, ok := errors.AsType[Failure](err); ok {
		return StatusError{http.StatusBadGateway, "failed", f.Message}
	}
	code := store.CodeOf(err)
	e := StatusError{statuses[code], code.String(), "the request failed"}
	if s, ok := errors.AsType[*store.Error](err); ok {
		e.Message = s.Error()
	} else if v, ok := errors.AsType[*chat.Error](err); ok {
		e.Message = v.Error()
	} else if errors.Is(err, context.DeadlineExceeded) {
		e.Message = "the request took too long"
	}
	return e
}

// WriteError answers with an error as JSON: {"error": {"code": …, "message": …}}. The status is that of [store.CodeOf], or
// of a [StatusError]. If the error is [store.ErrLimited] and says when to try again, the header Retry-After has the seconds.
func WriteError(w http.ResponseWriter, err error) {
	e := describe(err)
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message = e.Code, e.Message
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if s, ok := errors.AsType[*store.Error](err); ok && e.Status == http.StatusTooManyRequests && s.RetryAfter > 0 {
		seconds := (s.RetryAfter + time.Second - 1) / time.Second // rounded up: a client that comes too early is refused again
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

// report logs a failed request once, with all causes. A failure of the server or of a begun answer is a warning, or an error
// if it is a fault of the program. A refusal is logged at Debug, and so is an answer that somebody ended. A client that left
// is not logged.
func (h *Handler) report(ctx context.Context, kind string, err error, begun bool) {
	e := describe(err)
	if errors.Is(err, errGone) || ctx.Err() != nil && e.Code == store.CodeCanceled.String() {
		return
	}
	level := slog.LevelWarn
	switch {
	case e.Code == store.CodeInternal.String() || e.Code == store.CodePanic.String():
		level = slog.LevelError
	case errors.Is(err, errStopping) || errors.Is(err, errSuperseded) || errors.Is(err, errDeleted),
		!begun && (e.Status < http.StatusInternalServerError || e.Status == http.StatusNotImplemented || errors.Is(err, errBusy)):
		level = slog.LevelDebug
	}
	h.log.Log(ctx, level, "request failed", "type", kind, "code", e.Code, "error", chain("", err))
}

// chain appends to text the texts of err and of all that it wraps, as far as text does not have them. The text of a store's
// error leaves its cause out.
func chain(text string, err error) string {
	switch t := err.Error(); {
	case text == "":
		text = t
	case !strings.Contains(text, t):
		text += ": " + t
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		if cause := e.Unwrap(); cause != nil {
			text = chain(text, cause)
		}
	case interface{ Unwrap() []error }:
		for _, cause := range e.Unwrap() {
			text = chain(text, cause)
		}
	}
	return text
}
