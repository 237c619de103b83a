package chatkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// request is a ChatKit request. params has the parameters of all types.
type request struct {
	Type     string    `json:"type"`
	Params   params    `json:"params"`
	Metadata chat.JSON `json:"metadata"`
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

	Audio string `json:"audio_base64"`
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
	if err := decode("body", text, &req); err != nil {
		return request{}, err
	}
	if isNull(req.Metadata) {
		req.Metadata = chat.JSON{}
	} else if !isObject(req.Metadata) {
		return request{}, invalid("metadata: not an object")
	}
	p := req.Params
	return req, wholeIDs(append(p.ItemIDs, p.ThreadID, p.ItemID, p.AttachmentID, p.After)...)
}

// decode parses JSON strictly: a repeated name is an error, and names are case-sensitive. Package encoding/json is more
// lenient. A proxy before this server must not read another request than the server. Like a store, decode takes half an emoji
// (a lone surrogate, escaped); in a Go string it becomes U+FFFD.
func decode(what string, text []byte, v any) error {
	if !utf8.Valid(text) {
		return invalid(what + ": json: not valid UTF-8")
	}
	err := json.Unmarshal(text, v, jsontext.AllowInvalidUTF8(true))
	if err == nil {
		return nil
	}
	if _, fault := chat.ParseJSON(text); fault != nil {
		err = fault
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return invalid(what + ": a repeated member name")
	}
	if e, ok := errors.AsType[*chat.Error](err); ok {
		return invalid(what + ": " + e.Field)
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		return invalid(fmt.Sprintf("%s: %.100q: wrong type, or a number out of range", what, e.JSONPointer))
	}
	return invalid(what + ": json: not valid")
}

// wholeIDs refuses ids with U+FFFD, which decode puts in the place of half a character: two different ids must not become equal.
func wholeIDs(ids ...string) error {
	for _, id := range ids {
		if strings.ContainsRune(id, utf8.RuneError) {
			return invalid("an id: half a character, or U+FFFD")
		}
	}
	return nil
}

// emptyObject is the JSON of an object without members.
var emptyObject = func() chat.JSON { j, _ := chat.ParseJSON("{}"); return j }()

// isNull reports whether a member is absent or null.
func isNull(j chat.JSON) bool { return j.IsZero() || j.String() == "null" }

// isObject reports whether a member is an object.
func isObject(j chat.JSON) bool { return strings.HasPrefix(j.String(), "{") }

// userInput is a user's message. The raw members go into the item unchanged, so that unknown members are kept.
type userInput struct {
	Content          chat.JSON `json:"content"`
	Attachments      []string  `json:"attachments"`
	QuotedText       chat.JSON `json:"quoted_text"`
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

// metadataKey is the context key of a request's metadata.
type metadataKey struct{}

// withMetadata returns a context with a request's metadata.
func withMetadata(ctx context.Context, metadata chat.JSON) context.Context {
	if metadata.IsZero() {
		return ctx
	}
	return context.WithValue(ctx, metadataKey{}, metadata)
}

// MetadataFrom returns the member metadata of the request that ctx belongs to, an object that the front end's code sent along.
// It is the zero JSON if there is none. All methods of a [Responder] can call it. It is the client's text: check it like any
// other input.
func MetadataFrom(ctx context.Context) chat.JSON {
	m, _ := ctx.Value(metadataKey{}).(chat.JSON)
	return m
}
