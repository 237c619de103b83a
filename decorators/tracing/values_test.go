package tracing_test

import "github.com/chatstore/chatstore/store"

func newItem(id string) store.Item { return store.Item{ID: id} }
