package chatkit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// parrot is an assistant that repeats what it hears.
type parrot struct{}

func (parrot) Respond(ctx context.Context, t *chatkit.Turn) error {
	m, _, err := chat.DecodeItem[chat.UserMessage](t.Message)
	if err != nil {
		return err
	}
	return t.Say(ctx, func(yield func(string, error) bool) {
		more := yield("You said: ", nil)
		for _, part := range m.Content {
			more = more && yield(part.Text, nil)
		}
	})
}

func (parrot) Act(context.Context, *chatkit.Turn, chatkit.Action) error {
	return chatkit.Failure{Code: "custom", Message: "I have no buttons."}
}

// forUsers lets only users in. authenticate returns the user of a request.
func forUsers(h *chatkit.Handler, authenticate func(*http.Request) (chat.Owner, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := authenticate(r)
		if err != nil {
			chatkit.WriteError(w, err)
			return
		}
		h.ServeHTTP(w, r.WithContext(store.WithPrincipal(r.Context(), store.Principal{Owner: user})))
	})
}

func ExampleNewHandler() {
	s := store.Wrap(memstore.New(), authz.New(authz.OwnerOnly(), authz.ShareBelow()), cache.New())
	defer store.Close(s)
	h := chatkit.NewHandler(s, parrot{})
	server := forUsers(h, func(*http.Request) (chat.Owner, error) { return chat.Owner{Subject: "ada"}, nil })

	const request = `{"type": "threads.create", "params": {"input": {
		"content": [{"type": "input_text", "text": "Good morning!"}], "attachments": [], "inference_options": {}}}}`
	r := httptest.NewRequest("POST", "/chatkit", strings.NewReader(request))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)

	for line := range strings.Lines(w.Body.String()) {
		text, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		var event struct{ Update struct{ Delta string } }
		if err := json.Unmarshal([]byte(text), &event); err != nil {
			fmt.Println(err)
		}
		fmt.Print(event.Update.Delta)
	}
	fmt.Println("", h.Shutdown(context.Background()))
	// Output: You said: Good morning! <nil>
}
