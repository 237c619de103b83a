package chatkit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/chatkit"
	"github.com/chatstore/chatstore/store"
)

func TestErrorsAreToldAsTheyMayBe(t *testing.T) {
	secret := errors.New("password=hunter2")
	value := &chat.Error{Kind: "item", ID: "i1", Field: "content: missing", Cause: secret}
	for name, test := range map[string]struct {
		err        error
		status     int
		code, says string
	}{
		"of a store":            {&store.Error{Op: store.OpLoadThread, Code: store.CodeNotFound, Kind: "thread", ID: "thr", Cause: secret}, 404, "not_found", `load_thread: not found: thread "thr"`},
		"of a value":            {value, 400, "invalid", `invalid: item "i1": content: missing`},
		"of a value, wrapped":   {fmt.Errorf("%w: %w", secret, value), 400, "invalid", `invalid: item "i1": content: missing`},
		"of a store by a value": {&store.Error{Op: store.OpLoadItem, Code: store.CodeInternal, Cause: value}, 500, "internal", "load_item: internal"},
		"of the handler":        {chatkit.StatusError{Status: 418, Code: "teapot", Message: "no coffee"}, 418, "teapot", "no coffee"},
		"for the user":          {chatkit.Failure{Message: "no tea"}, 502, "failed", "no tea"},
		"too late":              {fmt.Errorf("%w: %w", secret, context.DeadlineExceeded), 504, "timeout", "the request took too long"},
		"of a limit":            {&store.Error{Op: store.OpSaveItem, Code: store.CodeLimited, RetryAfter: time.Second, Cause: secret}, 429, "limited", "save_item: limited"},
		"any other":             {secret, 500, "internal", "the request failed"},
	} {
		w := httptest.NewRecorder()
		chatkit.WriteError(w, test.err)
		body := w.Body.String()
		var v struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &v); err != nil || w.Code != test.status || v.Error.Code != test.code || v.Error.Message != test.says {
			t.Errorf("%s: %d %s, %v; want %d %s: %s", name, w.Code, body, err, test.status, test.code, test.says)
		}
		if strings.Contains(body, secret.Error()) {
			t.Errorf("%s: %s reveals a cause", name, body)
		}
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for c := range store.NumCodes {
		w := httptest.NewRecorder()
		chatkit.WriteError(w, &store.Error{Code: store.Code(c)})
		if http.StatusText(w.Code) == "" && w.Code != 499 {
			t.Errorf("%v has the status %d", store.Code(c), w.Code)
		}
	}
}

func TestALimitSaysWhenToTryAgain(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&store.Error{Code: store.CodeLimited, RetryAfter: time.Millisecond}, "1"},
		{&store.Error{Code: store.CodeLimited, RetryAfter: 2 * time.Second}, "2"},
		{fmt.Errorf("wrapped: %w", &store.Error{Code: store.CodeLimited, RetryAfter: 2*time.Second + 1}), "3"},
		{&store.Error{Code: store.CodeLimited}, ""}, // not known
		{&store.Error{Code: store.CodeUnavailable, RetryAfter: time.Second}, ""},
	} {
		w := httptest.NewRecorder()
		chatkit.WriteError(w, test.err)
		if got := w.Header().Get("Retry-After"); got != test.want {
			t.Errorf("%v: Retry-After is %q, want %q", test.err, got, test.want)
		}
	}
}
