package tracing_test

import (
	"time"

	"github.com/chatstore/chatstore/store"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func newItem(id string) store.Item {
	it, err := store.NewItem(id, noon, store.UserMessage{})
	if err != nil {
		panic(err)
	}
	return it
}
