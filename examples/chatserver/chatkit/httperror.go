package chatkit

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/chatstore/chatstore/store"
)

// httpError is an answer in place of the one asked for. The message is for the client.
type httpError struct {
	status        int
	code, message string
}

func (e httpError) Error() string { return e.message }

func invalid(message string) error { return httpError{http.StatusBadRequest, "invalid", message} }

func conflict(message string) error { return httpError{http.StatusConflict, "conflict", message} }

func unsupported(message string) error {
	return httpError{http.StatusNotImplemented, "not_supported", message}
}

// statuses has the HTTP status of every code that a Store's errors have.
var statuses = [store.NumCodes]int{
	store.CodeOK:              http.StatusOK,
	store.CodeNotFound:        http.StatusNotFound,
	store.CodeConflict:        http.StatusConflict,
	store.CodeInvalid:         http.StatusBadRequest,
	store.CodeUnauthenticated: http.StatusUnauthorized,
	store.CodeDenied:          http.StatusForbidden,
	store.CodeCanceled:        499, // the client is gone: for the logs and metrics
	store.CodeTimeout:         http.StatusGatewayTimeout,
	store.CodeUnavailable:     http.StatusServiceUnavailable,
	store.CodeInternal:        http.StatusInternalServerError,
	store.CodePanic:           http.StatusInternalServerError,
}

// describe returns how an error is told to a client: a store's error has a text that may be shown, any other does not.
func describe(err error) httpError {
	if e, ok := errors.AsType[httpError](err); ok {
		return e
	}
	if f, ok := errors.AsType[Failure](err); ok {
		return httpError{http.StatusBadGateway, "failed", f.Message}
	}
	code := store.CodeOf(err)
	e := httpError{statuses[code], code.String(), "the request failed"}
	if s, ok := errors.AsType[*store.Error](err); ok {
		e.message = s.Error()
	} else if errors.Is(err, context.DeadlineExceeded) {
		e.message = "the request took too long"
	}
	return e
}

// WriteError answers with an error in the form that all of the server's have, {"error": {"code": …, "message": …}}, and the
// status of its [store.CodeOf]. It returns the code.
func WriteError(w http.ResponseWriter, err error) string {
	e := describe(err)
	WriteStatus(w, e.status, e.code, e.message)
	return e.code
}

// WriteStatus is WriteError for what is no error of a Store.
func WriteStatus(w http.ResponseWriter, status int, code, message string) {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message = code, message
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}
