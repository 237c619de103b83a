package chat_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
)

func TestAnErrorSaysWhichRuleAndNoContent(t *testing.T) {
	secret := errors.New("CANARY")
	for _, c := range []struct {
		err  *chat.Error
		want string
	}{
		{&chat.Error{Kind: "item", ID: "msg_1", Field: "created_at: zero", Cause: secret}, `invalid: item "msg_1": created_at: zero`},
		{&chat.Error{Kind: "thread", Field: "id: empty"}, `invalid: thread: id: empty`},
		{&chat.Error{ID: "of nothing", Field: "json: not valid"}, `invalid: json: not valid`},
		{&chat.Error{Cause: secret}, `invalid`},
		{nil, `<nil>`},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if got := c.err.ErrorType(); got != "invalid" {
			t.Errorf("ErrorType is %q", got)
		}
	}
	hostile := &chat.Error{Kind: "item", ID: "a\n\x1b[31m" + strings.Repeat("x", 9000)}
	if got := hostile.Error(); strings.ContainsAny(got, "\n\x1b") || len(got) > 1500 {
		t.Errorf("a hostile id is printed raw or in full: %d bytes", len(got))
	}
}

func TestAnErrorIsErrInvalidAndItsCause(t *testing.T) {
	cause := errors.New("cause")
	if err := error(&chat.Error{Cause: cause}); !errors.Is(err, chat.ErrInvalid) || !errors.Is(err, cause) {
		t.Error("errors.Is does not find the sentinel or the cause")
	}
	if err := error(&chat.Error{}); !errors.Is(err, chat.ErrInvalid) {
		t.Error("without a cause, errors.Is does not find the sentinel")
	}
	if err := error((*chat.Error)(nil)); errors.Is(err, chat.ErrInvalid) {
		t.Error("errors.Is finds ErrInvalid in a nil *Error")
	}
}

// A cause may have exported fields with content. No encoder may reach it.
func TestACauseIsNotEncoded(t *testing.T) {
	e := &chat.Error{Kind: "item", ID: "msg_1", Field: "content: does not fit", Cause: struct {
		error
		Detail string
	}{errors.New("x"), "CANARY"}}
	for _, v := range []any{*e, map[string]error{"err": e}} {
		if text, err := json.Marshal(v); err != nil || strings.Contains(string(text), "CANARY") {
			t.Errorf("json: %s, %v", text, err)
		}
	}
	if text, err := e.MarshalText(); err != nil || string(text) != e.Error() {
		t.Errorf("MarshalText: %s, %v", text, err)
	}
}

// The cause of Decode's error is the error of the body's own method.
func TestADecodeErrorHasItsCause(t *testing.T) {
	var v refusing
	err := js(`{"a":1}`).Decode(&v)
	if wantInvalid(t, err, "json: does not fit the Go value"); !errors.Is(err, errRefused) {
		t.Errorf("%v does not have its cause", err)
	}
}

var errRefused = errors.New("refused")

type refusing struct{}

func (*refusing) UnmarshalJSON([]byte) error { return errRefused }
