package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// request is a context that does not say how it is printed.
type request struct {
	context.Context
	token string
}

// A context that is printed, into a log for instance, must not name people.
func TestAPrintedContextNamesNobody(t *testing.T) {
	ctx := store.WithPrincipal(request{context.Background(), "acme"}, store.Principal{Owner: chat.Owner{Tenant: "acme", Subject: "ada"}})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if text := fmt.Sprintf("%v %+v", ctx, ctx); strings.Contains(text, "acme") || strings.Contains(text, "ada") {
		t.Error(text)
	}
}
