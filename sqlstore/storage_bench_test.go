package sqlstore_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/sqlstore"
	"github.com/chatstore/chatstore/sqlstore/pgtest"
)

// BenchmarkStorage measures the bytes of a thread and of an item, with all indexes. An item has a text of so many bytes, in words that
// are drawn at random.
//
//	go test -run '^$' -bench Storage -benchtime 1x .
func BenchmarkStorage(b *testing.B) {
	const threads, items = 1000, 20
	for name, open := range map[string]opener{"sqlite": sqliteFile, "postgres": postgres(pgtest.Shared(b).DSN(b))} {
		for text, length := range map[string]int{"0": 0, "1000": 1000, "10000": 10_000} {
			b.Run(name+"/text="+text, func(b *testing.B) {
				for b.Loop() {
					s, ctx := open(b), b.Context()
					size := func() float64 { return float64(get[sqlstore.Size](b)(s.Size(ctx)).Bytes) }
					empty, all := size(), make([]chat.Thread, threads)
					for i := range all {
						id := s.GenerateThreadID(ctx)
						all[i] = chat.Thread{ID: id, Title: "A question about tea", CreatedAt: time.Now(), Owner: chat.Owner{Tenant: "acme", Subject: "user_" + id}}
						must(b, s.SaveThread(ctx, all[i]))
					}
					alone := size()
					for range items {
						for _, th := range all {
							content := chat.AssistantMessage{Content: []chat.AssistantContent{{Text: words(length)}}}
							it := get[chat.Item](b)(chat.NewItem(s.GenerateItemID(ctx, chat.KindMessage, th), time.Now(), content))
							must(b, s.AddThreadItem(ctx, th.ID, it))
						}
					}
					b.ReportMetric((alone-empty)/threads, "B/thread")
					b.ReportMetric((size()-alone)/(threads*items), "B/item")
					b.ReportMetric(0, "ns/op")
				}
			})
		}
	}
}

// words returns random words.
func words(length int) string {
	var b strings.Builder
	for b.Len() < length {
		for range 2 + rand.N(7) {
			b.WriteByte("etaoinshrdlucmfwypvbgk"[rand.N(22)])
		}
		b.WriteByte(' ')
	}
	return b.String()[:length]
}
