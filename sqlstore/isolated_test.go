package sqlstore_test

import (
	"testing"

	"github.com/chatstore/chatstore/decorators/authz"
	"github.com/chatstore/chatstore/decorators/cache"
	"github.com/chatstore/chatstore/sharing"
	"github.com/chatstore/chatstore/store"
	"github.com/chatstore/chatstore/storetest/isolate"
)

func TestNobodyLearnsOfOthers(t *testing.T) {
	t.Parallel()
	guard := func(l sharing.Lookup, opts ...authz.Option) store.Middleware {
		return authz.New(authz.AnyOf(authz.OwnerOnly(), authz.HasRole("admin"), authz.TenantAdmin("tenant_admin"), authz.Shared(l)), opts...)
	}
	onEach(t, func(t *testing.T, open opener) {
		spareTheDetector(t, "sqlite_in_memory")
		base := open(t)
		over := func() store.Store { return base }
		t.Run("guarded", func(t *testing.T) {
			isolate.Run(t, func(base store.Store, g *isolate.Grants) store.Store {
				return store.Wrap(base, guard(g))
			}, isolate.Options{Base: over, Traces: lightly(10, 3), Counting: isolate.CountAll})
		})
		t.Run("guarded and cached, with the store's grants", func(t *testing.T) {
			grants, _ := store.As[sharing.Grants](base)
			isolate.Run(t, func(base store.Store, g *isolate.Grants) store.Store {
				g.KeepIn(grants)
				return store.Wrap(base, guard(grants, authz.ShareBelow()), cache.New(cache.WithMaxEntries(8)))
			}, isolate.Options{Base: over, Traces: lightly(10, 3)})
		})
	})
}
