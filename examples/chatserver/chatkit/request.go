package chatkit

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/go-json-experiment/json"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// request is a ChatKit request. params has the parameters of all types.
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

	Input  chat.JSON `json:"input"`
	Result chat.JSON `json:"result"`
	Action chat.JSON `json:"action"`
}

// These are the limits of a request.
const (
	maxPage        = 100
	maxFeedback    = 100
	maxAttachments = 10
	maxTitle       = 1000 // bytes
	maxName        = 255  // bytes
)

// query returns the requested page.
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
	// Browsers send this content type to another origin only with its permission, unlike a form.
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != "application/json" {
		return req, StatusError{http.StatusUnsupportedMediaType, "invalid", "Content-Type: not application/json"}
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			err = StatusError{http.StatusRequestEntityTooLarge, "invalid", fmt.Sprintf("body: more than %d bytes", limit)}
		}
		return req, err
	}
	return req, decode("body", text, &req)
}

// decode parses JSON strictly: a repeated name is an error, and names are case-sensitive. Package encoding/json is more
// lenient. A proxy before this server must not read another request than the server.
func decode(what string, text []byte, v any) error {
	err := json.Unmarshal(text, v)
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		return invalid(fmt.Sprintf("%s: %.100q: wrong type", what, e.JSONPointer))
	}
	if err != nil {
		return invalid(what + ": invalid JSON, or a repeated name")
	}
	return nil
}

// userInput is a user's message. The raw members go into the item unchanged, so that unknown members are kept.
type userInput struct {
	Content          chat.JSON `json:"content"`
	Attachments      []string  `json:"attachments"`
	QuotedText       string    `json:"quoted_text"`
	InferenceOptions chat.JSON `json:"inference_options"`
}

// formInput is a user's answers to a structured input.
type formInput struct {
	Status  string `json:"status"`
	Answers map[string]struct {
		Values  []string `json:"values"`
		Skipped bool     `json:"skipped"`
	} `json:"answers"`
}

// actionInput is a custom action.
type actionInput struct {
	Type    string    `json:"type"`
	Payload chat.JSON `json:"payload"`
}

// decodeParam decodes one of a request's free-form params.
func decodeParam[T any](name string, j chat.JSON) (T, error) {
	var v T
	if j.IsZero() {
		return v, invalid(name + ": missing")
	}
	return v, decode(name, []byte(j.String()), &v)
}
