package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// sdkBridge is the Store of the Node SDK over HTTP: POST /{method}, where the body is an object of the arguments and the
// caller's context, with rows in the wire's form. It answers 200 with a row, a page or an id, 204, or an error's code
// and message. It believes what callers say of themselves, and so is for tests only.
type sdkBridge struct {
	store store.Store

	mu      sync.Mutex
	calls   map[string]int // by method
	answers []string
}

// The owners' names are found in no conversation, so that they can be looked for in what the bridge says.
const (
	sdkTenant = "tenant-5f1d0a"
	sdkSuffix = "-9c27e4"
)

func sdkOwner(user string) chat.Owner {
	return chat.Owner{Tenant: sdkTenant, Subject: user + sdkSuffix}
}

func newSDKBridge(s store.Store) *sdkBridge { return &sdkBridge{store: s, calls: map[string]int{}} }

// sdkCall has the arguments of every method; each has its own.
type sdkCall struct {
	Context struct {
		User string `json:"user"`
	} `json:"context"`
	ThreadID     string          `json:"thread_id"`
	ItemID       string          `json:"item_id"`
	AttachmentID string          `json:"attachment_id"`
	Kind         chat.ItemKind   `json:"kind"`
	Thread       chat.Thread     `json:"thread"` // as the rows below, kept byte for byte
	Item         chat.Item       `json:"item"`
	Attachment   chat.Attachment `json:"attachment"`
	Limit        int             `json:"limit"`
	After        string          `json:"after"` // "" when null
	Order        string          `json:"order"`
	Mode         string          `json:"mode"`
}

func (c *sdkCall) page() store.PageQuery {
	q := store.PageQuery{Limit: c.Limit, After: c.After}
	if c.Order == store.OldestFirst.String() {
		q.Order = store.OldestFirst
	}
	return q
}

// sdkMethods are the SDK's Store. Each returns the JSON of its answer, "" where it has none.
var sdkMethods = map[string]func(context.Context, store.Store, *sdkCall) (string, error){
	"generateThreadId": func(ctx context.Context, s store.Store, _ *sdkCall) (string, error) {
		return sdkText(json.Marshal(s.GenerateThreadID(ctx)))
	},
	"generateItemId": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return sdkText(json.Marshal(s.GenerateItemID(ctx, c.Kind, c.Thread)))
	},
	"loadThread": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		t, err := s.LoadThread(ctx, c.ThreadID)
		return t.JSON().String(), err
	},
	"saveThread": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return "", s.SaveThread(ctx, c.Thread)
	},
	"deleteThread": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return "", s.DeleteThread(ctx, c.ThreadID)
	},
	"loadThreads": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		page, err := s.LoadThreads(ctx, store.ThreadQuery{PageQuery: c.page()}) // package authz: the caller's own
		if err != nil {
			return "", err
		}
		return sdkText(page.MarshalJSON())
	},
	"loadThreadItems": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		page, err := s.LoadThreadItems(ctx, c.ThreadID, c.page())
		if err != nil {
			return "", err
		}
		return sdkText(page.MarshalJSON())
	},
	"addThreadItem": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return "", s.AddThreadItem(ctx, c.ThreadID, c.Item)
	},
	"saveItem": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return "", s.SaveItem(ctx, c.ThreadID, c.Item)
	},
	"loadItem": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		it, err := s.LoadItem(ctx, c.ThreadID, c.ItemID)
		return it.JSON().String(), err
	},
	"deleteThreadItem": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return "", s.DeleteThreadItem(ctx, c.ThreadID, c.ItemID)
	},
	"saveAttachment": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return "", s.SaveAttachment(ctx, c.Attachment)
	},
	"loadAttachment": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		a, err := s.LoadAttachment(ctx, c.AttachmentID)
		return a.JSON().String(), err
	},
	"deleteAttachment": func(ctx context.Context, s store.Store, c *sdkCall) (string, error) {
		return "", s.DeleteAttachment(ctx, c.AttachmentID)
	},
}

func sdkText(b []byte, err error) (string, error) { return string(b), err }

var sdkModes = map[string]store.SaveMode{"": store.Upsert, "insert": store.InsertOnly, "update": store.UpdateOnly}

var sdkStatuses = map[store.Code]int{
	store.CodeNotFound:        http.StatusNotFound,
	store.CodeConflict:        http.StatusConflict,
	store.CodeInvalid:         http.StatusBadRequest,
	store.CodeUnauthenticated: http.StatusUnauthorized,
	store.CodeDenied:          http.StatusForbidden,
	store.CodeUnavailable:     http.StatusServiceUnavailable,
}

func (b *sdkBridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/")
	answer, err := b.call(r.Context(), method, http.MaxBytesReader(w, r.Body, 1<<20))
	status := http.StatusOK
	switch {
	case err != nil:
		code := store.CodeOf(err)
		if status = sdkStatuses[code]; status == 0 {
			status = http.StatusInternalServerError
		}
		text, _ := json.Marshal(map[string]string{"code": code.String(), "message": err.Error()})
		answer = string(text)
	case answer == "":
		status = http.StatusNoContent
	}

	b.mu.Lock()
	b.calls[method]++
	b.answers = append(b.answers, answer)
	b.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

func (b *sdkBridge) call(ctx context.Context, method string, body io.Reader) (string, error) {
	invalid := func(fault string, cause error) (string, error) {
		return "", &store.Error{Code: store.CodeInvalid, Field: fault, Cause: cause}
	}
	f, ok := sdkMethods[method]
	if !ok {
		return invalid("method: unknown", nil)
	}
	var c sdkCall
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields() // an argument that nobody reads is a mistake of the driver's
	if err := dec.Decode(&c); err != nil {
		return invalid("body: does not fit", err)
	}
	mode, ok := sdkModes[c.Mode]
	if !ok {
		return invalid("mode: unknown", nil)
	}
	if c.Context.User != "" {
		ctx = store.WithPrincipal(ctx, store.Principal{Owner: sdkOwner(c.Context.User)})
	}
	return f(store.WithSaveMode(ctx, mode), b.store, &c)
}
