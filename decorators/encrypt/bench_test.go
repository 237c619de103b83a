package encrypt_test

import (
	"context"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"

	"github.com/chatstore/chatstore/decorators/encrypt"
	"github.com/chatstore/chatstore/internal/testenv"
	"github.com/chatstore/chatstore/memstore"
	"github.com/chatstore/chatstore/store"
)

// BenchmarkItem measures a save and a load over memstore, without and with this layer. The difference is its cost.
func BenchmarkItem(b *testing.B) {
	for _, size := range []struct {
		name string
		text int
	}{{"1KB", 900}, {"10KB", 10_000}} {
		item := message("msg_1", strings.Repeat("words and ", size.text/10))
		for _, layers := range []struct {
			name string
			mw   []store.Middleware
		}{
			{"none", nil},
			{"XChaCha20-Poly1305", []store.Middleware{encrypt.New(keyOf(b, aead.XChaCha20Poly1305KeyTemplate()))}},
			{"AES256-GCM", []store.Middleware{encrypt.New(keyOf(b, aead.AES256GCMKeyTemplate()))}},
		} {
			base := memstore.New()
			s := store.Wrap(base, layers.mw...)
			ctx := context.Background()
			must(b, s.SaveThread(ctx, thread("thr_1")))
			must(b, s.SaveItem(ctx, "thr_1", item))
			bytes := float64(len(testenv.Value(base.LoadItem(ctx, "thr_1", "msg_1"))(b).JSON().String()))
			b.Run(size.name+"/"+layers.name+"/save", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					must(b, s.SaveItem(ctx, "thr_1", item))
				}
				b.ReportMetric(bytes, "stored-B")
			})
			b.Run(size.name+"/"+layers.name+"/load", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					testenv.Value(s.LoadItem(ctx, "thr_1", "msg_1"))(b)
				}
			})
		}
	}
}
