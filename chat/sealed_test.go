package chat_test

import (
	"errors"
	"testing"

	"github.com/chatstore/chatstore/chat"
)

// A sealed row has no body that a program could take for an empty one.
func TestASealedRowDoesNotDecode(t *testing.T) {
	const fault = "chatstore_sealed: read it through decorators/encrypt"
	wantsFault := func(err error) {
		t.Helper()
		if e, ok := errors.AsType[*chat.Error](err); !ok || !errors.Is(err, chat.ErrInvalid) || e.Field != fault {
			t.Errorf("got %v, want %s", err, fault)
		}
	}
	for _, sealed := range []string{`"AbCd"`, `null`, `{}`} {
		for _, typ := range []string{"user_message", "assistant_message", "end_of_turn"} {
			it, err := chat.ParseItem(`{"id":"msg_1","thread_id":"thr_1","created_at":"2026-01-02T03:04:05Z","type":"` + typ +
				`","chatstore_sealed":` + sealed + `}`)
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = chat.DecodeItem[chat.Body](it)
			wantsFault(err)
		}
		a, err := chat.ParseAttachment(`{"id":"atc_1","type":"file","chatstore_sealed":` + sealed + `}`)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Decode()
		wantsFault(err)
	}

	// Within the content, the name is free.
	it, err := chat.ParseItem(`{"id":"msg_1","type":"hidden_context_item","content":{"chatstore_sealed":"x"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := chat.DecodeItem[chat.HiddenContextItem](it); !ok || err != nil {
		t.Error(ok, err)
	}
}
