package chatkit

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"

	"github.com/chatstore/chatstore/store"
)

// request is a ChatKit request. Its params are the union of what the types have.
type request struct {
	Type   string `json:"type"`
	Params params `json:"params"`
}

type params struct {
	ThreadID     string   `json:"thread_id"`
	ItemID       string   `json:"item_id"`
	ItemIDs      []string `json:"item_ids"`
	AttachmentID string   `json:"attachment_id"`

	Limit int    `json:"limit"`
	Order string `json:"order"`
	After string `json:"after"`

	Title *string `json:"title"`
	Kind  string  `json:"kind"`

	Name     string `json:"name"`
	Size     int64  `json:"size"`
	MIMEType string `json:"mime_type"`

	Input  store.JSON `json:"input"`
	Result store.JSON `json:"result"`
	Action store.JSON `json:"action"`
}

// The most that a request may ask for.
const (
	maxPage        = 100
	maxFeedback    = 100
	maxAttachments = 10
	maxTitle       = 1000 // bytes
	maxName        = 255  // bytes
)

// query returns the page that is asked for.
func (p params) query() (store.PageQuery, error) {
	q := store.PageQuery{Limit: min(p.Limit, maxPage), After: p.After}
	switch p.Order {
	case "", "desc":
		q.Order = store.NewestFirst
	case "asc":
		q.Order = store.OldestFirst
	default:
		return q, invalid("order: neither asc nor desc")
	}
	return q, nil
}

// readRequest reads a request of at most limit bytes.
func readRequest(w http.ResponseWriter, r *http.Request, limit int64) (request, error) {
	var req request
	// A page of another origin can send a form, but not this type, without being asked for leave first.
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/json" {
		return req, httpError{http.StatusUnsupportedMediaType, "invalid", "Content-Type: not application/json"}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	if err := dec.Decode(&req); err != nil {
		return req, bodyError(err, limit)
	}
	if dec.More() {
		return req, invalid("body: more than one JSON value")
	}
	return req, nil
}

// bodyError says what is wrong with a body, without repeating any of it.
func bodyError(err error, limit int64) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return httpError{http.StatusRequestEntityTooLarge, "invalid", fmt.Sprintf("body: more than %d bytes", limit)}
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid("body: " + t.Field + ": not of its type")
	}
	return invalid("body: no JSON object of a request")
}

// userInput is what a user sends. The raw members go into the item as they came, so that what is not known here is kept.
type userInput struct {
	Content          store.JSON `json:"content"`
	Attachments      []string   `json:"attachments"`
	QuotedText       string     `json:"quoted_text"`
	InferenceOptions store.JSON `json:"inference_options"`
}

// formInput is what a user answers to the questions of a structured input.
type formInput struct {
	Status  string `json:"status"`
	Answers map[string]struct {
		Values  []string `json:"values"`
		Skipped bool     `json:"skipped"`
	} `json:"answers"`
}

// actionInput is a custom action.
type actionInput struct {
	Type    string     `json:"type"`
	Payload store.JSON `json:"payload"`
}

// decodeParam decodes one of a request's free-form params.
func decodeParam[T any](name string, j store.JSON) (T, error) {
	var v T
	if j.IsZero() {
		return v, invalid(name + ": missing")
	}
	if err := j.Decode(&v); err != nil {
		return v, invalid(name + ": not of its type")
	}
	return v, nil
}
