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

// sdkBridge is the Store of the Node SDK over HTTP: POST /{method}. The body is an object with the arguments and the
// caller's context; rows have their JSON form. It answers with 200 and a row, a page or an id, with 204, or with an error's
// code and message. It trusts the caller's claims, so it is for tests only.
type sdkBridge struct {
	store store.Store

	mu      sync.Mutex
	calls   map[string]int // by method
	answers []string
}

// The owners' names occur in no conversation, so a test can look for them in the answers.
const (
	sdkTenant = "tenant-5f1d0a"
	sdkSuffix = "-9c27e4"
)

func sdkOwner(user string) chat.Owner {
	return chat.Owner{Tenant: sdkTenant, Subject: user + sdkSuffix}
}

func newSDKBridge(s store.Store) *sdkBridge { return &sdkBridge{store: s, calls: map[string]int{}} }

// sdkCall has the arguments of all methods. Each method uses some of them.
type sdkCall struct {
	Context struct {
		User string `json:"user"`
	} `json:"context"`
	ThreadID     string          `json:"thread_id"`
	ItemID       string          `json:"item_id"`
	AttachmentID string          `json:"attachment_id"`
	Kind         chat.ItemKind   `json:"kind"`
	Thread       chat.Thread     `json:"thread"` // like the rows below, kept byte for byte
	Item         chat.Item       `json:"item"`
	Attachment   chat.Attachment `json:"attachment"`
	Limit        int             `json:"limit"`
	After        string          `json:"after"` // "" if null
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

// sdkMethods has the methods of the SDK's Store.
var sdkMethods = strings.Fields(`generateThreadId generateItemId loadThread saveThread deleteThread loadThreads
	loadThreadItems addThreadItem saveItem loadItem deleteThreadItem saveAttachment loadAttachment deleteAttachment`)

// run calls a method. The answer is nil if the method has none.
func (c *sdkCall) run(ctx context.Context, s store.Store, method string) (answer any, err error) {
	switch method {
	case "generateThreadId":
		return s.GenerateThreadID(ctx), nil
	case "generateItemId":
		return s.GenerateItemID(ctx, c.Kind, c.Thread), nil
	case "loadThread":
		return s.LoadThread(ctx, c.ThreadID)
	case "saveThread":
		return nil, s.SaveThread(ctx, c.Thread)
	case "deleteThread":
		return nil, s.DeleteThread(ctx, c.ThreadID)
	case "loadThreads":
		return s.LoadThreads(ctx, store.ThreadQuery{PageQuery: c.page()}) // package authz lists only the caller's threads
	case "loadThreadItems":
		return s.LoadThreadItems(ctx, c.ThreadID, c.page())
	case "addThreadItem":
		return nil, s.AddThreadItem(ctx, c.ThreadID, c.Item)
	case "saveItem":
		return nil, s.SaveItem(ctx, c.ThreadID, c.Item)
	case "loadItem":
		return s.LoadItem(ctx, c.ThreadID, c.ItemID)
	case "deleteThreadItem":
		return nil, s.DeleteThreadItem(ctx, c.ThreadID, c.ItemID)
	case "saveAttachment":
		return nil, s.SaveAttachment(ctx, c.Attachment)
	case "loadAttachment":
		return s.LoadAttachment(ctx, c.AttachmentID)
	case "deleteAttachment":
		return nil, s.DeleteAttachment(ctx, c.AttachmentID)
	}
	return nil, &store.Error{Code: store.CodeInvalid, Field: "method: unknown"}
}

var sdkModes = map[string]store.SaveMode{"": store.Upsert, "insert": store.InsertOnly, "update": store.UpdateOnly}

func (b *sdkBridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/")
	v, err := b.call(r.Context(), method, http.MaxBytesReader(w, r.Body, 1<<20))
	status := http.StatusOK
	var answer []byte
	switch v := v.(type) {
	case json.Marshaler:
		answer, _ = v.MarshalJSON() // json.Marshal would change the bytes
	case string:
		answer, _ = json.Marshal(v)
	case nil:
		status = http.StatusNoContent
	}
	if err != nil {
		status = http.StatusBadRequest // the body has the code
		answer, _ = json.Marshal(map[string]string{"code": store.CodeOf(err).String(), "message": err.Error()})
	}

	b.mu.Lock()
	b.calls[method]++
	b.answers = append(b.answers, string(answer))
	b.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer)
}

func (b *sdkBridge) call(ctx context.Context, method string, body io.Reader) (any, error) {
	invalid := func(fault string, cause error) (any, error) {
		return nil, &store.Error{Code: store.CodeInvalid, Field: fault, Cause: cause}
	}
	var c sdkCall
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields() // an unknown argument is a mistake in the driver
	if err := dec.Decode(&c); err != nil {
		return invalid("body: wrong shape", err)
	}
	mode, ok := sdkModes[c.Mode]
	if !ok {
		return invalid("mode: unknown", nil)
	}
	if c.Context.User != "" {
		ctx = store.WithPrincipal(ctx, store.Principal{Owner: sdkOwner(c.Context.User)})
	}
	return c.run(store.WithSaveMode(ctx, mode), b.store, method)
}
