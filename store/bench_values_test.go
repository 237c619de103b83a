package store_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/chatstore/chatstore/store"
)

func BenchmarkValues(b *testing.B) {
	text := goldenItems["python assistant_message"]
	data := []byte(text)
	it := must[store.Item](b)(store.ParseItem(text))
	th := must[store.Thread](b)(store.ParseThread(goldenThreads["node"]))
	ctx := store.WithSaveMode(b.Context(), store.InsertOnly)
	for _, c := range []struct {
		name string
		size int
		f    func()
	}{
		{"CheckID", 0, func() { _ = store.CheckID(store.OpLoadThread, store.KindOfThread, "thr_1a2b3c4d") }},
		{"CheckContext", 0, func() { _ = store.CheckContext(ctx, store.OpLoadThread, store.KindOfThread, "thr_1a2b3c4d") }},
		{"Item.JSON", 0, func() { _ = it.JSON() }},
		{"NormalizeItem", 0, func() { _, _ = store.NormalizeItem(store.OpSaveItem, "thr_1", it) }},
		{"NormalizeThread", 0, func() { _, _ = store.NormalizeThread(store.OpSaveThread, th) }},
		{"ParseItem", len(text), func() { _, _ = store.ParseItem(text) }},
		{"ParseItem/bytes", len(text), func() { _, _ = store.ParseItem(data) }},
		{"json.Valid", len(text), func() { _ = json.Valid(data) }},
		{"json.Unmarshal", len(text), func() {
			_ = json.Unmarshal(data, &struct {
				ID        string    `json:"id"`
				ThreadID  string    `json:"thread_id"`
				CreatedAt time.Time `json:"created_at"`
				Type      string    `json:"type"`
			}{})
		}},
		{"ParseThread", len(goldenThreads["node"]), func() { _, _ = store.ParseThread(goldenThreads["node"]) }},
		{"DecodeItem", len(text), func() { _, _, _ = store.DecodeItem[store.AssistantMessage](it) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(c.size))
			for b.Loop() {
				c.f()
			}
		})
	}
}
