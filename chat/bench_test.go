package chat_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
)

func BenchmarkValues(b *testing.B) {
	text := goldenItems["python assistant_message"]
	data := []byte(text)
	it := must[chat.Item](b)(chat.ParseItem(text))
	th := must[chat.Thread](b)(chat.ParseThread(goldenThreads["node"]))
	for _, c := range []struct {
		name string
		size int
		f    func()
	}{
		{"Item.JSON", 0, func() { _ = it.JSON() }},
		{"Item.Normalized", 0, func() { _, _ = it.Normalized("thr_1") }},
		{"Thread.Normalized", 0, func() { _, _ = th.Normalized() }},
		{"ParseItem", len(text), func() { _, _ = chat.ParseItem(text) }},
		{"ParseItem/bytes", len(text), func() { _, _ = chat.ParseItem(data) }},
		{"json.Valid", len(text), func() { _ = json.Valid(data) }},
		{"json.Unmarshal", len(text), func() {
			_ = json.Unmarshal(data, &struct {
				ID        string    `json:"id"`
				ThreadID  string    `json:"thread_id"`
				CreatedAt time.Time `json:"created_at"`
				Type      string    `json:"type"`
			}{})
		}},
		{"ParseThread", len(goldenThreads["node"]), func() { _, _ = chat.ParseThread(goldenThreads["node"]) }},
		{"DecodeItem", len(text), func() { _, _, _ = chat.DecodeItem[chat.AssistantMessage](it) }},
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
