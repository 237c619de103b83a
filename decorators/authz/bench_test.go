package authz_test

import (
	"testing"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chatstore/chatstore/chat"
	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/store"
)

// BenchmarkLoadThread is what the layer costs over a base that costs nothing, in ns and as a multiple of one hit of
// golang-lru (xR), measured in turns with it so that both see the same machine.
func BenchmarkLoadThread(b *testing.B) {
	reference, err := lru.New[string, chat.Thread](16)
	must(b, err)
	reference.Add(thr, thread(thr, ada))
	for _, c := range []struct {
		name   string
		policy authz.Policy
	}{
		{"OwnerOnly", authz.OwnerOnly()},
		{"AnyOf3", authz.AnyOf(authz.HasRole("op"), authz.TenantAdmin("admin"), authz.OwnerOnly())},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := store.Wrap(&still{thread: thread(thr, ada)}, authz.New(c.policy))
			ctx := as(b, ada)
			const turn = 1000
			var layer, r time.Duration
			b.ReportAllocs()
			turns := 0
			for b.Loop() {
				turns++
				begin := time.Now()
				for range turn {
					if _, err := s.LoadThread(ctx, thr); err != nil {
						b.Fatal(err)
					}
				}
				middle := time.Now()
				for range turn {
					if _, ok := reference.Get(thr); !ok {
						b.Fatal("no thread")
					}
				}
				layer, r = layer+middle.Sub(begin), r+time.Since(middle)
			}
			b.ReportMetric(float64(layer.Nanoseconds())/float64(turns*turn), "ns/call")
			b.ReportMetric(float64(layer)/float64(r), "xR")
			b.ReportMetric(0, "ns/op")
		})
	}
}
