package authz_test

import (
	"testing"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/internal/spy"
	"github.com/chatstore/chatstore/store"
)

// BenchmarkLoadThread measures the cost of the layer, over a base that costs nothing, as a multiple of [spy.Reference].
func BenchmarkLoadThread(b *testing.B) {
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
			spy.InTurns(b, "xR", func() { _, err := s.LoadThread(ctx, thr); must(b, err) }, spy.Reference(b))
		})
	}
}
