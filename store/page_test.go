package store_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/store"
)

// What may be stored may be listed.
func TestAPageOfTheDeepestRowsCanBeRead(t *testing.T) {
	const levels = 998 // with the item and its content, 1,000
	text := `{"id":"msg_1","thread_id":"thr_1","created_at":"2026-01-02T12:00:00Z","type":"hidden_context_item","content":` +
		strings.Repeat("[", levels+1) + strings.Repeat("]", levels+1) + `}`
	item, err := chat.ParseItem(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chat.ParseItem(strings.Replace(text, "[]", "[[]]", 1)); store.CodeOf(err) != store.CodeInvalid {
		t.Errorf("one level more: %v; the test is not at the limit", err)
	}
	out, err := store.Page[chat.Item]{Data: []chat.Item{item}}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var page store.Page[chat.Item]
	if err := page.UnmarshalJSON(out); err != nil || !page.Data[0].Equal(item) {
		t.Errorf("read back: %v", err)
	}
}

func TestAPageInALogHasNoContent(t *testing.T) {
	page := store.Page[chat.Thread]{Data: []chat.Thread{{ID: "thr_1", Title: "CANARY"}}, HasMore: true}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("listed", "page", page)
	if strings.Contains(log.String(), "CANARY") || !strings.Contains(log.String(), `"rows":1`) {
		t.Errorf("logged %s", log.String())
	}
	var back map[string]any
	if err := json.Unmarshal([]byte(log.String()), &back); err != nil {
		t.Error(err)
	}
}
