package tracing_test

import (
	"time"

	"github.com/chatstore/chatstore/chat"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func newItem(id string) chat.Item {
	it, err := chat.NewItem(id, noon, chat.UserMessage{})
	if err != nil {
		panic(err)
	}
	return it
}
